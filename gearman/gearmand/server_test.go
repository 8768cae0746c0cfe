package gearmand_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"wheelhouse/gearman/gearmand"
	"wheelhouse/gearman/gearmantest"
	"wheelhouse/gearman/packet"
)

func TestRoundRobin(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		robin bool
		want  string
	}{{false, "aaabbb"}, {true, "ababab"}} {
		s := serve(t, gearmand.Options{RoundRobin: tt.robin})
		c, w := s.dial(t), s.dial(t)
		for range 3 {
			c.Submit(packet.SubmitJobBG, "a", "", "a")
			c.Submit(packet.SubmitJobBG, "b", "", "b")
		}
		w.Worker("a", "b")
		got := ""
		for range 6 {
			_, data := w.Grab()
			got += data
		}
		if got != tt.want {
			t.Errorf("RoundRobin %v: %s; want %s", tt.robin, got, tt.want)
		}
	}
}

func TestWakeupLimit(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{Wakeup: 1})
	c := s.dial(t)
	var workers []*gearmantest.Conn
	for range 3 {
		w := s.dial(t).Worker("f")
		w.Send(packet.PreSleep)
		w.Nothing()
		workers = append(workers, w)
	}
	woken := func() (n int) {
		for _, w := range workers {
			w.Send(packet.EchoReq, "x")
			if p := w.Recv(); p.Type == packet.Noop {
				n++
				w.Expect(packet.EchoRes)
			}
		}
		return n
	}
	for i := range 3 {
		c.Submit(packet.SubmitJobBG, "f", "", "x")
		if n := woken(); n != 1 {
			t.Errorf("job %d woke %d workers; want 1", i, n)
		}
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{Retries: 2})
	c := s.dial(t)
	h := c.Submit(packet.SubmitJob, "f", "", "x")
	for i := range 2 {
		w := s.dial(t).Worker("f")
		if got, _ := w.Grab(); got != h {
			t.Fatalf("attempt %d: got %q", i, got)
		}
		w.Close()
		if i == 0 {
			eventually(t, "the job is queued again", func() bool { return s.Stats().Requeued == 1 })
		}
	}
	c.Expect(packet.WorkFail, h)
}

func TestExceptionsByDefault(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{Exceptions: true})
	c, w := s.dial(t), s.dial(t).Worker("f")
	h := c.Submit(packet.SubmitJob, "f", "", "x")
	w.Grab()
	w.Send(packet.WorkException, h, "boom")
	c.Expect(packet.WorkException, h, "boom")
}

// Packets may come in any pieces, many at once, and mixed with text.
func TestPieces(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{})
	var all []byte
	for i := range 300 {
		all = packet.Append(all, packet.Req, packet.EchoReq, fmt.Sprint(i))
		if i%100 == 50 {
			all = append(all, "version\n"...)
		}
	}
	for _, size := range []int{1, 7, 13, 1000, len(all)} {
		c := s.dial(t)
		go func() {
			for rest := all; len(rest) > 0; rest = rest[min(size, len(rest)):] {
				if _, err := c.Write(rest[:min(size, len(rest))]); err != nil {
					return
				}
			}
		}()
		for i := range 300 {
			c.Expect(packet.EchoRes, fmt.Sprint(i))
			if i%100 == 50 {
				if l := c.Line(); l != "OK "+gearmand.Version {
					t.Fatalf("version: %q", l)
				}
			}
		}
	}
}

// What a client asked before it closed its side is answered.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{})
	c := s.dial(t)
	n := 5000
	var all []byte
	for i := range n {
		all = packet.Append(all, packet.Req, packet.EchoReq, fmt.Sprint(i))
	}
	go func() {
		c.Write(all)
		c.Conn.(*net.TCPConn).CloseWrite()
	}()
	for i := range n {
		c.Expect(packet.EchoRes, fmt.Sprint(i))
	}
	c.Closed()
}

func TestLargePackets(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{MaxPacket: 8 << 20})
	c, w := s.dial(t), s.dial(t).Worker("f")
	data := strings.Repeat("0123456789abcdef", 6<<16)
	h := c.Submit(packet.SubmitJob, "f", "", data)
	if _, got := w.Grab(); got != data {
		t.Fatalf("the worker got %d bytes; want %d", len(got), len(data))
	}
	w.Send(packet.WorkComplete, h, data+"!")
	if got := c.Expect(packet.WorkComplete)[1]; got != data+"!" {
		t.Errorf("the client got %d bytes", len(got))
	}
	c.Raw(string(packet.AppendHeader(nil, packet.Req, packet.SubmitJob, 8<<20+1)))
	c.Expect(packet.Error, "ARGUMENT_TOO_LARGE", "SUBMIT_JOB has 8388609 bytes; this server takes 8388608")
	c.Closed()
	w.Close()
	eventually(t, "all memory is given back", func() bool { return s.Stats().Memory == 0 })
}

// Announced sizes cost nothing; what arrives is counted, for all connections together.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{MaxMemory: 1 << 20, MaxPacket: 1 << 30})
	c := s.dial(t)
	c.Raw(string(packet.AppendHeader(nil, packet.Req, packet.SubmitJobBG, 1<<30)) + "f\x00\x00")
	if m := s.Stats().Memory; m > 64<<10 {
		t.Errorf("an announcement costs %d bytes", m)
	}
	go io.Copy(c, io.LimitReader(neverEnding('x'), 4<<20)) // until it is cut off
	c.Closed()
	eventually(t, "what it has sent is given back", func() bool { return s.Stats().Memory == 0 })
	d := s.dial(t)
	refused := 0
	for range 100 {
		d.Send(packet.SubmitJobBG, "f", "", strings.Repeat("x", 20<<10))
		if p := d.Recv(); p.Type == packet.Error && p.Args()[0] == "QUEUE_ERROR" {
			refused++
		}
	}
	if refused < 40 || refused > 60 {
		t.Errorf("%d of 100 jobs of 20 KB are refused; 1 MB holds about 50", refused)
	}
}

type neverEnding byte

func (b neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

// A client that does not read is closed when too much waits for it; others are not kept waiting.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{MaxOutput: 1 << 20})
	slow, w, other := s.dial(t), s.dial(t).Worker("f"), s.dial(t)
	slow.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	h := slow.Submit(packet.SubmitJob, "f", "", "x")
	if got, _ := w.Grab(); got != h {
		t.Fatalf("got %q", got)
	}
	part := strings.Repeat("x", 100<<10)
	for i := 0; s.Stats().Slow == 0; i++ {
		if i > 1000 {
			t.Fatalf("%d MB wait for a client that does not read: %+v", i/10, s.Stats())
		}
		w.Send(packet.WorkData, h, part)
		other.Nothing()
	}
	w.Nothing()
	eventually(t, "the memory is given back", func() bool { return s.Stats().Memory < 2<<20 })
}

// A client that asks and does not read blocks itself.
func TestDeafPipeliner(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{})
	deaf, other := s.dial(t), s.dial(t)
	request := packet.Append(nil, packet.Req, packet.EchoReq, strings.Repeat("x", 64<<10))
	sent := 0
	for sent < 64<<20 {
		deaf.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := deaf.Write(request)
		sent += n
		if err != nil {
			break
		}
	}
	if sent >= 64<<20 {
		t.Error("the server takes 64 MB from a client that does not read")
	}
	if m := s.Stats().Memory; m > 2<<20 {
		t.Errorf("%d bytes wait for it", m)
	}
	other.Nothing()
}

func TestLongLine(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{})
	c := s.dial(t)
	c.Raw(strings.Repeat("x", 9000))
	if l := c.Line(); !strings.HasPrefix(l, "ERR ARGUMENT_TOO_LARGE") {
		t.Errorf("got %q", l)
	}
	c.Closed()
}

func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{MaxConns: 2})
	a, b := s.dial(t), s.dial(t)
	a.Nothing()
	b.Nothing()
	s.dial(t).Closed()
	a.Close()
	eventually(t, "there is room", func() bool { return s.Stats().Connections == 1 })
	s.dial(t).Nothing()
}

func TestTooManyFunctions(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{MaxFunctions: 3})
	c := s.dial(t)
	for _, f := range []string{"a", "b", "c"} {
		c.Submit(packet.SubmitJobBG, f, "", "x")
	}
	c.Send(packet.SubmitJobBG, "d", "", "x")
	c.Expect(packet.Error, "QUEUE_ERROR", "Too many functions")
	w := s.dial(t).Worker("b")
	h, _ := w.Grab()
	w.Send(packet.WorkComplete, h, "")
	w.Send(packet.CantDo, "b")
	w.Nothing()
	c.Submit(packet.SubmitJobBG, "d", "", "x") // b is forgotten
}

// Names with line ends do not make lines of their own.
func TestNamesInText(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{})
	c := s.dial(t)
	c.Submit(packet.SubmitJobBG, "a\nb\t1", "u\n.\n", "x")
	for _, cmd := range []string{"status", "prioritystatus", "show jobs", "show unique jobs", "jobs"} {
		if lines := c.Command(cmd); len(lines) != 1 {
			t.Errorf("%s: %q; want one line", cmd, lines)
		}
	}
}

func TestGracefulShutdown(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{})
	c, w := s.dial(t), s.dial(t).Worker("f")
	h := c.Submit(packet.SubmitJob, "f", "", "x")
	c.Submit(packet.SubmitJob, "f", "", "y")
	w.Grab()
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.WithoutCancel(t.Context())) }()
	eventually(t, "no more connections", func() bool {
		nc, err := net.Dial("tcp", s.addr)
		if err == nil {
			nc.Close()
		}
		return err != nil
	})
	if got, _ := w.Grab(); got != "" {
		t.Error("a job is handed out while the server stops")
	}
	c.Send(packet.SubmitJobBG, "f", "", "z")
	c.Expect(packet.Error, "SHUTDOWN")
	select {
	case err := <-done:
		t.Fatalf("Shutdown = %v before the job is done", err)
	default:
	}
	w.Send(packet.WorkComplete, h, "r")
	c.Expect(packet.WorkComplete, h, "r")
	if err := <-done; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	c.Closed()
}

func TestShutdownTimesOut(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{})
	c, w := s.dial(t), s.dial(t).Worker("f")
	c.Submit(packet.SubmitJob, "f", "", "x")
	w.Grab()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, gearmand.ErrForced) {
		t.Errorf("Shutdown = %v; want ErrForced", err)
	}
}

func TestShutdownCommand(t *testing.T) {
	t.Parallel()
	asked := make(chan bool, 2)
	s := serve(t, gearmand.Options{OnShutdown: func(graceful bool) { asked <- graceful }})
	c := s.dial(t)
	c.Raw("shutdown now\nshutdown graceful\nshutdown\n")
	for i, want := range []string{"ERR UNKNOWN_COMMAND Unknown+server+commandshutdown\r", "OK\r", "OK\r"} {
		if l := c.Line(); l != want {
			t.Errorf("line %d: %q; want %q", i, l, want)
		}
	}
	if !<-asked || len(asked) > 0 {
		t.Error("want one call, gracefully")
	}
}

func TestOptions(t *testing.T) {
	_, err := gearmand.Open(t.Context(), gearmand.Options{HandlePrefix: "H:a b", MaxConns: -1, MaxPacket: 1 << 33})
	for _, want := range []string{"--job-handle-prefix", "--max-connections", "--max-packet"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open = %v; want a word on %s", err, want)
		}
	}
}

func TestDoubleStop(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{})
	s.dial(t).Nothing()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// badConn is a connection whose Read panics.
type badConn struct{ net.Conn }

func (badConn) Read([]byte) (int, error) { panic("on purpose") }

func TestPanic(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{})
	ours, theirs := net.Pipe()
	defer ours.Close()
	s.ServeConn(badConn{theirs})
	eventually(t, "it is counted, and the connection is gone", func() bool { st := s.Stats(); return st.Panics == 1 && st.Connections == 0 })
	s.dial(t).Nothing()
}

// An idle connection costs little: it has no buffer.
func TestIdleConnections(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own")
	}
	s := serve(t, gearmand.Options{})
	const n = 500
	measure := func() uint64 {
		runtime.GC()
		runtime.GC() // the second empties the pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := measure()
	conns := make([]net.Conn, n)
	for i := range conns {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		b := packet.Append(nil, packet.Req, packet.CanDo, "f")
		b = packet.Append(b, packet.Req, packet.EchoReq, "x")
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(nc, make([]byte, packet.HeaderSize+1)); err != nil {
			t.Fatal(err)
		}
		conns[i] = nc
	}
	if per := (measure() - before) / n; per > 10<<10 { // the other end is in this process too
		t.Errorf("%d bytes a connection; want at most 10 KB for both ends", per)
	}
}

// Large results go to all clients from one place in memory, and what the worker sends next does not overwrite them.
func TestLargeResultForMany(t *testing.T) {
	t.Parallel()
	s := serve(t, gearmand.Options{})
	w := s.dial(t).Worker("f")
	var clients []*gearmantest.Conn
	for range 5 {
		c := s.dial(t)
		c.Submit(packet.SubmitJob, "f", "u", strings.Repeat("job", 1<<20))
		clients = append(clients, c)
	}
	h, data := w.Grab()
	if data != strings.Repeat("job", 1<<20) {
		t.Fatalf("the worker got %d bytes", len(data))
	}
	const parts = 4
	part := func(i int) string { return strings.Repeat(string(rune('a'+i)), 1<<20+i) }
	for i := range parts {
		w.Send(packet.WorkData, h, part(i))
	}
	w.Send(packet.WorkComplete, h, "end")
	for _, c := range clients {
		for i := range parts {
			c.Expect(packet.WorkData, h, part(i))
		}
		c.Expect(packet.WorkComplete, h, "end")
	}
	w.Nothing()
	for _, c := range clients {
		c.Close()
	}
	w.Close()
	eventually(t, "all memory is given back", func() bool { return s.Stats().Memory == 0 })
}

// Names are listed as they were given, also where they are no UTF-8: the other commands want them so.
func TestListsNamesAsGiven(t *testing.T) {
	t.Parallel()
	c := serve(t, gearmand.Options{}).dial(t)
	c.Raw("create function caf\xe9\n")
	c.Line()
	if got := c.Command("status"); len(got) != 1 || got[0] != "caf\xe9\t0\t0\t0" {
		t.Errorf("status: %q", got)
	}
}
