package backend

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// Errors of Get.
var (
	// ErrQueueFull: as many requests as may wait do so already.
	ErrQueueFull = errors.New("the queue for backends is full")
	// ErrQueueTime: no backend was free in time.
	ErrQueueTime = errors.New("no backend was free in time")
	// ErrNoNodes: the pool is empty.
	ErrNoNodes = errors.New("the pool has no nodes")
	// ErrNoneUsable: no node can be used now, and the request has something to fall back on (Want.Standby).
	ErrNoneUsable = errors.New("no node of the pool can be used now")
	// ErrClosed: the service has been removed.
	ErrClosed = errors.New("the service is gone")
)

const (
	maxRound       = 10               // connects that are started at once
	freshTime      = 5 * time.Second  // for which a connection that never answered is trusted
	slowConnect    = time.Second / 4  // after which another node is tried beside one that does not answer
	stuckTime      = 5 * time.Second  // after which a connect under way does not count any more
	keepAliveSlack = 2 * time.Second  // by which a connection is given up before the backend said it would be
	sameLoopTries  = 16               // how many idle connections are looked at for one of the client's loop
	idleLimit      = 75 * time.Second // for which an unused connection is kept at most
)

// Dialer makes connections to nodes. preface, if there is one, is sent before anything else.
type Dialer func(ctx context.Context, n *Node, preface []byte) (net.Conn, error)

// Queue is a service's connections to its backends, and the requests that wait for one. It is safe for concurrent use.
type Queue struct {
	log  *slog.Logger
	dial Dialer
	set  atomic.Pointer[queueSettings]

	mu       sync.Mutex // guards all below
	idle     []*Conn    // fresh ones in front, used ones behind, of which the last used is last
	waiting  [3]list
	pending  map[*Node][]*connecting
	all      map[*Conn]struct{} // open, idle or not
	retry    *time.Timer
	closed   bool
	dialing  sync.WaitGroup
	dialCtx  context.Context
	endDials context.CancelFunc
}

// queueSettings are what a Queue needs to know of its service.
type queueSettings struct {
	*balancer.Settings
	pool      *Pool
	transport *http1.Transport
}

// connecting is a connection that is being made.
type connecting struct {
	node      *Node
	since     time.Time
	verifying bool
}

// NewQueue makes the queue of a service. ctx bounds the making of connections; it ends them all when it ends.
func NewQueue(ctx context.Context, log *slog.Logger, dial Dialer) *Queue {
	q := &Queue{log: log, dial: dial, pending: map[*Node][]*connecting{}, all: map[*Conn]struct{}{}}
	q.dialCtx, q.endDials = context.WithCancel(ctx)
	return q
}

// Update puts new settings in force. Idle connections to nodes that the pool does not have are closed.
func (q *Queue) Update(set *balancer.Settings, pool *Pool) {
	old := q.set.Load()
	s := &queueSettings{Settings: set, pool: pool}
	if old != nil && old.ResponseTimeout == set.ResponseTimeout && old.BackendBodyTimeout == set.BackendBodyTimeout &&
		old.IdleTimeout == set.IdleTimeout && old.BackendTLS == set.BackendTLS && old.BackendTLSVerify == set.BackendTLSVerify {
		s.transport = old.transport
	} else {
		s.transport = http1.NewTransport(http1.ClientOptions{
			HeadTimeout: orNever(set.ResponseTimeout), BodyTimeout: orNever(set.BackendBodyTimeout), WriteTimeout: orNever(set.IdleTimeout),
		})
	}
	q.set.Store(s)
	if pool != nil {
		pool.watch(q)
	}
	q.changed()
}

func orNever(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// watch has q told of changed nodes.
func (p *Pool) watch(q *Queue) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.queues, q) {
		p.queues = append(p.queues, q)
	}
}

// Forget ends what Update of a queue has begun: the pool has no more to tell it.
func (p *Pool) Forget(q *Queue) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queues = slices.DeleteFunc(p.queues, func(o *Queue) bool { return o == q })
}

// changed drops what new settings or nodes have no use for, and connects where they want it.
func (q *Queue) changed() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expire(time.Now())
	q.spawn()
}

// Want is what a request asks of Get.
type Want struct {
	Priority balancer.Priority
	Key      string  // for ConsistentHash; "": the request has none, and belongs to no node more than to another
	Exclude  []*Node // have failed the request already
	Node     string  // address of the node that is wanted most, "": none; if it may not be used it is as if none were given
	Retry    bool    // a node has failed the request already: it counts towards max_retries
	Bodiless bool    // the request finds out by itself when a connection is stale (http1.ErrStale)
	Loop     int     // the event loop of the client's connection (http1.Looper): a connection of that loop is best; 0: it has none
	Standby  bool    // the request has something to fall back on: it does not wait while no node can be used
	Timeout  time.Duration
	Now      time.Time // if it is known already

	preface []byte // of a connection of its own, nil: any connection will do
}

// Get waits for a connection. It ends with ctx, or with an error of this package, which is a [LimitError] when the pool does not take
// the request; of one that says that time is over, the cause that backends gave is part.
func (q *Queue) Get(ctx context.Context, w Want) (*Conn, error) {
	set, now := q.set.Load(), w.Now
	if set.pool == nil {
		return nil, ErrNoNodes
	}
	if now.IsZero() {
		now = time.Now()
	}
	set.pool.refresh(now)
	if len(set.pool.Nodes()) == 0 {
		if err := set.pool.populated(ctx, w.Timeout); err != nil {
			return nil, err
		}
		now = time.Now()
	}
	ticket, err := set.pool.admit(now, w.Retry)
	if err != nil {
		return nil, err
	}
	c, err := q.get(ctx, w, set, now, ticket)
	if err != nil {
		ticket.release()
	}
	return c, err
}

// get is Get with what the request has taken from the pool's limits, which goes to the connection.
func (q *Queue) get(ctx context.Context, w Want, set *queueSettings, now time.Time, ticket permit) (*Conn, error) {
	if !set.pool.another(now, w.Exclude) {
		w.Exclude = nil // one that has failed is better than none
	}
	node := set.pool.choose(now, &w) // that the request must go to; nil: whichever is free first
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil, ErrClosed
	}
	for w.preface == nil {
		c := q.takeIdle(now, node, &w)
		if c == nil {
			break
		}
		q.mu.Unlock()
		if w.Bodiless || !c.Stale() {
			c.begin(ticket, now)
			return c, nil
		}
		c.discard()
		q.mu.Lock()
	}
	if n := q.count(); set.MaxQueue > 0 && n >= set.MaxQueue {
		q.mu.Unlock()
		return nil, ErrQueueFull
	}
	if limit := set.pool.Settings().MaxPending; limit > 0 {
		if !take(&set.pool.pending, limit) {
			q.mu.Unlock()
			return nil, set.pool.refuse(byPending, 0)
		}
		defer set.pool.pending.Add(-1)
	}
	if w.Standby && !set.pool.anyUsable(now) {
		q.mu.Unlock()
		return nil, ErrNoneUsable
	}
	wait := &waiter{since: now, node: node, key: w.Key, exclude: w.Exclude, ready: make(chan *Conn, 1), priority: w.Priority, preface: w.preface, standby: w.Standby}
	q.waiting[w.Priority].push(wait)
	q.spawn()
	q.mu.Unlock()
	return q.await(ctx, wait, w.Timeout, ticket)
}

// choose is the node for a request, by what it wants or by the pool's method; nil when any will do, or none may be used.
func (p *Pool) choose(now time.Time, w *Want) *Node {
	if w.Node != "" {
		for _, n := range p.Nodes() {
			if n.Addr == w.Node && n.usable(now) && !slices.Contains(w.Exclude, n) {
				return n
			}
		}
	}
	if p.Settings().Method == balancer.FirstFree {
		return nil
	}
	return p.pick(now, w.Key, w.Exclude, func(*Node) bool { return true })
}

// shed sends away those who wait: the pool's circuit has opened.
func (q *Queue) shed() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.waiting {
		for w := q.waiting[i].pop(); w != nil; w = q.waiting[i].pop() {
			w.end = endShed
			w.ready <- nil
		}
	}
}

func (q *Queue) await(ctx context.Context, w *waiter, limit time.Duration, ticket permit) (*Conn, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var err error
	select {
	case c := <-w.ready:
		if c == nil {
			switch w.end {
			case endShed:
				return nil, ticket.pool.refuse(byCircuit, ticket.pool.Settings().CircuitTime)
			case endUnusable:
				return nil, ErrNoneUsable
			}
			return nil, ErrClosed
		}
		c.begin(ticket, time.Now())
		return c, nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-timer.C:
		err = q.lateness()
	}
	q.mu.Lock()
	left := q.waiting[w.priority].remove(w)
	if left && w.cancel != nil {
		w.cancel()
	}
	q.mu.Unlock()
	if !left { // a connection has come at the same time
		if c := <-w.ready; c != nil {
			c.begin(permit{}, time.Now()) // what the request has taken is given back by Get
			c.giveBack()
		}
	}
	return nil, err
}

// lateness says why no backend was free.
func (q *Queue) lateness() error {
	for _, n := range q.set.Load().pool.Nodes() {
		if st := n.Status(time.Now()); st.Error != "" && st.State != "up" {
			return &lateError{st.Addr + ": " + st.Error}
		}
	}
	return ErrQueueTime
}

type lateError struct{ cause string }

func (e *lateError) Error() string { return ErrQueueTime.Error() + " (" + e.cause + ")" }

func (e *lateError) Unwrap() error { return ErrQueueTime }

// takeIdle takes the best idle connection off the list, and its node grants it. q.mu is held.
func (q *Queue) takeIdle(now time.Time, node *Node, w *Want) *Conn {
	if w.Loop > 0 {
		if c := q.takeIdleOf(now, node, w.Exclude, max(0, len(q.idle)-sameLoopTries), w.Loop); c != nil {
			return c
		}
	}
	return q.takeIdleOf(now, node, w.Exclude, 0, 0)
}

// takeIdleOf is takeIdle of q.idle[from:]. loop is that of the connections that will do; 0: any.
func (q *Queue) takeIdleOf(now time.Time, node *Node, exclude []*Node, from, loop int) *Conn {
	for i := len(q.idle) - 1; i >= from; i-- {
		c := q.idle[i]
		if node != nil && c.Node != node || loop > 0 && c.loop != loop || slices.Contains(exclude, c.Node) {
			continue
		}
		good := !c.expired(now) && c.wanted() && (node != nil || c.Node.healthy(now))
		if good && !c.Node.grant() {
			continue
		}
		q.idle = slices.Delete(q.idle, i, i+1)
		if good {
			return c
		}
		q.drop(c)
	}
	return nil
}

// pair gives idle connections to those who wait and can use them: it was not their turn, or their node's, when they became idle. q.mu is held.
func (q *Queue) pair(now time.Time) {
	if len(q.idle) == 0 || q.count() == 0 {
		return
	}
	q.idle = slices.DeleteFunc(q.idle, func(c *Conn) bool {
		return !c.expired(now) && c.wanted() && c.Node.healthy(now) && q.hand(c)
	})
}

// hand gives a connection to the request whose turn it is; false when nobody waits for it, or its node may have no more requests now. q.mu
// is held.
func (q *Queue) hand(c *Conn) bool {
	if q.count() == 0 || !c.Node.grant() {
		return false
	}
	w := q.next(c.Node)
	if w == nil {
		c.Node.Active.Add(-1)
		return false
	}
	w.ready <- c
	return true
}

// count is how many requests wait. q.mu is held.
func (q *Queue) count() int {
	return q.waiting[balancer.High].n + q.waiting[balancer.Normal].n + q.waiting[balancer.Low].n
}

// offer gives a connection that is free to the request whose turn it is, or keeps it. q.mu is held.
func (q *Queue) offer(c *Conn, now time.Time) {
	if q.hand(c) {
		return
	}
	set := q.set.Load()
	if !c.Used() {
		q.idle = slices.Insert(q.idle, 0, c)
		return
	}
	if len(q.idle) >= max(set.BackendPersist, set.ConnectAhead) && q.used() >= set.BackendPersist {
		q.drop(c)
		return
	}
	c.idleSince = now
	q.idle = append(q.idle, c)
}

// used is how many idle connections have been used. q.mu is held.
func (q *Queue) used() int {
	first := slices.IndexFunc(q.idle, func(c *Conn) bool { return c.Used() })
	if first < 0 {
		return 0
	}
	return len(q.idle) - first
}

// next takes the request whose turn it is off the queues: the high one first, but now and then, when many wait in the normal one,
// that one. q.mu is held.
func (q *Queue) next(n *Node) *waiter {
	order := [3]balancer.Priority{balancer.High, balancer.Normal, balancer.Low}
	set := q.set.Load()
	if set.QueueReliefSize > 0 && q.waiting[balancer.Normal].n >= set.QueueReliefSize && rand.IntN(100) < set.QueueReliefChance {
		order[0], order[1] = order[1], order[0]
	}
	for _, p := range order {
		if w := q.waiting[p].take(n); w != nil {
			return w
		}
	}
	return nil
}

// Tick closes connections that have been idle for too long or that backends have closed, and keeps as many ready as connect_ahead
// says. It is to be called about once a second.
func (q *Queue) Tick(now time.Time) {
	set := q.set.Load()
	if set.pool == nil {
		return
	}
	set.pool.refresh(now)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expire(now)
	q.spawn()
}

// drop closes a connection that is idle. q.mu is held.
func (q *Queue) drop(c *Conn) {
	delete(q.all, c)
	c.close()
}

// expire closes idle connections that have no use any more. q.mu is held.
func (q *Queue) expire(now time.Time) {
	q.idle = slices.DeleteFunc(q.idle, func(c *Conn) bool {
		if c.wanted() && !c.expired(now) && !c.Stale() {
			return false
		}
		q.drop(c)
		return true
	})
}

// Close ends the queue: those who wait get ErrClosed, idle connections are closed. It waits for connects under way to end.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	for i := range q.waiting {
		for w := q.waiting[i].pop(); w != nil; w = q.waiting[i].pop() {
			w.ready <- nil
		}
	}
	for _, c := range q.idle {
		q.drop(c)
	}
	q.idle = nil
	if q.retry != nil {
		q.retry.Stop()
	}
	q.mu.Unlock()
	q.endDials()
	q.dialing.Wait()
	if set := q.set.Load(); set != nil && set.pool != nil {
		set.pool.Forget(q)
	}
}
