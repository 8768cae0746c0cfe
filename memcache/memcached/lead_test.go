package memcached

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"wheelhouse/memcache/memcachetest"
	"wheelhouse/memcache/segcache"
)

// stopLeader has the only leader wait for a key that others have in hand, until the function it returns is called.
func stopLeader(t *testing.T, s *testServer) (release func()) {
	t.Helper()
	var txn segcache.Txn
	c := s.dial(t)
	if got := c.Ask("get held"); got != "END" {
		t.Fatal(got)
	}
	before := s.count(bytesRead)
	s.cache.Begin(&txn, []byte("held"))
	c.Raw("get held\r\n")
	eventually(t, "the leader has read the request", func() bool { return s.count(bytesRead) > before })
	return sync.OnceFunc(func() {
		txn.End()
		c.Expect("END")
	})
}

// A read moves no more than it may (rawio.Most): what it leaves behind is read although no event will tell of it.
func TestMoreThanAReadMoves(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Threads: 1})
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(ln) })
	defer serving.Wait()
	defer ln.Close()
	nc, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := memcachetest.New(t, nc)
	before := s.count(bytesRead)
	first := "get" + strings.Repeat(" key", 80_000)
	c.Raw(first)
	eventually(t, "the first part has been read", func() bool { return s.count(bytesRead) == before+uint64(len(first)) })
	release := stopLeader(t, s)
	defer release()
	c.Raw(strings.Repeat(" key", 45_000) + "\r\n") // fits in the socket
	release()
	c.Expect("END")
}

// One whose request takes long, or for whom others must be forgotten first, does not have others wait.
func TestOthersDoNotWait(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 2*streamAbove)
	for name, tt := range map[string]struct {
		kind    watchKind // of which a watcher is told in the middle of it
		request string    // with a number for %d
		times   int
	}{
		"multiget":  {watchFetch, "get key%d" + strings.Repeat(" key", 10_000) + "\r\n", 1},
		"gat":       {watchFetch, "gat %d" + strings.Repeat(" key", 10_000) + "\r\n", 1},
		"set":       {watchEvict, "set key%d 0 0 100 noreply\r\n" + large[:100] + "\r\n", 20_000},
		"large set": {watchEvict, fmt.Sprintf("set key%%d 0 0 %d noreply\r\n%s\r\n", len(large), large), 200},
		"ms":        {watchEvict, "ms key%d 100 q\r\n" + large[:100] + "\r\n", 20_000},
		"ma":        {watchEvict, "ma key%d N0 q\r\n", 50_000},
		"mg":        {watchEvict, "mg key%d N0 q\r\n", 50_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, Options{Threads: 1, Limit: 1 << 20, still: true})
			c, other := s.dial(t), s.dial(t)
			if !s.watch.change(&watcher{kinds: tt.kind, ready: make(chan struct{}, 1)}, true) {
				t.Fatal("there is no room for a watcher")
			}
			unlock := sync.OnceFunc(s.watch.mu.Unlock)
			s.watch.mu.Lock()
			defer unlock()
			var sending sync.WaitGroup
			sending.Go(func() {
				var text strings.Builder
				for i := range tt.times {
					fmt.Fprintf(&text, tt.request, i)
				}
				c.Raw(text.String())
			})
			eventually(t, "a watcher is to be told", func() bool { return s.watch.gid.Load() > 0 })
			if got := other.Ask("mn"); got != "MN" {
				t.Error(got)
			}
			unlock()
			go func() { _, _ = io.Copy(io.Discard, c.Conn) }()
			sending.Wait()
		})
	}
}

// One who cannot watch is a connection like any other afterwards.
func TestWatchRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Threads: 1})
	w := s.dial(t)
	if got := w.Ask("watch connevents"); got != "OK" {
		t.Fatal(got)
	}
	c := s.dial(t)
	c.Raw("watch nonsense\r\nget a\r\nquit\r\n")
	c.Expect(plainError, "END")
	c.Closed()
	for _, want := range []string{"type=conn_new", "type=conn_close"} {
		if got := w.Line(); !strings.Contains(got, want) {
			t.Errorf("%q; want %s", got, want)
		}
	}
}

// However many have more to do, a leader has only so many in hand, those first who have waited longest, and looks for others each time.
func TestManyWithMoreToDo(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	l := newLead()
	all := make([]*conn, 3*batchConns)
	for i := range all {
		all[i] = &conn{}
	}
	l.more = append(l.more, all...)
	for i := 0; i < len(all); i += batchConns / 2 {
		if !s.poller.next(l) {
			t.Fatal("the server has ended")
		}
		if !slices.Equal(l.list, all[i:i+batchConns/2]) || !slices.Equal(l.more, all[i+batchConns/2:]) {
			t.Fatalf("after %d, %d are in hand and %d wait; want %d and %d", i, len(l.list), len(l.more), batchConns/2, len(all)-i-batchConns/2)
		}
	}
}
