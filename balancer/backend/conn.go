package backend

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

type priority = balancer.Priority

// State is what a connection to a backend is doing.
type State int32

// The states, by Perlbal's names.
const (
	Connecting State = iota
	Verifying
	Bored
	Sending
	Waiting
	Transferring
)

var stateNames = [...]string{"connecting", "verifying_backend", "bored", "sending_req", "wait_res", "xfer_res"}

func (s State) String() string { return stateNames[s] }

// Conn is a connection to a backend. Between Get and the end of the exchange it belongs to the request that got it.
type Conn struct {
	*http1.ClientConn
	Node  *Node
	Since time.Time // when the request got it

	q         *Queue
	set       *queueSettings
	loop      int // of ClientConn
	born      time.Time
	idleSince time.Time
	until     time.Time // the backend closes it then; zero: it has not said
	uses      atomic.Int32
	state     atomic.Int32
	ticket    permit // of the request that has the connection
	own       bool   // of one request alone
	verifying bool   // the exchange under way is verify's
	inUse     bool   // a request is under way that counts as the node's
	sound     bool   // of the last exchange
}

func newConn(q *Queue, set *queueSettings, n *Node, nc net.Conn) *Conn {
	c := &Conn{Node: n, q: q, set: set, born: time.Now()}
	c.idleSince = c.born
	c.ClientConn = set.transport.NewConn(nc, n.Addr, c.ended)
	c.loop = c.Loop()
	return c
}

// begin notes that a request has got the connection now, for which its node has granted it.
func (c *Conn) begin(t permit, now time.Time) {
	c.inUse, c.ticket, c.Since = true, t, now
	c.state.Store(int32(Sending))
	c.Node.Requests.Add(1)
}

// SetState notes what the connection is doing, for those who look.
func (c *Conn) SetState(s State) { c.state.Store(int32(s)) }

// State is what the connection is doing.
func (c *Conn) State() State { return State(c.state.Load()) }

// Uses is how many requests it has carried.
func (c *Conn) Uses() int { return int(c.uses.Load()) }

// Answered notes a response's head, which has come now and took so long.
func (c *Conn) Answered(res *http1.Response, now time.Time, took time.Duration) {
	c.state.Store(int32(Transferring))
	c.Node.Answered(now, res.Status, took)
	if gatewayError(res.Status) {
		c.ticket.tell(failed, statusCause(c.Node.Addr, res.Status))
	} else {
		c.ticket.tell(succeeded, "")
	}
	c.until = time.Time{}
	if v := res.Header.Bytes("Keep-Alive"); v != nil {
		if s, ok := keepAliveTimeout(v); ok {
			c.until = now.Add(time.Duration(s)*time.Second - keepAliveSlack)
		}
	}
}

// keepAliveTimeout reads timeout=N of a Keep-Alive field.
func keepAliveTimeout(v []byte) (seconds int, ok bool) {
	for part := range bytes.SplitSeq(v, []byte{','}) {
		if n, found := strings.CutPrefix(strings.ToLower(string(bytes.TrimSpace(part))), "timeout="); found {
			s, err := strconv.Atoi(n)
			return s, err == nil && s >= 0
		}
	}
	return 0, false
}

// ended is called when an exchange has ended: by the closing of its body, or by an error.
func (c *Conn) ended(reusable bool) {
	if c.verifying {
		c.sound = reusable
		return
	}
	c.uses.Add(1)
	c.release(reusable)
}

// giveBack returns a connection that was got and not used.
func (c *Conn) giveBack() { c.release(true) }

// discard closes a connection that was granted and not begun with.
func (c *Conn) discard() {
	c.Node.Active.Add(-1)
	c.q.mu.Lock()
	defer c.q.mu.Unlock()
	c.q.drop(c)
	c.q.spawn()
}

// release gives the connection to whoever waits, keeps it, or lets it go.
func (c *Conn) release(reusable bool) {
	if c.inUse {
		c.inUse = false
		c.Node.Active.Add(-1)
	}
	c.ticket.release()
	q := c.q
	set := q.set.Load()
	now := time.Now()
	keep := reusable && !c.own && set.PersistBackend && (set.MaxBackendUses <= 0 || c.Uses() < set.MaxBackendUses) &&
		c.wanted() && (c.until.IsZero() || now.Before(c.until))
	q.mu.Lock()
	defer q.mu.Unlock()
	c.state.Store(int32(Bored))
	if keep && !q.closed {
		q.offer(c, now)
		q.pair(now)
		return
	}
	delete(q.all, c)
	if reusable {
		c.ClientConn.Close()
	}
	c.Node.conns.Add(-1)
	q.spawn()
}

// close closes an idle connection.
func (c *Conn) close() {
	c.ClientConn.Close()
	c.Node.conns.Add(-1)
}

// wanted reports whether the settings in force still have a use for connections like this one.
func (c *Conn) wanted() bool {
	set := c.q.set.Load()
	return set.pool != nil && set.transport == c.set.transport && slices.Contains(set.pool.Nodes(), c.Node)
}

// expired reports whether an idle connection is no longer to be trusted.
func (c *Conn) expired(now time.Time) bool {
	switch {
	case !c.Used():
		return now.Sub(c.born) > freshTime
	case !c.until.IsZero() && !now.Before(c.until):
		return true
	}
	return now.Sub(c.idleSince) > idleLimit
}

var errNotKept = errors.New("the answer to OPTIONS does not allow another request")

// verify proves that behind the connection there is a process that answers, and not only a kernel that accepts: any status will
// do, if the connection can be used after it.
func (c *Conn) verify(ctx context.Context, path string) error {
	c.Node.Verifies.Add(1)
	c.verifying, c.sound = true, false
	defer func() { c.verifying = false }()
	res, err := c.Do(ctx, &http1.OutRequest{Method: "OPTIONS", Target: path, Host: c.Node.host()})
	if err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		if _, err := res.Body.Read(buf); err != nil {
			break
		}
	}
	res.Body.Close()
	if !c.sound {
		return errNotKept
	}
	c.born, c.idleSince = time.Now(), time.Now()
	return nil
}

// host is the Host field of requests of the balancer's own to the node.
func (n *Node) host() string {
	switch {
	case n.Name != "":
		return n.Name
	case strings.HasPrefix(n.Addr, "unix:"), strings.HasPrefix(n.Addr, processPrefix):
		return "localhost"
	}
	return n.Addr
}
