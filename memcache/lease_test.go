package memcache_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"wheelhouse/memcache"
	"wheelhouse/memcache/memcached"
	"wheelhouse/memcache/memcachetest"
)

// eachServer runs a test with a client of ours and of Debian's server.
func eachServer(t *testing.T, f func(t *testing.T, c *memcache.Client, addr string)) {
	t.Run("ours", func(t *testing.T) {
		ln := listen(t, "tcp", "127.0.0.1:0")
		serve(t, ln, memcached.Options{})
		f(t, memcachetest.NewClient(t, []string{ln.Addr().String()}), ln.Addr().String())
	})
	t.Run("debian", func(t *testing.T) {
		addr := memcachetest.StartDebian(t)
		f(t, memcachetest.NewClient(t, []string{addr}), addr)
	})
}

func leases(t *testing.T, c *memcache.Client, keys ...string) ([]memcache.Found, *memcache.Leases) {
	t.Helper()
	found, l, err := c.GetLeases(t.Context(), keys, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Release)
	return found, l
}

func TestLeases(t *testing.T) {
	eachServer(t, func(t *testing.T, c *memcache.Client, _ string) {
		ctx := t.Context()
		if err := c.Set(ctx, &memcache.Item{Key: "b", Value: []byte("is there"), Flags: 7}); err != nil {
			t.Fatal(err)
		}
		found, l := leases(t, c, "a", "b")
		if !found[0].Won || found[0].Value != nil || found[1].Won || string(found[1].Value) != "is there" || found[1].Flags != 7 {
			t.Fatalf("found %+v", found)
		}
		// The others find nothing, and are not the ones to fill.
		again, other := leases(t, c, "a")
		if again[0].Won || again[0].Value != nil {
			t.Fatalf("the second reader found %+v", again)
		}
		if err := other.Fill(ctx, 0, &memcache.Item{Value: []byte("mine")}); !errors.Is(err, memcache.ErrCASConflict) {
			t.Errorf("a fill without having won: %v", err)
		}
		if err := l.Fill(ctx, 0, &memcache.Item{Value: []byte("filled"), Expiration: 60}); err != nil {
			t.Fatal(err)
		}
		if now, _ := leases(t, c, "a"); string(now[0].Value) != "filled" {
			t.Errorf("after the fill: %+v", now)
		}
		if err := l.Fill(ctx, 0, &memcache.Item{Value: []byte("twice")}); !errors.Is(err, memcache.ErrCASConflict) {
			t.Errorf("a second fill: %v", err)
		}
		// Who does not fill after all can say so, and takes nothing from others.
		_, l = leases(t, c, "n")
		if err := l.Abandon(ctx, 0); err != nil {
			t.Fatal(err)
		}
		if f, _ := leases(t, c, "n"); !f[0].Won {
			t.Errorf("after Abandon: %+v; want to win", f)
		}
		_, l = leases(t, c, "m")
		if err := c.Set(ctx, &memcache.Item{Key: "m", Value: []byte("set")}); err != nil {
			t.Fatal(err)
		}
		if err := l.Abandon(ctx, 0); !errors.Is(err, memcache.ErrCASConflict) {
			t.Errorf("Abandon of what others have stored: %v", err)
		}
		if f, _ := leases(t, c, "m"); string(f[0].Value) != "set" {
			t.Errorf("after that: %+v", f)
		}
	})
}

// What was there at the time of a delete does not come back after it.
func TestLeaseIsLost(t *testing.T) {
	eachServer(t, func(t *testing.T, c *memcache.Client, _ string) {
		ctx := t.Context()
		old := &memcache.Item{Value: []byte("old")}
		lost := func(what string, l *memcache.Leases) {
			t.Helper()
			err := l.Fill(ctx, 0, old)
			if !errors.Is(err, memcache.ErrCacheMiss) && !errors.Is(err, memcache.ErrCASConflict) {
				t.Errorf("%s: the fill was answered %v", what, err)
			}
			if f, _ := leases(t, c, "a"); string(f[0].Value) == "old" {
				t.Errorf("%s: the old value is there", what)
			}
		}
		_, l := leases(t, c, "a")
		if err := c.Discard(ctx, "a", "never"); err != nil {
			t.Fatal(err)
		}
		lost("deleted", l)
		if err := c.Discard(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		_, l = leases(t, c, "a")
		if err := c.Discard(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if f, _ := leases(t, c, "a"); !f[0].Won { // another reader has a lease by now
			t.Fatalf("after a delete: %+v", f)
		}
		lost("deleted and won by another", l)
		if err := c.FlushAll(ctx); err != nil {
			t.Fatal(err)
		}
		_, l = leases(t, c, "a")
		if err := c.FlushAll(ctx); err != nil {
			t.Fatal(err)
		}
		lost("flushed", l)
	})
}

// While somebody changes what a key stands for nobody reads the old value, and nobody stores it.
func TestMarks(t *testing.T) {
	eachServer(t, func(t *testing.T, c *memcache.Client, _ string) {
		ctx := t.Context()
		if err := c.Set(ctx, &memcache.Item{Key: "a", Value: []byte("old")}); err != nil {
			t.Fatal(err)
		}
		_, before := leases(t, c, "b")
		mark := func() []memcache.Mark {
			t.Helper()
			m, err := c.Mark(ctx, 60*time.Second, "a", "b")
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		unmark := func(m []memcache.Mark) {
			t.Helper()
			if err := c.Unmark(ctx, 60*time.Second, m...); err != nil {
				t.Fatal(err)
			}
		}
		want := func(what string, won bool) {
			t.Helper()
			f, l := leases(t, c, "a", "b")
			for i := range f {
				if f[i].Value != nil || f[i].Won != won {
					t.Errorf("%s: %+v; want won %v", what, f[i], won)
				}
				if won {
					if err := l.Abandon(ctx, i); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		one := mark()
		if err := before.Fill(ctx, 0, &memcache.Item{Value: []byte("old")}); !errors.Is(err, memcache.ErrCASConflict) {
			t.Errorf("a lease from before the mark: %v", err)
		}
		want("marked", false)
		unmark(one)
		want("unmarked", true)
		// Two at a time: as long as one is at it, the keys stay marked, whoever ends first.
		one, two := mark(), mark()
		unmark(one)
		want("one of two is at it", false)
		unmark(two)
		want("marked anew for want of knowing that the other has ended", false)
		if err := c.Discard(ctx, "a", "b"); err != nil {
			t.Fatal(err)
		}
		want("discarded", true)
		// A mark that was lost, and what came in its place: gone after Unmark.
		one = mark()
		if err := c.Discard(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if err := c.Set(ctx, &memcache.Item{Key: "b", Value: []byte("old")}); err != nil {
			t.Fatal(err)
		}
		unmark(one)
		if f, _ := leases(t, c, "a", "b"); !f[0].Won || f[1].Won || f[1].Value != nil {
			t.Errorf("after Unmark: %+v", f)
		}
	})
}

// A lease has the connection to itself: when it was cut the fill fails, even if the server that is there now has the same versions.
func TestLeaseOfAnEndedServer(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	first, err := memcached.Open(memcached.Options{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- first.Serve(ln) }()
	c := memcachetest.NewClient(t, []string{ln.Addr().String()})
	_, l := leases(t, c, "a")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	<-served
	serve(t, listen(t, "tcp", ln.Addr().String()), memcached.Options{})
	if f, _ := leases(t, c, "a"); !f[0].Won {
		t.Fatalf("the new server: %+v", f)
	}
	if err := l.Fill(t.Context(), 0, &memcache.Item{Value: []byte("old")}); err == nil || errors.Is(err, memcache.ErrCASConflict) {
		t.Errorf("a fill at a server that has ended: %v; want the network's error", err)
	}
	if err := l.Fill(t.Context(), 0, &memcache.Item{Value: []byte("old")}); !errors.Is(err, memcache.ErrClosed) {
		t.Errorf("a fill after that: %v", err)
	}
}

// A server that knows no meta protocol gives no leases, and keys of several servers are refused.
func TestNoLeases(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	defer ln.Close()
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				for in := bufio.NewScanner(nc); in.Scan(); {
					fmt.Fprint(nc, "ERROR\r\n")
				}
			}()
		}
	}()
	c := memcachetest.NewClient(t, []string{ln.Addr().String()})
	if _, _, err := c.GetLeases(t.Context(), []string{"a"}, time.Second); !errors.Is(err, memcache.ErrNoLeases) {
		t.Errorf("an old server: %v; want %v", err, memcache.ErrNoLeases)
	}
	two := memcachetest.NewClient(t, []string{"127.0.0.1:1", "127.0.0.1:2"})
	keys := make([]string, 40)
	for i := range keys {
		keys[i] = fmt.Sprint("key", i)
	}
	if _, _, err := two.GetLeases(t.Context(), keys, time.Second); !errors.Is(err, memcache.ErrSpread) {
		t.Errorf("keys of two servers: %v; want %v", err, memcache.ErrSpread)
	}
	if err := two.Discard(t.Context(), keys...); !errors.Is(err, memcache.ErrSpread) {
		t.Errorf("discard of keys of two servers: %v; want %v", err, memcache.ErrSpread)
	}
	for _, bad := range [][]string{nil, {"a b"}, make([]string, 51)} {
		if _, _, err := c.GetLeases(t.Context(), bad, time.Second); err == nil {
			t.Errorf("GetLeases(%q) succeeds", bad)
		}
	}
}

// Readers that hold connections do not take them away for ever.
func TestLeasesGiveConnectionsBack(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	serve(t, ln, memcached.Options{})
	dials := 0
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	c := memcachetest.NewClient(t, []string{ln.Addr().String()}, memcache.WithConns(1, 1), memcache.WithDialer(dial))
	for i := range 20 {
		_, l, err := c.GetLeases(t.Context(), []string{fmt.Sprint("k", i)}, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Fill(t.Context(), 0, &memcache.Item{Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		l.Release()
		l.Release()
	}
	if dials != 1 {
		t.Errorf("%d connections; want 1", dials)
	}
}
