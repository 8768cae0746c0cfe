package memcache

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const wait = time.Minute

// hangUp is an answer: the connection is closed.
const hangUp = "hang up"

// fake is a server that answers lines as it is told, and remembers them.
type fake struct {
	ln     net.Listener
	answer func(line string) string
	mu     sync.Mutex // guards all below
	lines  []string
	conns  []net.Conn
}

func newFake(t *testing.T, answer func(line string) string) *fake {
	t.Helper()
	f := &fake{answer: answer}
	f.listen(t, "127.0.0.1:0")
	return f
}

func (f *fake) listen(t *testing.T, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	f.ln = ln
	var done sync.WaitGroup
	done.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, nc)
			f.mu.Unlock()
			done.Go(func() { f.serve(nc) })
		}
	})
	t.Cleanup(func() { f.stop(); done.Wait() })
}

func (f *fake) serve(nc net.Conn) {
	defer nc.Close()
	for r := bufio.NewReader(nc); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		f.mu.Lock()
		f.lines = append(f.lines, line)
		f.mu.Unlock()
		reply := f.answer(line)
		if reply == hangUp {
			return
		}
		if _, err := io.WriteString(nc, reply); err != nil {
			return
		}
	}
}

// stop closes the listener and all connections.
func (f *fake) stop() {
	_ = f.ln.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, nc := range f.conns {
		_ = nc.Close()
	}
}

func (f *fake) addr() string { return f.ln.Addr().String() }

func (f *fake) heard(prefix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.lines {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}

func (f *fake) accepted() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.conns)
}

// classic answers as a server without the meta protocol that has a value of "v" for each key.
func classic(line string) string {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "gets":
		b := ""
		for key := range strings.FieldsSeq(rest) {
			b += "VALUE " + key + " 0 1 5\r\nv\r\n"
		}
		return b + "END\r\n"
	case "incr":
		return "5\r\n"
	case "version":
		return "VERSION 1\r\n"
	}
	return "ERROR\r\n"
}

// testClock is moved by hand.
type testClock struct{ at atomic.Int64 }

func (c *testClock) now() time.Time          { return time.Unix(1e9, c.at.Load()) }
func (c *testClock) advance(d time.Duration) { c.at.Add(int64(d)) }

func (c *testClock) option() Option { return func(o *options) { o.now = c.now } }

func client(t *testing.T, addrs []string, opts ...Option) *Client {
	t.Helper()
	c, err := New(servers(t, addrs...), append([]Option{WithTimeout(wait, wait)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// counting dials, and counts how often.
func counting(n *atomic.Int64) Option {
	return WithDialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	})
}

// A server that fails is set aside, tried by one request after a time that doubles, and in use again when that goes well.
func TestADeadServerIsSetAside(t *testing.T) {
	f := newFake(t, classic)
	addr := f.addr()
	f.stop()
	var clock testClock
	var dials atomic.Int64
	c := client(t, []string{addr}, WithEject(2, time.Second, 3*time.Second), clock.option(), counting(&dials))
	get := func(aside bool, dialled int64) {
		t.Helper()
		dials.Store(0)
		_, err := c.Get(t.Context(), "a")
		if err == nil || errors.Is(err, ErrUnavailable) != aside || dials.Load() != dialled {
			t.Fatalf("%v after %d dials; want set aside: %v after %d", err, dials.Load(), aside, dialled)
		}
	}
	get(false, 1)
	get(false, 1)
	for _, pause := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
		get(true, 0)
		if s := c.Servers()[0]; !s.Until.Equal(clock.now().Add(pause)) {
			t.Fatalf("set aside up to %v; want %v from %v", s.Until, pause, clock.now())
		}
		clock.advance(pause - 1)
		get(true, 0)
		clock.advance(1)
		get(false, 1)
	}
	f.listen(t, addr)
	get(true, 0)
	clock.advance(3 * time.Second)
	for range 2 {
		if _, err := c.Get(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	if s := c.Servers()[0]; !s.Until.IsZero() || s.Failures != 0 || s.Ejections != 5 {
		t.Fatalf("%+v; want it in use", s)
	}
}

// While one request tries whether a server is back, others do not wait for it.
func TestOneRequestTries(t *testing.T) {
	b := newBackend(Server{"a", 1, 1}, &options{failures: 1, minEject: time.Second, maxEject: time.Second, maxConns: 1, now: new(testClock).now})
	var clock testClock
	b.opts.now = clock.now
	if !b.admit() {
		t.Fatal("not admitted at first")
	}
	b.settle(failed)
	clock.advance(time.Second)
	if first, second := b.admit(), b.admit(); !first || second {
		t.Fatalf("admitted %v, %v; want the first alone", first, second)
	}
	b.settle(unknown) // the caller gave up: somebody else tries
	if first, second := b.admit(), b.admit(); !first || second {
		t.Fatalf("admitted %v, %v; want the first alone", first, second)
	}
	b.settle(worked)
	if first, second := b.admit(), b.admit(); !first || !second {
		t.Fatalf("admitted %v, %v; want both", first, second)
	}
}

// A server that hangs costs one timeout.
func TestAHangingServerCostsOneTimeout(t *testing.T) {
	f := newFake(t, func(line string) string {
		if line == "mn" {
			return "MN\r\n"
		}
		return ""
	})
	var clock testClock
	c := client(t, []string{f.addr()}, WithEject(1, time.Second, time.Second), WithTimeout(20*time.Millisecond, wait), clock.option())
	if _, err := c.Get(t.Context(), "a"); !isTimeout(err) {
		t.Fatalf("%v; want a timeout", err)
	}
	for range 10 {
		if _, err := c.Get(t.Context(), "a"); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("%v; want ErrUnavailable", err)
		}
	}
	if n := f.heard("mg "); n != 1 {
		t.Fatalf("%d requests; want 1", n)
	}
}

// A context that is cancelled ends the request, says nothing of the server, and its connection, on which an answer may come yet, is not used
// again.
func TestCancel(t *testing.T) {
	asked := make(chan struct{}, 10)
	var mute atomic.Bool
	mute.Store(true)
	f := newFake(t, func(line string) string {
		if strings.HasPrefix(line, "gets") && mute.Load() {
			asked <- struct{}{}
			return ""
		}
		return classic(line)
	})
	c := client(t, []string{f.addr()}, WithEject(1, time.Hour, time.Hour))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := c.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v; want context.Canceled", err)
	}
	if _, err := c.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v; want context.Canceled", err)
	}
	mute.Store(false)
	if i, err := c.Get(t.Context(), "b"); err != nil || string(i.Value) != "v" {
		t.Fatalf("%v, %v", i, err)
	}
	if n := f.accepted(); n != 2 {
		t.Fatalf("%d connections; want a second one", n)
	}
	short, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	if _, err := c.Get(short, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v; want context.DeadlineExceeded", err)
	}
}

// keysOn returns n keys that the ring has on a server.
func keysOn(c *Client, server, n int) (keys []string) {
	for _, k := range someKeys(2000) {
		if c.ring.Place(k) == server && len(keys) < n && !strings.Contains(k, "\xff") {
			keys = append(keys, k)
		}
	}
	return keys
}

func TestFailover(t *testing.T) {
	dead, well := newFake(t, classic), newFake(t, classic)
	dead.stop()
	for _, over := range []bool{false, true} {
		opts := []Option{WithEject(1, time.Hour, time.Hour)}
		if over {
			opts = append(opts, WithFailover())
		}
		c := client(t, []string{dead.addr(), well.addr()}, opts...)
		keys := append(keysOn(c, 0, 5), keysOn(c, 1, 5)...)
		for range 2 { // when it fails, and when it is set aside
			got, err := c.GetMulti(t.Context(), keys)
			if over && (err != nil || len(got) != 10) || !over && (err == nil || len(got) != 5 || got[keys[9]] == nil) {
				t.Fatalf("failover %v: %d items, %v", over, len(got), err)
			}
			if _, err := c.Get(t.Context(), keys[0]); (err == nil) != over {
				t.Fatalf("failover %v: %v", over, err)
			}
			if n, err := c.Increment(t.Context(), keys[0], 1); (err == nil) != over || over && n != 5 {
				t.Fatalf("failover %v: increment: %d, %v", over, n, err)
			}
		}
	}
}

// With failover, when nobody is left, there is an error and no endless search.
func TestFailoverToNobody(t *testing.T) {
	a, b := newFake(t, classic), newFake(t, classic)
	a.stop()
	b.stop()
	c := client(t, []string{a.addr(), b.addr()}, WithFailover(), WithEject(1, time.Hour, time.Hour))
	for range 3 {
		if _, err := c.Get(t.Context(), "a"); err == nil {
			t.Fatal("no error")
		}
		if got, err := c.GetMulti(t.Context(), []string{"a", "b", "c", "d"}); err == nil || len(got) != 0 {
			t.Fatalf("%v, %v", got, err)
		}
	}
}

// An Increment whose answer was lost may have been done: it is not sent again, here or elsewhere. A Get is.
func TestWhatMayHaveBeenDoneIsNotSentAgain(t *testing.T) {
	lose := func(line string) string {
		if line == "mn" {
			return "ERROR\r\n"
		}
		return hangUp
	}
	a, b := newFake(t, lose), newFake(t, classic)
	c := client(t, []string{a.addr(), b.addr()}, WithFailover(), WithEject(0, time.Hour, time.Hour))
	key := keysOn(c, 0, 1)[0]
	if _, err := c.Increment(t.Context(), key, 1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("%v; want an unexpected EOF", err)
	}
	if m, n := a.heard("incr"), b.heard("incr"); m != 1 || n != 0 {
		t.Fatalf("heard %d and %d times; want 1 and 0", m, n)
	}
	if _, err := c.Get(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

// A server that was restarted has closed the idle connections: the next request does not fail for that.
func TestRestartBetweenRequests(t *testing.T) {
	f := newFake(t, classic)
	addr := f.addr()
	c := client(t, []string{addr})
	if _, err := c.Increment(t.Context(), "a", 1); err != nil {
		t.Fatal(err)
	}
	idle := c.backends[0].idle[0].nc
	f.stop()
	for alive(idle) { // until the end of the connection has come
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
	f.listen(t, addr)
	if _, err := c.Increment(t.Context(), "a", 1); err != nil {
		t.Fatal(err)
	}
}

// What makes no sense closes the connection, so that it cannot be taken for the answer to the next request.
func TestNonsense(t *testing.T) {
	for name, test := range map[string]struct {
		reply string
		want  error
	}{
		"word":        {"WHAT\r\n", ErrProtocol},
		"other key":   {"VALUE b 0 1 5\r\nv\r\nEND\r\n", ErrProtocol},
		"no end":      {"VALUE a 0 1 5\r\nv\r\nVALUE a 0 1 5\r\nv\r\nEND\r\n", ErrProtocol},
		"short size":  {"VALUE a 0 1 5\r\nvvv\r\nEND\r\n", ErrProtocol},
		"large":       {"VALUE a 0 101 5\r\n", ErrTooLarge},
		"long line":   {strings.Repeat("x", MaxLine+10) + "\r\n", ErrProtocol},
		"more behind": {"END\r\nEND\r\n", ErrCacheMiss},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(line string) string {
				if line == "gets a" {
					return test.reply
				}
				return classic(line)
			})
			c := client(t, []string{f.addr()}, WithMaxValue(100))
			if i, err := c.Get(t.Context(), "a"); !errors.Is(err, test.want) {
				t.Fatalf("%v, %v; want %v", i, err, test.want)
			}
			if i, err := c.Get(t.Context(), "b"); err != nil || i.Key != "b" || string(i.Value) != "v" {
				t.Fatalf("after it: %+v, %v", i, err)
			}
		})
	}
}

// Auto speaks the meta protocol with those that know it.
func TestProtocolIsFoundOut(t *testing.T) {
	old := newFake(t, classic)
	if _, err := client(t, []string{old.addr()}).Get(t.Context(), "a"); err != nil || old.heard("mn") != 1 || old.heard("gets a") != 1 {
		t.Fatalf("%v; heard %q", err, old.lines)
	}
	young := newFake(t, func(line string) string {
		if line == "mn" {
			return "MN\r\n"
		}
		return "VA 1 c5 f0\r\nv\r\n"
	})
	if _, err := client(t, []string{young.addr()}).Get(t.Context(), "a"); err != nil || young.heard("mn") != 1 || young.heard("mg a") != 1 {
		t.Fatalf("%v; heard %q", err, young.lines)
	}
}

// No more connections than allowed: who finds none waits, and gives up when its context says so.
func TestConnectionsAreLimited(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	f := newFake(t, func(line string) string {
		if line == "gets slow" {
			asked <- struct{}{}
			<-release
		}
		return classic(line)
	})
	c := client(t, []string{f.addr()}, WithConns(1, 1), WithEject(1, time.Hour, time.Hour))
	got := make(chan error, 2)
	go func() { _, err := c.Get(t.Context(), "slow"); got <- err }()
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.backends[0].slot(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v; want context.Canceled", err)
	}
	go func() { _, err := c.Get(t.Context(), "quick"); got <- err }()
	close(release)
	for range 2 {
		if err := <-got; err != nil {
			t.Fatal(err)
		}
	}
	if n := f.accepted(); n != 1 {
		t.Fatalf("%d connections; want 1", n)
	}
}

func TestClose(t *testing.T) {
	f := newFake(t, classic)
	c := client(t, []string{f.addr()}, WithFailover())
	if _, err := c.Get(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), "a"); !errors.Is(err, ErrClosed) {
			t.Fatalf("%v; want ErrClosed", err)
		}
	}
	if s := c.Servers()[0]; s.Idle != 0 {
		t.Fatalf("%+v", s)
	}
}

// A value that is longer than what memory is taken for at first, whole and cut off.
func TestLargeValues(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 3*growth/16) + "x"
	f := newFake(t, func(line string) string {
		head := "VALUE a 0 " + strconv.Itoa(len(long)) + " 5\r\n" + long
		switch line {
		case "gets a":
			return head + "\r\nEND\r\n"
		case "gets b": // more was announced than comes before the end
			return strings.Replace(head, "VALUE a", "VALUE b", 1)[:2*growth]
		case "quit":
			return hangUp
		}
		return classic(line)
	})
	c := client(t, []string{f.addr()})
	if i, err := c.Get(t.Context(), "a"); err != nil || string(i.Value) != long {
		t.Fatalf("%v; want %d bytes", err, len(long))
	}
	cn, err := dial(t.Context(), c.backends[0].server, &c.opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cn.w.WriteString("gets b\r\nquit\r\n"); err != nil {
		t.Fatal(err)
	}
	if i, err := cn.classicItem("b"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("%v, %v; want an unexpected EOF", i != nil, err)
	}
	_ = cn.nc.Close()
}

func TestExpire(t *testing.T) {
	const month = 30 * 24 * time.Hour
	for d, want := range map[time.Duration]int32{
		-1: -1, 0: -1, 1: 1, time.Second: 1, time.Second + 1: 2, month: 2592000, 1<<63 - 1: 1<<31 - 1,
	} {
		if got := Expire(d); got != want {
			t.Errorf("Expire(%v) = %d; want %d", d, got, want)
		}
	}
	before := time.Now().Add(month + time.Hour).Unix()
	if got := int64(Expire(month + time.Hour)); got < before || got > time.Now().Add(month+time.Hour).Unix() {
		t.Errorf("beyond a month: %d; want a Unix time of at least %d", got, before)
	}
}

// An error of one server is told even if the keys of another, which failed too, are found elsewhere.
func TestFailoverHidesNoOtherError(t *testing.T) {
	dead, well := newFake(t, classic), newFake(t, classic)
	dead.stop()
	refusing := newFake(t, func(line string) string {
		if line == "mn" {
			return "ERROR\r\n"
		}
		return "SERVER_ERROR out of memory\r\n"
	})
	c := client(t, []string{dead.addr(), well.addr(), refusing.addr()}, WithEject(1, time.Hour, time.Hour), WithFailover(), WithDistribution(Jump))
	var keys []string // of the dead one, those that fall to the one that is well; the one that refuses has its own
	for _, k := range keysOn(c, 0, 100) {
		if c.ring.place(k, func(i int) bool { return i != 0 }) == 1 && len(keys) < 5 {
			keys = append(keys, k)
		}
	}
	keys = append(keys, keysOn(c, 2, 5)...)
	got, err := c.GetMulti(t.Context(), keys)
	var refused *ServerError
	if !errors.As(err, &refused) || len(got) != 5 {
		t.Fatalf("%d items, %v; want 5 and what the server says", len(got), err)
	}
}

// A server whose weight is so low that it has no part of the ring is nobody's place, also when the other fails.
func TestFailoverToWhoHasNoPart(t *testing.T) {
	dead, small := newFake(t, classic), newFake(t, classic)
	dead.stop()
	c := client(t, []string{dead.addr() + "/?1000", small.addr()}, WithFailover())
	if _, err := c.Get(t.Context(), "a"); err == nil {
		t.Error("Get: no error")
	}
	if got, err := c.GetMulti(t.Context(), []string{"a", "b"}); err == nil || len(got) != 0 {
		t.Errorf("GetMulti: %v, %v", got, err)
	}
}

// What came from a server before it failed is not overwritten by what another one has.
func TestFailoverKeepsWhatHasCome(t *testing.T) {
	half := newFake(t, func(line string) string {
		word, rest, _ := strings.Cut(line, " ")
		if word != "gets" {
			return classic(line)
		}
		first, _, _ := strings.Cut(rest, " ")
		return "VALUE " + first + " 0 3 5\r\nnew\r\nnonsense\r\n"
	})
	well := newFake(t, classic)
	c := client(t, []string{half.addr(), well.addr()}, WithFailover(), WithEject(0, time.Hour, time.Hour))
	keys := keysOn(c, 0, 3)
	got, err := c.GetMulti(t.Context(), keys)
	if err != nil || len(got) != 3 || string(got[keys[0]].Value) != "new" || string(got[keys[1]].Value) != "v" {
		t.Fatalf("%v, %v", got, err)
	}
	if n := well.heard("gets " + keys[0]); n != 0 {
		t.Errorf("what was there was asked for %d times", n)
	}
}

// A context that ends while all connections are in use says nothing of the server.
func TestWaitingForAConnectionIsNoFailure(t *testing.T) {
	f := newFake(t, classic)
	c := client(t, []string{f.addr()}, WithConns(1, 1), WithEject(1, time.Hour, time.Hour))
	c.backends[0].slots <- struct{}{}
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(time.Millisecond))
	defer cancel()
	if _, err := c.Get(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v; want a deadline", err)
	}
	<-c.backends[0].slots
	if s := c.Servers()[0]; s.Failures != 0 || s.Ejections != 0 {
		t.Fatalf("%+v", s)
	}
	if _, err := c.Get(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
}
