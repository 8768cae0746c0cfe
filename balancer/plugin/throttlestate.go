package plugin

import (
	"context"
	"sync"
	"time"
)

// maxClients is how many clients are remembered; beyond that new ones are as good as unknown until others expire.
const maxClients = 200000

// throttleState is what one process knows of clients. It outlives changes of the configuration.
type throttleState struct {
	now func() time.Time

	mu      sync.Mutex // guards all below
	active  map[string]int
	bans    map[string]time.Time // until when
	clients map[string]visit
	swept   time.Time
}

// visit is a client's last one.
type visit struct {
	last, expires time.Time
	violations    int
}

var _ ThrottleMemory = (*throttleState)(nil)

func newThrottleState(now func() time.Time) *throttleState {
	return &throttleState{now: now, active: map[string]int{}, bans: map[string]time.Time{}, clients: map[string]visit{}, swept: now()}
}

// enter counts a request of a client, unless there are limit of them already. Looking and counting are one step: of requests that come at
// once each would see the others else.
func (s *throttleState) enter(client string, limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active[client] >= limit {
		return false
	}
	s.active[client]++
	return true
}

func (s *throttleState) leave(client string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active[client]--; s.active[client] <= 0 {
		delete(s.active, client)
	}
}

// isBanned reports whether a client is shut out, and whether that has ended just now.
func (s *throttleState) isBanned(client string) (banned, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.bans[client]
	if !ok {
		return false, false
	}
	if s.now().Before(until) {
		return true, false
	}
	delete(s.bans, client)
	return false, true
}

func (s *throttleState) ban(client string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.bans) < maxClients {
		s.bans[client] = s.now().Add(d)
	}
}

// Get implements ThrottleMemory.
func (s *throttleState) Get(_ context.Context, key string) (time.Time, int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.clients[key]
	if !ok || !s.now().Before(v.expires) {
		return time.Time{}, 0, false
	}
	return v.last, v.violations, true
}

// Set implements ThrottleMemory.
func (s *throttleState) Set(_ context.Context, key string, last time.Time, violations int, expire time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Sub(s.swept) > time.Minute {
		s.sweep(now)
	}
	if _, known := s.clients[key]; known || len(s.clients) < maxClients {
		s.clients[key] = visit{last, now.Add(expire), violations}
	}
}

// sweep forgets what has expired. mu is held.
func (s *throttleState) sweep(now time.Time) {
	s.swept = now
	for k, v := range s.clients {
		if !now.Before(v.expires) {
			delete(s.clients, k)
		}
	}
	for k, until := range s.bans {
		if !now.Before(until) {
			delete(s.bans, k)
		}
	}
}
