// Package proxy is the role reverse_proxy: a request is given to the first backend that is free, and its response to the client.
//
// A backend is held only while it works: slow uploads are taken in before one is asked for, and of a response as much is read
// ahead of a slow client as buffer_size allows, so that the backend can go on to the next request.
package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/backend"
	"wheelhouse/balancer/transport"
	"wheelhouse/internal/http1"
)

// Proxy is a service's reverse proxy. It is safe for concurrent use.
type Proxy struct {
	Log     *slog.Logger
	Pool    func() *backend.Pool // the service's, nil when it has none
	Queue   *backend.Queue
	Fetcher *Fetcher
	// Local gives the handlers of this process that "local:NAME" nodes stand for, nil for an unknown one.
	Local func(name string) http1.Handler
	// File answers with a file, as a web_server would, beside the status and fields that have been set; expected is the size that
	// it must have, -1 for any.
	File func(r *balancer.Request, path string, status int, expected int64)
	// Progress is told of uploads whose clients asked for it.
	Progress func(session string, done, total int64, began time.Time)
	// DebugUploads tells backends why an upload was taken in first.
	DebugUploads bool

	spool  spool
	budget budget
	cache  reproxyCache
}

// call is one request's way through the proxy.
type call struct {
	p    *Proxy
	r    *balancer.Request
	x    http1.Exchange
	set  *balancer.Settings
	ctx  context.Context
	body upload
	out  http1.OutRequest

	failed  []*backend.Node // that have failed the request
	tries   int             // by enable_error_retries
	upgrade string
	stale   int    // connections that were closed while they idled
	retry   bool   // a node has failed the request
	failure string // how
}

var callPool = sync.Pool{New: func() any { return new(call) }}

// forget lets go of what belongs to the request.
func (c *call) forget() {
	c.release() // a panic has left it as it was
	clear(c.failed)
	*c = call{failed: c.failed[:0], out: c.out}
	callPool.Put(c)
}

// Serve answers a request.
func (p *Proxy) Serve(r *balancer.Request) {
	set := r.Set
	c := callPool.Get().(*call)
	c.p, c.r, c.x, c.set = p, r, r.X, set
	defer c.forget()
	c.prioritize()
	if set.EnableReproxy && set.ReproxyCacheMaxSize > 0 && c.fromCache() {
		return
	}
	if name := p.local(); name != "" {
		c.serveLocal(name)
		return
	}
	c.ctx = r.X.Context()
	p.budget.earn(set.RetryBudget)
	c.upgrade = upgradeOf(r.X.Request())
	if r.X.Request().HasBody() {
		r.Watch.Set(balancer.Buffering)
		defer c.body.close()
		if !c.takeBody() {
			return
		}
	}
	for c.attempt() {
	}
}

func (p *Proxy) local() string {
	if pool := p.Pool(); pool != nil {
		return pool.Local()
	}
	return ""
}

// loop is the event loop of the client's connection, 0: none is known.
func (c *call) loop() int {
	if l, ok := http1.As[http1.Looper](c.x); ok {
		return l.Loop()
	}
	return 0
}

// attempt asks one backend. It reports whether another is to be asked.
func (c *call) attempt() (again bool) {
	r := c.r
	began := time.Now()
	want := backend.Want{
		Priority: r.Priority, Key: c.hashKey(), Exclude: c.failed, Retry: c.retry, Timeout: orElse(orElse(c.set.QueueTimeout, c.set.IdleTimeout), forever),
		Now: began, Bodiless: !c.x.Request().HasBody(), Standby: r.Standby, Loop: c.loop(),
	}
	if chain := r.Chain(); chain != nil && chain.Places() {
		want.Node = chain.Place(r, c.usable())
	}
	var conn *backend.Conn
	var err error
	r.Watch.Wait(r.Priority)
	if v := c.set.SendProxyProtocol; v > 0 {
		conn, err = c.p.Queue.GetOwn(c.ctx, want, proxyPreface(v, r))
	} else {
		conn, err = c.p.Queue.Get(c.ctx, want)
	}
	if err != nil {
		r.Queued += time.Since(began)
		c.noBackend(err)
		return false
	}
	asked := conn.Since
	r.Queued += asked.Sub(began)
	r.Attempts++
	r.Backend = conn.Node.Addr
	r.Watch.Ask(&conn.Node.Addr)
	c.render()
	c.out.Now = asked
	res, err := conn.Do(c.ctx, &c.out)
	c.release()
	if err != nil {
		return c.failedOn(conn, err)
	}
	answered := time.Now()
	r.Head = answered.Sub(asked)
	r.Watch.Set(balancer.Delivering)
	conn.Answered(res, answered, r.Head)
	switch {
	case res.Status == 101:
		c.tunnel(res)
		return false
	case res.Status == 500 && c.retriesError():
		res.Body.Close()
		return c.pause()
	case c.set.EnableReproxy && reproxied(&res.Header):
		c.reproxy(res)
		return false
	}
	c.relay(res)
	return false
}

// usable are the addresses of the nodes that the request may go to.
func (c *call) usable() []string {
	pool := c.p.Pool()
	if pool == nil {
		return nil
	}
	return pool.Usable(time.Now(), c.failed)
}

// forever is how long a request waits for a backend where no limit is set.
const forever = 24 * time.Hour

// proxyPreface is the PROXY header for a request's client.
func proxyPreface(version int, r *balancer.Request) []byte {
	to := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	if a, ok := r.X.LocalAddr().(*net.TCPAddr); ok {
		to = a.AddrPort()
	}
	return transport.AppendProxyHeader(nil, version, r.Client, to)
}

func orElse(d, other time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return other
}

// release empties the rendered request. What points into the exchange must not outlive it.
func (c *call) release() {
	c.out.Header.Reset()
	c.out = http1.OutRequest{Header: c.out.Header}
}

// noBackend answers a request that no backend was found for.
func (c *call) noBackend(err error) {
	var limit *backend.LimitError
	switch {
	case errors.As(err, &limit) && limit.Limit == backend.LimitRetries:
		c.r.Error(502, "", c.failure+"; not tried again: "+err.Error())
	case errors.As(err, &limit):
		c.x.Header().Reset()
		c.r.ErrorAfter(503, limit.Wait, "", err.Error())
	case errors.Is(err, backend.ErrQueueFull), errors.Is(err, backend.ErrQueueTime), errors.Is(err, backend.ErrNoNodes), errors.Is(err, backend.ErrClosed),
		errors.Is(err, backend.ErrNoneUsable):
		c.x.Header().Reset()
		c.r.Error(503, "", err.Error())
	default:
		c.r.Reason = "the client is gone: " + err.Error()
		c.x.Abort()
	}
}

// failedOn notes that a backend has failed the request, and reports whether another is to be asked.
func (c *call) failedOn(conn *backend.Conn, err error) (again bool) {
	if c.ctx.Err() != nil {
		c.r.Reason = "the client is gone: " + context.Cause(c.ctx).Error()
		c.x.Abort()
		return false
	}
	var body *http1.BodyReadError
	if errors.As(err, &body) {
		c.refuseBody(body.Err)
		return false
	}
	if errors.Is(err, http1.ErrBadRequest) { // made so by HEADER or a plugin: no backend is to blame
		c.r.Error(502, "", err.Error())
		return false
	}
	var do *http1.DoError
	if errors.As(err, &do) && do.Reused && errors.Is(err, http1.ErrStale) { // nothing was sent, and those that have idled come to an end
		c.r.Attempts--
		conn.Node.Requests.Add(-1)
		return true
	}
	// A connection that was closed while it idled says nothing about the backend.
	stale := errors.As(err, &do) && do.Reused && !do.Began && !errors.Is(err, os.ErrDeadlineExceeded)
	if !stale {
		conn.Failed(err)
		c.failed = append(c.failed, conn.Node)
	}
	late := errors.Is(err, os.ErrDeadlineExceeded)
	if stale {
		c.stale++
	}
	if c.replayable() && !late && (stale && c.stale <= maxStale || !stale && len(c.failed) <= c.set.RetryAttempts && c.p.budget.spend(c.set.RetryBudget)) {
		c.retry, c.failure = c.retry || !stale, "backend "+conn.Node.Addr+" failed: "+err.Error()
		c.p.Log.Debug("request is tried again", "addr", conn.Node.Addr, "attempt", c.r.Attempts, "err", err)
		return true
	}
	if late {
		c.r.Error(504, "", "backend "+conn.Node.Addr+" did not answer in time: "+err.Error())
	} else {
		c.r.Error(502, "", "backend "+conn.Node.Addr+" failed: "+err.Error())
	}
	return false
}

// maxStale is how many connections that were closed while they idled a request may meet.
const maxStale = 8

// replayable reports whether the request may be sent a second time (RFC 9110 §9.2.2).
func (c *call) replayable() bool {
	switch c.x.Request().Method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND":
		return c.body.replayable() && c.upgrade == ""
	}
	return false
}

// retriesError reports whether a 500 is to be tried again.
func (c *call) retriesError() bool {
	m := c.x.Request().Method
	return c.set.EnableErrorRetries && (m == "GET" || m == "HEAD") && c.tries < len(c.set.ErrorRetrySchedule) && c.body.replayable()
}

// pause waits before the next try of a request that was answered with 500; false when the client has gone.
func (c *call) pause() bool {
	d := c.set.ErrorRetrySchedule[c.tries]
	c.tries++
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.ctx.Done():
		c.r.Reason = "the client is gone"
		c.x.Abort()
		return false
	}
}

// badBody answers a request whose body broke off or the protocol.
func (c *call) badBody(err error) {
	var e *http1.Error
	if errors.As(err, &e) {
		c.r.Error(e.Status, e.Reason, e.Reason)
		return
	}
	c.r.Reason = "the client is gone: " + err.Error()
	c.x.Abort()
}
