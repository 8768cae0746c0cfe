package backend

import (
	"cmp"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/balancer"
)

// CircuitState is what a pool's circuit breaker does with requests.
type CircuitState uint8

// The states.
const (
	CircuitClosed   CircuitState = iota // requests pass
	CircuitOpen                         // they are refused at once
	CircuitHalfOpen                     // a few pass, to see whether the pool is well again
)

var circuitNames = [...]string{"closed", "open", "half-open"}

func (s CircuitState) String() string { return circuitNames[s] }

// The limits that LimitError names, as they are called in the configuration.
const (
	LimitCircuit  = "circuit"
	LimitRequests = "max_requests"
	LimitPending  = "max_pending"
	LimitRetries  = "max_retries"
)

// LimitError is a request that a pool does not take.
type LimitError struct {
	Pool  string
	Limit string        // LimitCircuit, …
	Wait  time.Duration // until it may be worth another try; 0: not known
	Cause string        // of LimitCircuit: the last failure
}

func (e *LimitError) Error() string {
	if e.Limit == LimitCircuit {
		return "the circuit of pool " + e.Pool + " is open: " + cmp.Or(e.Cause, "its requests failed")
	}
	return "pool " + e.Pool + " has as many requests as " + e.Limit + " allows"
}

// circuit is a pool's circuit breaker. All failures and successes of the pool's nodes together move it; leaving single nodes alone is
// another matter (see Node). Its methods are safe for concurrent use.
type circuit struct {
	mu      sync.Mutex // guards all below
	state   CircuitState
	since   time.Time
	epoch   int // counts changes of state
	row     int // failures in a row while closed
	window  [2]tally
	begun   time.Time // of window[1]; window[0] is the one before
	trials  int       // under way while half-open
	good    int       // trials that succeeded
	trips   int64     // how often it opened
	failure string    // the last
}

// tally counts requests that have ended.
type tally struct{ all, failed int }

// circuitOn reports whether there is a circuit breaker at all.
func circuitOn(set *balancer.PoolSettings) bool {
	return set.CircuitErrors > 0 || set.CircuitPercent > 0
}

// admit lets a request pass or not. trial says that it is one of a half-open circuit, whose end done is to be told of with the epoch.
func (c *circuit) admit(now time.Time, set *balancer.PoolSettings) (trial bool, epoch int, ok bool, wait time.Duration, changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == CircuitOpen {
		if left := c.since.Add(set.CircuitTime).Sub(now); left > 0 {
			return false, c.epoch, false, left, false
		}
		c.enter(CircuitHalfOpen, now)
		changed = true
	}
	if c.state == CircuitClosed {
		return false, c.epoch, true, 0, false
	}
	if c.trials+c.good >= max(1, set.CircuitProbes) {
		return false, c.epoch, false, 0, changed
	}
	c.trials++
	return true, c.epoch, true, 0, changed
}

// enter changes the state. c.mu is held.
func (c *circuit) enter(s CircuitState, now time.Time) {
	c.state, c.since = s, now
	c.epoch++
	c.row, c.trials, c.good = 0, 0, 0
	c.window, c.begun = [2]tally{}, now
	if s == CircuitOpen {
		c.trips++
	}
}

// outcome is how a request that passed has ended.
type outcome uint8

const (
	unknown   outcome = iota // the client has gone, or it never reached a node
	succeeded                // was answered
	failed                   // was not, or by a gateway's error
)

// done notes the end of a request that passed in an epoch. It reports whether the state has changed.
// freed says that a trial's end was noted before, when it was not known how.
func (c *circuit) done(now time.Time, set *balancer.PoolSettings, trial, freed bool, epoch int, how outcome, cause string) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if how == failed && cause != "" {
		c.failure = cause
	}
	if epoch != c.epoch { // of another time: says nothing of now
		return false
	}
	switch c.state {
	case CircuitClosed:
		if how != unknown && c.count(now, set, how) {
			c.enter(CircuitOpen, now)
			return true
		}
	case CircuitHalfOpen:
		if !trial {
			return false
		}
		if !freed {
			c.trials--
		}
		switch how {
		case failed:
			c.enter(CircuitOpen, now)
			return true
		case succeeded:
			if c.good++; c.good >= max(1, set.CircuitProbes) {
				c.enter(CircuitClosed, now)
				return true
			}
		}
	}
	return false
}

// connectFailed notes a connect that failed, which is no request's own.
func (c *circuit) connectFailed(now time.Time, set *balancer.PoolSettings, cause string) (changed bool) {
	c.mu.Lock()
	epoch, trial := c.epoch, c.state == CircuitHalfOpen && c.trials > 0
	c.mu.Unlock()
	return c.done(now, set, trial, true, epoch, failed, cause)
}

// count notes an end while closed, and reports whether it is one too many. c.mu is held.
func (c *circuit) count(now time.Time, set *balancer.PoolSettings, how outcome) (tooMany bool) {
	half := max(set.CircuitWindow/2, time.Millisecond)
	switch past := now.Sub(c.begun); {
	case past >= 2*half:
		c.window, c.begun = [2]tally{}, now
	case past >= half:
		c.window[0], c.window[1], c.begun = c.window[1], tally{}, c.begun.Add(half)
	}
	c.window[1].all++
	if how == succeeded {
		c.row = 0
		return false
	}
	c.window[1].failed++
	c.row++
	if set.CircuitErrors > 0 && c.row >= set.CircuitErrors {
		return true
	}
	all, bad := c.window[0].all+c.window[1].all, c.window[0].failed+c.window[1].failed
	return set.CircuitPercent > 0 && all >= set.CircuitMinRequests && bad*100 >= set.CircuitPercent*all
}

// CircuitStatus is what is known of a pool's circuit breaker and limits.
type CircuitStatus struct {
	On                        bool // there is a circuit breaker
	State                     CircuitState
	Since                     time.Time // of the state; zero: ever
	Trips                     int64     // how often it opened
	Failure                   string    // the last one, if not closed
	Active, Pending, Retrying int64     // requests of max_requests, max_pending, max_retries, where those are set
	Refused                   map[string]int64
}

// Circuit is how the pool's circuit breaker and limits stand.
func (p *Pool) Circuit(now time.Time) CircuitStatus {
	set := p.set.Load()
	c := &p.circuit
	c.mu.Lock()
	s := CircuitStatus{On: circuitOn(set), State: c.state, Since: c.since, Trips: c.trips}
	if c.state != CircuitClosed {
		s.Failure = c.failure
	}
	c.mu.Unlock()
	if s.State == CircuitOpen && !now.Before(s.Since.Add(set.CircuitTime)) {
		s.State = CircuitHalfOpen // the next request finds it so
	}
	s.Active, s.Pending, s.Retrying = p.active.Load(), p.pending.Load(), p.retrying.Load()
	s.Refused = map[string]int64{}
	for i, name := range limitNames {
		s.Refused[name] = p.refused[i].Load()
	}
	return s
}

var limitNames = [...]string{LimitCircuit, LimitRequests, LimitPending, LimitRetries}

const (
	byCircuit = iota
	byRequests
	byPending
	byRetries
)

func (p *Pool) refuse(limit int, wait time.Duration) *LimitError {
	p.refused[limit].Add(1)
	e := &LimitError{Pool: p.name, Limit: limitNames[limit], Wait: wait}
	if limit == byCircuit {
		p.circuit.mu.Lock()
		e.Cause = p.circuit.failure
		p.circuit.mu.Unlock()
	}
	return e
}

// permit is what a request takes from its pool's limits while it is under way. The zero value takes nothing.
type permit struct {
	pool           *Pool
	epoch          int
	trial          bool
	counted, retry bool // towards max_requests, max_retries
	freed          bool // the circuit knows that it has ended
	told           bool // and how
}

// take is one unit of a limit, unless it is used up.
func take(n *atomic.Int64, limit int) bool {
	if n.Add(1) > int64(limit) {
		n.Add(-1)
		return false
	}
	return true
}

// admit takes a request in, or says which limit speaks against it.
func (p *Pool) admit(now time.Time, retry bool) (permit, error) {
	set := p.set.Load()
	t := permit{pool: p}
	if retry && set.MaxRetries > 0 {
		if t.retry = take(&p.retrying, set.MaxRetries); !t.retry {
			return t, p.refuse(byRetries, 0)
		}
	}
	if set.MaxRequests > 0 {
		if t.counted = take(&p.active, set.MaxRequests); !t.counted {
			t.release()
			return t, p.refuse(byRequests, 0)
		}
	}
	if circuitOn(set) {
		trial, epoch, ok, wait, changed := p.circuit.admit(now, set)
		if changed {
			p.circuitChanged()
		}
		t.trial, t.epoch = trial, epoch
		if !ok {
			t.release()
			return t, p.refuse(byCircuit, wait)
		}
	}
	return t, nil
}

// tell tells the circuit how the request has ended, once; that it has ended without that being known may go before.
func (t *permit) tell(how outcome, cause string) {
	if t.told || t.pool == nil {
		return
	}
	freed := t.freed
	t.told, t.freed = how != unknown, true
	set := t.pool.set.Load()
	if circuitOn(set) && t.pool.circuit.done(time.Now(), set, t.trial, freed, t.epoch, how, cause) {
		t.pool.circuitChanged()
	}
}

// release gives back what the request has taken.
func (t *permit) release() {
	if t.trial && !t.freed {
		t.tell(unknown, "")
	}
	if t.counted {
		t.pool.active.Add(-1)
	}
	if t.retry {
		t.pool.retrying.Add(-1)
	}
	t.counted, t.retry = false, false
}

// circuitChanged logs the circuit's state. When it has opened, those who wait for a node wait no longer.
func (p *Pool) circuitChanged() {
	st := p.Circuit(time.Now())
	switch st.State {
	case CircuitOpen:
		p.log.Warn("circuit is open: requests are refused", "dur", p.set.Load().CircuitTime, "err", st.Failure)
		p.mu.Lock()
		queues := append([]*Queue(nil), p.queues...)
		p.mu.Unlock()
		for _, q := range queues {
			q.shed()
		}
	case CircuitHalfOpen:
		p.log.Info("circuit is half-open: a few requests are let through")
	case CircuitClosed:
		p.log.Info("circuit is closed: the pool is well again")
	}
}

// gatewayError reports whether a status says that what stands behind a node did not answer.
func gatewayError(status int) bool { return status == 502 || status == 503 || status == 504 }

func statusCause(addr string, status int) string {
	return fmt.Sprintf("%s answered with %d", addr, status)
}
