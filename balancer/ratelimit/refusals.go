package ratelimit

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync"
	"time"
)

// maxRefused is how many clients that were refused are remembered. Beyond it the one that was refused longest ago is forgotten.
const maxRefused = 1000

// Refusal is a client that was refused.
type Refusal struct {
	Client string // address, /64 network or host; of a field's or cookie's value "#" and the start of its SHA-256, for it may be a secret
	Count  int64  // requests refused
	Last   time.Time
}

// refusals are the clients that were refused, by key. The zero value is empty; it is safe for concurrent use.
type refusals struct {
	mu  sync.Mutex // guards all
	all map[string]*Refusal
}

func (s *refusals) note(key string, secret bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.all[key]
	if v == nil {
		if s.all == nil {
			s.all = make(map[string]*Refusal)
		}
		if len(s.all) >= maxRefused {
			s.forget()
		}
		v = &Refusal{Client: key}
		if secret {
			sum := sha256.Sum256([]byte(key[1:]))
			v.Client = "#" + hex.EncodeToString(sum[:4])
		}
		s.all[key] = v
	}
	v.Count++
	v.Last = now
}

// forget drops the older half, so that this is not done for each. s.mu is held.
func (s *refusals) forget() {
	times := make([]time.Time, 0, len(s.all))
	for _, v := range s.all {
		times = append(times, v.Last)
	}
	slices.SortFunc(times, time.Time.Compare)
	middle := times[len(times)/2]
	left := maxRefused / 2 // of those that were refused at the same time, some go too
	for k, v := range s.all {
		if left > 0 && !v.Last.After(middle) {
			delete(s.all, k)
			left--
		}
	}
}

func (s *refusals) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.all)
}

// Refusals are the clients that were refused since the time given, those that were refused most often first, at most n.
func (l *Limiter) Refusals(since time.Time, n int) []Refusal {
	s := &l.refusal
	s.mu.Lock()
	var list []Refusal
	for _, v := range s.all {
		if !v.Last.Before(since) {
			list = append(list, *v)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b Refusal) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Client, b.Client)) })
	return list[:min(n, len(list))]
}

// Clients is how many clients are known to the limit now, and how many of them were refused since the time given.
func (l *Limiter) Clients(since time.Time) (known, refused int) {
	for i := range l.shard {
		s := &l.shard[i]
		s.mu.Lock()
		known += len(s.next)
		s.mu.Unlock()
	}
	l.refusal.mu.Lock()
	defer l.refusal.mu.Unlock()
	for _, v := range l.refusal.all {
		if !v.Last.Before(since) {
			refused++
		}
	}
	return known, refused
}
