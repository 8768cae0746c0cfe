// Package backend is the balancer's other side: the nodes of pools with what is known of their health, and for each service the
// connections to them and the requests that wait for one.
//
// A request is not tied to a connection attempt that it caused: whichever connection is ready first takes the request that has
// waited longest in the highest queue.
package backend

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/balancer"
)

const (
	connectPause   = time.Second      // for which a node is left alone after a connect that failed
	noVerifyTime   = 60 * time.Second // for which connections of a node whose verification failed are used without one
	codesKept      = 500              // response codes that are remembered of a node
	maxEjectFactor = 10
)

// Node is one backend. Its fields but those under mu are safe for concurrent use.
type Node struct {
	Addr string
	// Of a node that is given by name: what the name is.
	Name string

	weight atomic.Int32

	Attempts, Connects, Failures, Requests, Verifies, Errors atomic.Int64

	Active atomic.Int64 // requests under way
	conns  atomic.Int64 // connections, those being made included
	uses   atomic.Int64 // as Perlbal counts: responses since the pool was loaded

	lastAttempt, lastConnect, lastResponse atomic.Int64 // Unix ns
	pausedUntil, noVerifyUntil             atomic.Int64
	backAt                                 atomic.Int64 // came back, for slow start

	Latency Histogram

	mu        sync.Mutex
	codes     []int // ring
	codeAt    int
	failures  int // in a row, of requests
	ejections int
	ejected   time.Time // until
	probing   bool      // was ejected, and has not answered since
	probes    int       // requests at once while probing, 0: no limit
	sick      bool      // by active checks
	row       int       // checks in a row that speak against sick
	lastError string
}

func newNode(addr, name string, weight int) *Node {
	n := &Node{Addr: addr, Name: name}
	n.weight.Store(int32(weight))
	return n
}

// Weight is the node's share.
func (n *Node) Weight() int { return int(n.weight.Load()) }

// Conns is how many connections to it there are, those being made included.
func (n *Node) Conns() int { return int(n.conns.Load()) }

// Uses is how many responses it has given.
func (n *Node) Uses() int64 { return n.uses.Load() }

// Status is what is known of a node.
type Status struct {
	Addr, Name  string
	State       string // up, paused, ejected, half-open, sick
	Since       time.Time
	Error       string
	Weight      int
	Active      int64
	Conns       int64
	Requests    int64
	Errors      int64
	Uses        int64
	LastAttempt time.Time
	LastConnect time.Time
	LastReply   time.Time
	Codes       map[int]int
}

// Status is what is known of the node now.
func (n *Node) Status(now time.Time) Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := Status{
		Addr: n.Addr, Name: n.Name, State: "up", Error: n.lastError, Weight: n.Weight(), Active: n.Active.Load(), Conns: n.conns.Load(),
		Requests: n.Requests.Load(), Errors: n.Errors.Load(), Uses: n.uses.Load(), LastAttempt: at(&n.lastAttempt),
		LastConnect: at(&n.lastConnect), LastReply: at(&n.lastResponse), Codes: map[int]int{},
	}
	for _, c := range n.codes {
		s.Codes[c]++
	}
	switch {
	case n.sick:
		s.State = "sick"
	case now.Before(n.ejected):
		s.State = "ejected"
	case now.UnixNano() < n.pausedUntil.Load() || n.unreached():
		s.State = "paused"
	case n.probing && n.probes > 0:
		s.State = "half-open"
	}
	return s
}

func at(v *atomic.Int64) time.Time {
	if ns := v.Load(); ns > 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// usable reports whether a connection may be made to the node, or used.
func (n *Node) usable(now time.Time) bool {
	if now.UnixNano() < n.pausedUntil.Load() {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.sick && !now.Before(n.ejected) && !n.tried()
}

// tried reports whether the node comes back, and has as many requests as it is to have meanwhile. n.mu is held.
func (n *Node) tried() bool { return n.probing && n.probes > 0 && n.Active.Load() >= int64(n.probes) }

// grant counts one more request under way at the node, unless it comes back and has as many as it is to have. The connection that the request
// gets takes it back when it is given back.
func (n *Node) grant() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tried() {
		return false
	}
	n.Active.Add(1)
	return true
}

// trials is how many more requests the node may have now while it comes back; false where it does not, and may have any number.
func (n *Node) trials() (left int, limited bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.probing || n.probes == 0 {
		return 0, false
	}
	return n.probes - int(n.Active.Load()), true
}

func (n *Node) healthy(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.sick && !now.Before(n.ejected)
}

// share is the part, 0 to 1, of its weight that a node is to get while it comes back.
func (n *Node) share(now time.Time, slowStart time.Duration) float64 {
	back := n.backAt.Load()
	if slowStart <= 0 || back == 0 {
		return 1
	}
	return math.Min(1, math.Max(0.05, float64(now.UnixNano()-back)/float64(slowStart)))
}

// connectFailed notes a connect to a node that failed.
func (p *Pool) connectFailed(n *Node, now time.Time, err error) {
	n.connectFailed(now, err)
	if set := p.set.Load(); circuitOn(set) && p.circuit.connectFailed(now, set, n.Addr+": "+err.Error()) {
		p.circuitChanged()
	}
}

func (n *Node) connectFailed(now time.Time, err error) {
	n.Failures.Add(1)
	n.pausedUntil.Store(now.Add(connectPause).UnixNano())
	n.mu.Lock()
	n.lastError = err.Error()
	n.mu.Unlock()
}

// unreached reports whether the last connect that has come to an end failed. It may be tried again, but nobody knows of it to be well.
func (n *Node) unreached() bool {
	until := n.pausedUntil.Load()
	return until != 0 && until-int64(connectPause) >= n.lastConnect.Load()
}

// Answered notes a response's status and how long its head took.
func (n *Node) Answered(now time.Time, status int, took time.Duration) {
	n.lastResponse.Store(now.UnixNano())
	n.uses.Add(1)
	n.Latency.Observe(took)
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.codes) < codesKept {
		n.codes = append(n.codes, status)
	} else {
		n.codes[n.codeAt] = status
		n.codeAt = (n.codeAt + 1) % codesKept
	}
	n.failures = 0
	if n.probing && !now.Before(n.ejected) {
		n.probing = false
	}
	if n.ejections > 0 && now.Sub(n.ejected) > time.Minute {
		n.ejections = 0
	}
}

// failed notes a request that the node has failed, and reports whether it has now failed often enough to be left alone.
func (n *Node) failed(now time.Time, err error, set *balancer.PoolSettings) (ejectable bool) {
	n.Errors.Add(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lastError = err.Error()
	n.failures++
	if now.Before(n.ejected) || set.EjectErrors == 0 {
		return false
	}
	return n.failures >= set.EjectErrors || n.probing && n.probes > 0 // half-open: one failure will do
}

// eject leaves the node alone for a while.
func (n *Node) eject(now time.Time, set *balancer.PoolSettings) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ejections = min(n.ejections+1, maxEjectFactor)
	d := set.EjectTime * time.Duration(n.ejections)
	n.ejected, n.failures = now.Add(d), 0
	n.probing, n.probes = true, set.EjectProbes
	n.backAt.Store(n.ejected.UnixNano())
	return d
}

// checked notes an active check, and reports whether it changes what the node is taken for.
func (n *Node) checked(now time.Time, err error, set *balancer.PoolSettings) (changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.lastError = err.Error()
	} else {
		n.pausedUntil.Store(0) // it was reached as requests reach it
	}
	if (err != nil) == n.sick {
		n.row = 0
		return false
	}
	n.row++
	need := max(1, set.HealthFall)
	if n.sick {
		need = max(1, set.HealthRise)
	}
	if n.row < need {
		return false
	}
	n.row, n.sick = 0, err != nil
	if !n.sick {
		n.ejected, n.probing = time.Time{}, false
		n.backAt.Store(now.UnixNano())
	}
	return true
}

// recover takes the node for well, as far as active checks go.
func (n *Node) recover() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.row, n.sick = 0, false
}
