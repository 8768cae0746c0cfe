package netpoll_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wheelhouse/internal/netpoll"
	"wheelhouse/internal/rawio"
)

// newPoller is a poller that is closed when the test ends, and must then have left nothing.
func newPoller(t *testing.T) *netpoll.Poller {
	t.Helper()
	p := netpoll.New()
	t.Cleanup(p.Close)
	return p
}

// pair is a connection of p and its other end, which is of package net.
func pair(t *testing.T, p *netpoll.Poller, network string) (c *netpoll.Conn, other net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	other, err = net.Dial(network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := p.Listener(ln).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close(); other.Close() })
	c, ok := nc.(*netpoll.Conn)
	if !ok {
		t.Fatalf("a %T was accepted", nc)
	}
	return c, other
}

// TestConn moves more than the sockets hold both ways at once.
func TestConn(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			c, other := pair(t, newPoller(t), network)
			if got, want := c.LocalAddr().String(), other.RemoteAddr().String(); got != want {
				t.Errorf("LocalAddr = %s, want %s", got, want)
			}
			if got, want := c.RemoteAddr().String(), other.LocalAddr().String(); got != want {
				t.Errorf("RemoteAddr = %s, want %s", got, want)
			}
			sent := make([]byte, 12<<20)
			rand.Read(sent)
			var wg sync.WaitGroup
			for _, way := range [][2]net.Conn{{c, other}, {other, c}} {
				wg.Go(func() {
					if n, err := way[0].Write(sent); n != len(sent) || err != nil {
						t.Errorf("wrote %d, %v", n, err)
					}
				})
				wg.Go(func() {
					got := make([]byte, len(sent))
					if _, err := io.ReadFull(way[1], got); err != nil || !bytes.Equal(got, sent) {
						t.Errorf("what was read is not what was sent: %v", err)
					}
				})
			}
			wg.Wait()
			if n, err := c.Read(nil); n != 0 || err != nil {
				t.Errorf("Read of nothing = %d, %v", n, err)
			}
			other.Close()
			if n, err := c.Read(make([]byte, 10)); n != 0 || err != io.EOF {
				t.Errorf("Read at the end = %d, %v, want 0, EOF", n, err)
			}
			for err := error(nil); ; {
				if _, err = c.Write(sent); err == nil {
					continue // the reset is on its way
				}
				var op *net.OpError
				if !errors.As(err, &op) || op.Op != "write" || op.Net != network || !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("Write to nobody: %v", err)
				}
				break
			}
		})
	}
}

// What has come before a connection was taken over, the end too, is seen.
func TestWhatCameBefore(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	other, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(other, "before")
	other.Close()
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := newPoller(t).Wrap(nc)
	defer c.Close()
	if got, err := io.ReadAll(c); string(got) != "before" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection that was taken over: %v, want it closed", err)
	}
}

func TestDeadlines(t *testing.T) {
	c, other := pair(t, newPoller(t), "tcp")
	late := func(what string, err error) {
		t.Helper()
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v, want a timeout", what, err)
		}
	}
	b := make([]byte, 1)
	c.SetDeadline(time.Now().Add(10 * time.Millisecond))
	_, err := c.Read(b)
	late("Read", err)
	_, err = c.Write(make([]byte, 32<<20))
	late("Write", err)

	c.SetReadDeadline(time.Time{})
	done := make(chan error)
	read := func() { _, err := c.Read(b); done <- err }
	go read()
	c.SetReadDeadline(time.Now().Add(-time.Second)) // it may be before the read begins, or wake it
	late("woken Read", <-done)
	io.WriteString(other, "x")
	_, err = c.Read(b)
	late("Read of what has come, after the deadline", err)

	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	c.SetReadDeadline(time.Now().Add(time.Hour)) // the first does not count any more
	if _, err := c.Read(b); err != nil {
		t.Errorf("Read before the deadline: %v", err)
	}
	go read()
	c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	late("Read whose deadline was set while it waited", <-done)
	c.SetReadDeadline(time.Time{})
	go read()
	io.WriteString(other, "x")
	if err := <-done; err != nil {
		t.Errorf("Read without a deadline: %v", err)
	}
}

// Close wakes whoever waits, and the descriptor is given back when they have gone.
func TestClose(t *testing.T) {
	c, other := pair(t, newPoller(t), "tcp")
	done := make(chan error, 2)
	go func() { _, err := c.Read(make([]byte, 1)); done <- err }()
	go func() { _, err := c.Write(make([]byte, 32<<20)); done <- err }()
	raw := c.Raw()
	if err := raw.Control(func(uintptr) { c.Close() }); err != nil { // it is kept open as long as it is used
		t.Error(err)
	}
	for range 2 {
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("woken: %v, want net.ErrClosed", err)
		}
	}
	_, rerr := c.Read(make([]byte, 1))
	_, werr := c.Write([]byte("x"))
	_, ferr := c.File()
	for what, err := range map[string]error{
		"Read": rerr, "Write": werr, "File": ferr, "Close": c.Close(), "SetDeadline": c.SetDeadline(time.Now()), "CloseWrite": c.CloseWrite(),
		"SetLinger": c.SetLinger(0), "Control": raw.Control(func(uintptr) {}), "RawConn.Read": raw.Read(func(uintptr) bool { return true }),
	} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s of a closed connection: %v", what, err)
		}
	}
	if _, err := io.Copy(io.Discard, other); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the other end: %v, want the end", err)
	}
}

func TestOptions(t *testing.T) {
	c, other := pair(t, newPoller(t), "tcp")
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	if _, err := other.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after CloseWrite the other end reads %v", err)
	}
	io.WriteString(other, "still")
	if n, err := c.Read(make([]byte, 9)); n != 5 || err != nil {
		t.Errorf("after CloseWrite Read = %d, %v", n, err)
	}
	if err := c.SetWriteBuffer(8 << 10); err != nil {
		t.Error(err)
	}
	c.Raw().Control(func(fd uintptr) {
		if got, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF); got != 16<<10 || err != nil { // socket(7): doubled
			t.Errorf("SO_SNDBUF = %d, %v", got, err)
		}
	})

	c, other = pair(t, newPoller(t), "tcp")
	if err := c.SetLinger(0); err != nil {
		t.Error(err)
	}
	c.Close()
	if _, err := other.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after SetLinger(0) and Close the other end reads %v, want a reset", err)
	}
}

// A descriptor that was given away lives on, and its events are the poller's no more.
func TestFile(t *testing.T) {
	p := newPoller(t)
	c, other := pair(t, p, "tcp")
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	nc, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	c = p.Wrap(nc).(*netpoll.Conn)
	defer c.Close()
	go io.WriteString(other, "on")
	b := make([]byte, 9)
	if n, err := c.Read(b); string(b[:n]) != "on" || err != nil {
		t.Errorf("read %q, %v", b[:n], err)
	}
}

// Many connections talk at once, more than a loop takes at once.
func TestMany(t *testing.T) {
	p := newPoller(t)
	const conns, rounds = 150, 40
	loops := map[int]int{}
	var talking sync.WaitGroup
	for range conns {
		c, other := pair(t, p, "tcp")
		o := p.Wrap(other)
		defer o.Close()
		loops[c.Loop()]++
		loops[o.(*netpoll.Conn).Loop()]++
		talking.Go(func() {
			b := make([]byte, 100)
			for i := range rounds {
				if _, err := o.Write(b[:1+i%len(b)]); err != nil {
					t.Error(err)
					return
				}
				if _, err := io.ReadFull(o, b[:1+i%len(b)]); err != nil {
					t.Error(err)
					return
				}
			}
			o.(*netpoll.Conn).CloseWrite()
		})
		talking.Go(func() {
			if _, err := io.Copy(c, c); err != nil {
				t.Error(err)
			}
		})
	}
	talking.Wait()
	if len(loops) != runtime.GOMAXPROCS(0) {
		t.Errorf("the connections are spread over %v, want %d loops", loops, runtime.GOMAXPROCS(0))
	}
}

// trip sends a byte and waits for the answer.
type trip struct {
	c     *netpoll.Conn
	sent  bool
	stray bool // something had come before
	in    [1]byte
	err   error
}

func (t *trip) step(fd uintptr) bool {
	if !t.sent {
		if n, err := rawio.Peek(fd, t.in[:]); n > 0 || err == nil {
			t.stray = true
			return true
		}
		t.sent = true
		_, t.err = rawio.Write(fd, t.in[:])
		return t.err != nil
	}
	_, t.err = rawio.Read(fd, t.in[:])
	return t.err != syscall.EAGAIN
}

// Requests that are sent together are all answered.
func TestReadLater(t *testing.T) {
	p := newPoller(t)
	const conns, rounds = 100, 50
	var talking sync.WaitGroup
	for i := range conns {
		c, other := pair(t, p, "tcp")
		o := p.Wrap(other)
		talking.Go(func() { io.Copy(o, o) })
		talking.Go(func() {
			defer c.CloseWrite()
			for j := range rounds {
				tr := trip{c: c, in: [1]byte{byte(i + j)}}
				if err := c.ReadLater(tr.step); err != nil || tr.err != nil || tr.stray || tr.in[0] != byte(i+j) {
					t.Errorf("%d of connection %d: %v, %v, %t, %d", j, i, err, tr.err, tr.stray, tr.in[0])
					return
				}
			}
		})
	}
	talking.Wait()
}

// What has come before a request is sent is there for its first try; a deadline, the connection's end and the poller's all end it, at whatever moment.
func TestReadLaterEnds(t *testing.T) {
	p := newPoller(t)
	c, other := pair(t, p, "tcp")
	io.WriteString(other, "unasked")
	c.Raw().Read(func(fd uintptr) bool { n, _ := rawio.Peek(fd, make([]byte, 1)); return n > 0 })
	tr := trip{c: c}
	if err := c.ReadLater(tr.step); err != nil || !tr.stray || tr.sent {
		t.Errorf("what came before: %v, seen: %t, sent: %t", err, tr.stray, tr.sent)
	}
	for name, tc := range map[string]struct {
		end  func(*netpoll.Conn)
		want error
	}{
		"deadline":        {func(c *netpoll.Conn) { c.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"its end":         {func(c *netpoll.Conn) { c.Close() }, net.ErrClosed},
		"the poller's":    {nil, net.ErrClosed},
		"its other end's": {func(*netpoll.Conn) {}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPoller(t)
			var busy, waiting sync.WaitGroup
			for i := range 200 {
				c, other := pair(t, p, "tcp")
				if i%4 == 0 { // keeps the loops in their rounds
					o := p.Wrap(other)
					busy.Go(func() { io.Copy(o, o) })
					busy.Go(func() {
						for range 100 {
							tr := trip{c: c}
							if c.ReadLater(tr.step) != nil || tr.err != nil {
								return
							}
						}
					})
					defer o.Close()
					continue
				}
				waiting.Go(func() {
					tr := trip{c: c}
					if err := c.ReadLater(tr.step); !errors.Is(err, tc.want) && !(name == "the poller's" && tr.stray) {
						t.Errorf("%v, want %v", err, tc.want)
					}
				})
				if tc.end != nil {
					tc.end(c)
					other.Close()
				}
			}
			if tc.end == nil {
				p.Close()
			}
			waiting.Wait()
			p.Close()
			busy.Wait()
		})
	}
}

// echo is a connection to one that sends back what it gets.
func echo() (net.Conn, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return nil, err
	}
	served, err := ln.Accept()
	if err != nil {
		nc.Close()
		return nil, err
	}
	go func() {
		defer served.Close()
		b := make([]byte, 1)
		for {
			if _, err := served.Read(b); err != nil {
				return
			}
			if _, err := served.Write(b); err != nil {
				return
			}
		}
	}()
	return nc, nil
}

// While loops are busy all the time others have their turn.
func TestOthersHaveTheirTurn(t *testing.T) {
	p := newPoller(t)
	var stop atomic.Bool
	var talking sync.WaitGroup
	var turns atomic.Int64
	for range 4 * runtime.GOMAXPROCS(0) {
		a, other := pair(t, p, "unix")
		b := p.Wrap(other)
		defer b.Close()
		talk := func(c net.Conn) {
			x := []byte{1}
			for !stop.Load() {
				if _, err := c.Write(x); err != nil {
					return
				}
				if _, err := c.Read(x); err != nil {
					return
				}
				turns.Add(1)
			}
			c.Close()
		}
		talking.Go(func() { talk(a) })
		talking.Go(func() { talk(b) })
	}
	for turns.Load() == 0 {
		runtime.Gosched()
	}
	there, err := echo() // waits in the runtime's poller
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	const asked = 200
	from, began := turns.Load(), time.Now()
	for range asked {
		b := []byte{1}
		if _, err := there.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(there, b); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d answers of another took %v, and %d reads", asked, time.Since(began), turns.Load()-from)
	stop.Store(true)
	talking.Wait()
}

// Close ends the connections that are left and all goroutines, and what comes later is served by the runtime.
func TestPollerClose(t *testing.T) {
	p := netpoll.New()
	c, other := pair(t, p, "tcp")
	done := make(chan error)
	go func() { _, err := c.Read(make([]byte, 1)); done <- err }()
	p.Close()
	p.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection that was left: %v", err)
	}
	if _, err := other.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("its other end: %v", err)
	}
	if got := p.Wrap(other); got != other {
		t.Errorf("Wrap after Close gave a %T", got)
	}
	b := make([]byte, 1<<20)
	if stacks := string(b[:runtime.Stack(b, true)]); strings.Contains(stacks, "netpoll.(*loop)") {
		t.Errorf("a loop is left:\n%s", stacks)
	}
}

// What is no socket of the kernel's stays as it is, and so does everything without a poller.
func TestNotWrapped(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if got := newPoller(t).Wrap(a); got != a {
		t.Errorf("a pipe became a %T", got)
	}
	_, other := pair(t, newPoller(t), "tcp")
	var none *netpoll.Poller
	if got := none.Wrap(other); got != other {
		t.Errorf("without a poller a connection became a %T", got)
	}
	none.Close()
}
