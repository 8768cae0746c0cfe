// Package transport is what lies between a listener's socket and the HTTP engine: TLS with several certificates, ACME and HTTP/2, and
// the PROXY protocol.
package transport

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
	"wheelhouse/internal/pace"
)

const (
	// handshakeTime is how long a client may take for the PROXY header and the TLS handshake.
	handshakeTime = 15 * time.Second
	// maxHandshakes is how many may be under way at once; beyond it the oldest is cut: who comes must not wait for thousands that say nothing.
	maxHandshakes = 4096
	// refusedPause is between two lines of the log about connections without a PROXY header, or that were cut: there may be thousands a second.
	refusedPause = time.Minute
	h2Header     = 100 << 10 // bytes of a request's head over HTTP/2
	h2Streams    = 250       // requests at once on one connection
)

// Front accepts the connections of one listener for an engine, or for whoever takes them raw. It is safe for concurrent use.
type Front struct {
	set  *balancer.Settings
	srv  *http1.Server  // nil: raw takes them
	raw  func(net.Conn) // on a goroutine of the front's, which it must not keep
	log  *slog.Logger
	keys *keyring // nil without TLS
	h2   *http.Server
	feed *feed // connections for h2

	headless  pace.Gate // connections without a PROXY header
	crowded   pace.Gate // handshakes that were cut
	shaking   sync.WaitGroup
	room      chan struct{}
	h2serving sync.WaitGroup

	mu     sync.Mutex // guards all below
	conns  list.List  // of *shake, the oldest in front
	closed bool
}

// shake is a handshake under way.
type shake struct {
	nc  net.Conn
	cut bool // there were too many
}

// New makes a front for the settings of a service of that name; over takes the connections of protocols that srv does not speak: srv's Others.
// Keys and certificates are read: what is wrong with them is an error. Sessions that clients have with another front of this name can be
// resumed if that has the same tickets and demands the same of clients.
func New(name string, set *balancer.Settings, srv *http1.Server, over *H2Conns, tickets *Tickets, logger *slog.Logger) (*Front, error) {
	f := &Front{set: set, srv: srv, log: logger, room: make(chan struct{}, maxHandshakes)}
	if !set.TLS.Enabled {
		return f, nil
	}
	var err error
	if f.keys, err = newKeyring(name, set.TLS, set.HTTP2, tickets, logger); err != nil {
		return nil, err
	}
	if set.HTTP2 {
		f.feed = newFeed()
		f.h2 = &http.Server{
			Handler: limitBodies(srv.NetHTTP(), set.MaxRequestBody), ReadHeaderTimeout: set.HeadTimeout, IdleTimeout: set.ClientIdleTimeout, MaxHeaderBytes: h2Header,
			ErrorLog: log.New(slogWriter{logger}, "", 0), ConnState: over.changed, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: h2Streams, SendPingTimeout: time.Minute, WriteByteTimeout: set.IdleTimeout},
		}
	}
	return f, nil
}

// NewRaw makes a front whose connections raw takes, which need not speak HTTP: it is called for one after another, and closes them.
func NewRaw(name string, set *balancer.Settings, raw func(net.Conn), tickets *Tickets, logger *slog.Logger) (*Front, error) {
	bare := *set
	bare.HTTP2 = false
	f, err := New(name, &bare, nil, nil, tickets, logger)
	if err == nil {
		f.raw = raw
	}
	return f, err
}

// limitBodies bounds the bodies of requests.
func limitBodies(h http.Handler, limit int64) http.Handler {
	if limit <= 0 {
		return h
	}
	return http.MaxBytesHandler(h, limit)
}

// slogWriter takes net/http's lines as debug messages: each is some client's fault.
type slogWriter struct{ log *slog.Logger }

func (w slogWriter) Write(p []byte) (int, error) {
	w.log.Debug("http/2", "err", string(p))
	return len(p), nil
}

// Keys are certificates, the authorities of clients' certificates, and keys of session tickets, that were read and not yet put in force.
type Keys struct {
	certs   []tls.Certificate
	clients clientDemands
	tickets *ticketKeys // nil: the process's own
}

// LoadKeys reads the certificates, authorities and keys of tickets that a service names.
func LoadKeys(t balancer.TLS) (*Keys, error) {
	var k Keys
	var err error
	if k.certs, err = readPairs(t); err != nil {
		return nil, err
	}
	if k.clients, err = readClients(t); err != nil {
		return nil, err
	}
	k.tickets, err = readTicketFiles(t.TicketKeys)
	return &k, err
}

// SetKeys puts keys in force for new handshakes. A session that was begun with other authorities is not resumed.
func (f *Front) SetKeys(k *Keys) {
	if f.keys != nil && k != nil {
		f.keys.set(k)
	}
}

// Serve accepts connections until ln fails or is closed, or the front is shut down. It does not close ln.
func (f *Front) Serve(ln net.Listener) error {
	if f.srv != nil && f.keys == nil && !f.set.ProxyProtocol && f.set.ClientSndbuf == 0 {
		return f.srv.Serve(ln)
	}
	if !f.begin() {
		return http1.ErrServerClosed
	}
	defer f.shaking.Wait()
	var pause time.Duration
	for {
		nc, err := ln.Accept()
		if err != nil {
			if f.isClosed() {
				return http1.ErrServerClosed
			}
			var t interface{ Temporary() bool }
			if errors.Is(err, net.ErrClosed) || !errors.As(err, &t) || !t.Temporary() {
				return err
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			f.log.Warn("accept failed", "addr", ln.Addr(), "err", err, "dur", pause)
			timer := time.NewTimer(pause)
			<-timer.C
			continue
		}
		pause = 0
		if f.srv != nil {
			f.srv.Admit()
		}
		select {
		case f.room <- struct{}{}:
		default:
			f.cutOldest()
			f.room <- struct{}{} // it ends at once
		}
		place := f.add(nc)
		if place == nil {
			nc.Close()
			<-f.room
			return http1.ErrServerClosed
		}
		f.shaking.Go(func() {
			f.shake(nc, place)
			<-f.room
		})
	}
}

// begin starts what works beside the accepting of connections; false when the front is closed already.
func (f *Front) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	if f.h2 != nil {
		f.h2serving.Go(func() { _ = f.h2.Serve(f.feed) }) // it ends when the feed is closed
	}
	if f.keys != nil {
		f.keys.manage()
	}
	return true
}

func (f *Front) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// add notes a handshake; nil when the front is closed.
func (f *Front) add(nc net.Conn) *list.Element {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	return f.conns.PushBack(&shake{nc: nc})
}

func (f *Front) remove(place *list.Element) (cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conns.Remove(place).(*shake).cut
}

// cutOldest ends the handshake that has taken longest.
func (f *Front) cutOldest() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for e := f.conns.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*shake); !s.cut {
			s.cut = true
			s.nc.Close()
			return
		}
	}
}

// shake reads what comes before HTTP on a connection, and gives it to the engine for what the client speaks.
func (f *Front) shake(nc net.Conn, place *list.Element) {
	ok := false
	defer func() {
		if f.remove(place) {
			if n, ok := f.crowded.Pass(refusedPause); ok {
				f.log.Warn("handshakes are cut: too many are under way", "addr", nc.RemoteAddr(), "count", n)
			}
		}
		if !ok {
			nc.Close()
		}
	}()
	if t, is := nc.(interface{ SetWriteBuffer(int) error }); is && f.set.ClientSndbuf > 0 {
		_ = t.SetWriteBuffer(f.set.ClientSndbuf) // a wish
	}
	_ = nc.SetDeadline(time.Now().Add(handshakeTime))
	client := nc.RemoteAddr()
	if f.set.ProxyProtocol {
		from, err := ReadProxyHeader(nc)
		if err != nil {
			if n, ok := f.headless.Pass(refusedPause); ok {
				f.log.Info("connection refused", "addr", client, "err", err, "count", n)
			}
			return
		}
		if from != nil {
			client = from
		}
	}
	if f.keys == nil {
		ok = nc.SetDeadline(time.Time{}) == nil
		f.hand(nc, client)
		return
	}
	n := &named{Conn: nc, client: client, first: true}
	tc := tls.Server(n, f.keys.handshake())
	if err := tc.Handshake(); err != nil {
		f.log.Debug("TLS handshake failed", "addr", client, "err", err)
		if ok = f.srv != nil && plainHTTP(err) && nc.SetDeadline(time.Time{}) == nil; ok {
			f.srv.RefuseConn(nc, client, n.seen, errPlain)
		}
		return
	}
	n.seen = nil
	ok = nc.SetDeadline(time.Time{}) == nil
	switch tc.ConnectionState().NegotiatedProtocol {
	case "h2":
		f.feed.put(tc)
	case acmeProtocol:
		tc.Close()
	default:
		f.hand(tc, client)
	}
}

func (f *Front) hand(nc net.Conn, client net.Addr) {
	if f.isClosed() {
		nc.Close()
		return
	}
	if f.srv != nil {
		f.srv.ServeConnFrom(nc, client)
		return
	}
	if client != nc.RemoteAddr() {
		nc = &named{Conn: nc, client: client}
	}
	f.raw(nc)
}

// named is a connection of another client than its other end. Its parts that the kernel can do by itself stay reachable.
type named struct {
	net.Conn
	client net.Addr
	first  bool   // nothing has been read yet
	seen   []byte // what was read, of a client that does not speak TLS
}

func (n *named) RemoteAddr() net.Addr { return n.client }

// NetConn is the connection beneath.
func (n *named) NetConn() net.Conn { return n.Conn }

// Read notes what a client sends that does not begin a TLS handshake: crypto/tls reads a little more of it than the record's head that it
// tells of. It costs others a look at their first byte.
func (n *named) Read(p []byte) (int, error) {
	m, err := n.Conn.Read(p)
	if (n.first || n.seen != nil) && m > 0 {
		if n.seen != nil || p[0] != recordHandshake {
			n.seen = append(n.seen, p[:m]...)
		}
		n.first = false
	}
	return m, err
}

// recordHandshake is the type of a TLS connection's first record (RFC 8446 §5.1).
const recordHandshake = 22

// errPlain is what a client is told that speaks plain HTTP to a port of TLS.
var errPlain = &http1.Error{Status: 400, Reason: "plain HTTP was sent to a port that speaks TLS"}

// plainHTTP reports whether a handshake has failed, with nothing sent, on what looks like the beginning of a plain request: a method, or the
// first five letters of one.
func plainHTTP(err error) bool {
	var e tls.RecordHeaderError
	if !errors.As(err, &e) || e.Conn == nil {
		return false
	}
	for i, c := range e.RecordHeader {
		if c == ' ' && i > 0 {
			return true
		}
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}

// Shutdown ends handshakes at once, and what the engine does not know of, HTTP/2 connections, when their requests are answered or ctx
// ends.
func (f *Front) Shutdown(ctx context.Context) error {
	f.mu.Lock()
	f.closed = true
	for e := f.conns.Front(); e != nil; e = e.Next() {
		e.Value.(*shake).nc.Close()
	}
	f.mu.Unlock()
	if f.keys != nil {
		f.keys.stop()
	}
	if f.h2 == nil {
		return nil
	}
	err := f.h2.Shutdown(ctx)
	if err != nil {
		f.h2.Close()
	}
	f.feed.Close()
	f.h2serving.Wait()
	return err
}

// feed is a listener whose connections are put in by hand.
type feed struct {
	conns chan net.Conn
	quit  chan struct{}
	once  sync.Once
}

func newFeed() *feed { return &feed{conns: make(chan net.Conn), quit: make(chan struct{})} }

func (f *feed) put(nc net.Conn) {
	select {
	case f.conns <- nc:
	case <-f.quit:
		nc.Close()
	}
}

// Accept waits for a connection to be put in.
func (f *feed) Accept() (net.Conn, error) {
	select {
	case nc := <-f.conns:
		return nc, nil
	case <-f.quit:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (f *feed) Close() error {
	f.once.Do(func() { close(f.quit) })
	return nil
}

// Addr is no address of the network's.
func (f *feed) Addr() net.Addr { return &net.UnixAddr{Name: "h2", Net: "unix"} }
