package memcached

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// gate lets one at a time do what takes as long as hundreds of gets: parts of stats and of dumps. Now and then it stays closed for as long as
// has been worked behind it, so that a get waits for a few of these, and not for all. (That others wait at the gate is no measure for it:
// on a single processor nobody waits who is not made to.)
//
// Where many wait, further connections in the poller do so without a goroutine: they are parked, with their request as it was read, until they are called.
type gate struct {
	free chan struct{} // holds a token while nobody is in; the rest belongs to who is in
	used time.Duration // since it was closed
	last time.Time     // when it was used

	mu     sync.Mutex // guards all below, and the connections' gateState
	queued int        // goroutines that are in or wait
	parked []*conn    // the first is called next
	called int        // connections that are to come next, and have not yet
}

const (
	gateTurn  = 500 * time.Microsecond // of work, after which others have theirs
	gateQuiet = 10 * time.Millisecond  // without work, after which what was before is forgotten
	gateMost  = 64                     // goroutines that wait, above which connections are parked
)

// errNotYet means that a request has to wait for the gate. It is to be handled again when what is before it has been sent, or the connection is
// called.
var errNotYet = errors.New("memcached: others have statistics made")

// gateState of a connection.
type gateState uint8

const (
	notParked gateState = iota
	isParked
	isCalled
)

func (g *gate) init() {
	g.free = make(chan struct{}, 1)
	g.leave()
}

func (g *gate) leave() { g.free <- struct{}{} }

// do does f when it is its turn. f must be bounded, and must not wait for a client.
func (g *gate) do(f func()) {
	g.mu.Lock()
	g.queued++
	g.mu.Unlock()
	<-g.free
	begun := time.Now()
	if begun.Sub(g.last) > gateQuiet {
		g.used = 0
	}
	defer func() {
		g.last = time.Now()
		if g.used += g.last.Sub(begun); g.used < gateTurn {
			g.leave()
		} else {
			pause := g.used
			g.used = 0
			time.AfterFunc(pause, g.leave)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.queued--
		g.call()
	}()
	f()
}

// admits reports whether a connection may wait at the gate, with a goroutine. Where not, it is to send what it has, and, if it has nothing, to park.
func (g *gate) admits(c *conn) bool {
	if c.fd < 0 {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	waits := g.queued > 0
	full := c.atGate != isCalled && g.queued+g.called+len(g.parked) >= gateMost
	if waits && len(c.w.out) > 0 || full {
		return false
	}
	g.forget(c)
	return true
}

// park has a connection called when it is its turn. It has nothing to send, so that it comes then.
func (g *gate) park(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.atGate == notParked {
		c.atGate = isParked
		g.parked = append(g.parked, c)
	}
	g.call() // those who waited may all have gone meanwhile
}

// unpark forgets a connection that ends.
func (g *gate) unpark(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(c)
	g.call()
}

// forget takes a connection off the list. g.mu is held.
func (g *gate) forget(c *conn) {
	switch c.atGate {
	case isParked:
		g.parked = slices.DeleteFunc(g.parked, func(o *conn) bool { return o == c })
	case isCalled:
		g.called--
	}
	c.atGate = notParked
}

// call calls those who are parked, as far as there is room for them. g.mu is held.
func (g *gate) call() {
	for len(g.parked) > 0 && g.queued+g.called < gateMost {
		c := g.parked[0]
		g.parked = slices.Delete(g.parked, 0, 1)
		c.atGate = isCalled
		g.called++
		c.s.parts.Go(c.resume)
	}
}
