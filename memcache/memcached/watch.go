package memcached

import (
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/memcache/segcache"
)

// watchKind is a stream of the log, as the command watch names them.
type watchKind uint32

const (
	watchFetch watchKind = 1 << iota
	watchMutate
	watchEvict
	watchConn
	watchDelete
	watchSys
	watchRaw
	watchProxy // accepted; there is no proxy
)

var watchNames = map[string]watchKind{
	"fetchers": watchFetch, "mutations": watchMutate, "evictions": watchEvict, "connevents": watchConn, "deletions": watchDelete,
	"sysevents": watchSys, "rawcmds": watchRaw, "proxyreqs": watchProxy, "proxyevents": watchProxy, "proxyuser": watchProxy,
}

// rawText is how much of a command a watcher sees, in bytes.
const rawText = 512

// watchBuffer bounds the lines that wait for a watcher, in bytes; what comes beyond is skipped.
const watchBuffer = 256 << 10

// watchers are the connections that watch.
type watchers struct {
	s       *Server
	kinds   atomic.Uint32 // that anybody wants
	gid     atomic.Uint64
	sent    atomic.Uint64
	skipped atomic.Uint64
	mu      sync.Mutex
	list    map[*watcher]struct{}
}

type watcher struct {
	kinds   watchKind
	ready   chan struct{}
	mu      sync.Mutex
	buf     []byte
	skipped uint64
	seen    uint64 // lines
}

func (w *watchers) init(s *Server)         { w.s, w.list = s, map[*watcher]struct{}{} }
func (w *watchers) wants(k watchKind) bool { return w.kinds.Load()&uint32(k) != 0 }

// line sends a line to those who want it. rest is what follows the type.
func (w *watchers) line(k watchKind, format string, args ...any) {
	now := time.Now()
	text := fmt.Appendf(nil, "ts=%d.%06d gid=%d ", now.Unix(), now.Nanosecond()/1000, w.gid.Add(1))
	text = fmt.Appendf(text, format+"\n", args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	for x := range w.list {
		if x.kinds&k != 0 {
			x.add(w, text)
		}
	}
}

func (x *watcher) add(w *watchers, text []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.buf)+len(text) > watchBuffer {
		x.skipped++
		w.skipped.Add(1)
		return
	}
	if x.skipped > 0 {
		x.buf = fmt.Appendf(x.buf, "skipped=%d\n", x.skipped)
		x.skipped = 0
	}
	x.buf = append(x.buf, text...)
	x.seen++
	w.sent.Add(1)
	select {
	case x.ready <- struct{}{}:
	default:
	}
}

func (w *watchers) change(x *watcher, add bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if add {
		if len(w.list) >= maxWatchers {
			return false
		}
		w.list[x] = struct{}{}
	} else {
		delete(w.list, x)
	}
	all := watchKind(0)
	for x := range w.list {
		all |= x.kinds
	}
	w.kinds.Store(uint32(all))
	w.s.cache.Watch(all&watchEvict != 0)
	return true
}

func (w *watchers) number() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.list)
}

// watchCommand makes the connection a watcher, until the client closes it: then there is an error.
func (c *conn) watchCommand(tok [][]byte) error {
	s := c.s
	if s.opts.NoWatch {
		c.answer("CLIENT_ERROR watch commands not allowed")
		return nil
	}
	if c.datagram {
		c.answer(plainError)
		return nil
	}
	x := &watcher{ready: make(chan struct{}, 1)}
	for _, t := range tok {
		k, ok := watchNames[string(t)]
		if !ok {
			c.answer(plainError)
			return nil
		}
		x.kinds |= k
	}
	if len(tok) == 0 {
		x.kinds = watchFetch
	}
	if !s.watch.change(x, true) {
		c.answer("WATCHER_TOO_MANY log watcher limit reached")
		return nil
	}
	defer s.watch.change(x, false)
	if err := c.hijack(); err != nil {
		return err
	}
	c.watching.Store(true)
	c.answer("OK")
	if err := c.flush(); err != nil {
		return err
	}
	gone := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(gone)
		var sink [512]byte
		for {
			if _, err := c.nc.Read(sink[:]); err != nil {
				return
			}
		}
	})
	defer reader.Wait()
	defer c.close("normal")
	for {
		select {
		case <-gone:
			return errClosed
		case <-x.ready:
		}
		x.mu.Lock()
		b := x.buf
		x.buf = nil
		x.mu.Unlock()
		if err := c.write(b); err != nil {
			return err
		}
	}
}

// looked reports a look-up to those who watch. The access is not ended.
func (w *watchers) looked(c *conn, key []byte, found bool, t *segcache.Txn) {
	if w.wants(watchFetch) {
		w.fetch(c, key, found, t)
	}
}

func (w *watchers) fetch(c *conn, key []byte, found bool, t *segcache.Txn) {
	status, class, size := "not_found", 0, 0
	switch {
	case found:
		status = "found"
		class, _ = t.Size()
		class++
		size = t.Len()
	case t.Miss == segcache.Expired:
		status = "expired"
	case t.Miss == segcache.Flushed:
		status = "flushed"
	}
	w.line(watchFetch, "type=item_get key=%s status=%s clsid=%d cfd=%d size=%d", appendURI(nil, key), status, class, c.id, size)
}

func (w *watchers) stored(c *conn, r *putRequest, status string, class, size int) {
	ttl := int64(0)
	if r.exp != 0 {
		ttl = max(int64(r.exp)-int64(c.s.cache.Now()), -1)
	}
	mode := r.mode
	if r.compare && (mode == modeSet || mode == modeReplace) {
		mode = modeCAS
	}
	w.line(watchMutate, "type=item_store key=%s status=%s cmd=%s ttl=%d clsid=%d cfd=%d size=%d",
		appendURI(nil, r.key), status, mode, ttl, class+1, c.id, size)
}

func (w *watchers) deleted(c *conn, key []byte, t *segcache.Txn, cmd string) {
	class, _ := t.Size()
	w.line(watchDelete, "type=deleted key=%s cmd=%s clsid=%d size=%d", appendURI(nil, key), cmd, class+1, t.Len())
}

// evicted is called by the cache, with its locks held.
func (w *watchers) evicted(e segcache.Evicted) {
	ttl := int64(-1)
	if e.Exp != 0 {
		ttl = int64(e.Exp) - int64(w.s.cache.Now())
	}
	w.line(watchEvict, "type=eviction key=%s fetch=%s ttl=%d la=%d clsid=%d size=%d",
		appendURI(nil, e.Key), yesNo(e.Fetched), ttl, w.s.cache.Since(e.Access), e.Class+1, e.Size)
}

func (w *watchers) raw(c *conn, line []byte) {
	w.line(watchRaw, "type=raw_cmd cfd=%d cmd=%s", c.id, strconv.AppendQuoteToASCII(nil, string(line[:min(len(line), rawText)])))
}

func (c *conn) logConn() {
	if c.s.watch.wants(watchConn) {
		ip, port, transport := c.peerParts()
		c.s.watch.line(watchConn, "type=conn_new rip=%s rport=%s transport=%s cfd=%d", ip, port, transport, c.id)
	}
}

func (c *conn) logClose() {
	if c.s.watch.wants(watchConn) {
		ip, port, transport := c.peerParts()
		reason := "normal"
		if r := c.reason.Load(); r != nil {
			reason = *r
		}
		c.s.watch.line(watchConn, "type=conn_close rip=%s rport=%s transport=%s reason=%s cfd=%d", ip, port, transport, reason, c.id)
	}
}

// peerParts names the client for the log.
func (c *conn) peerParts() (ip, port, transport string) {
	ip, port, err := net.SplitHostPort(c.remote())
	if err != nil {
		return "unix", "0", "local"
	}
	return ip, port, "tcp"
}
