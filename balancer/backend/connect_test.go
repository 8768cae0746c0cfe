package backend

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wheelhouse/balancer"
)

// queue is a queue of its own for a pool.
func queue(t *testing.T, p *Pool, set balancer.Settings, dial Dialer) *Queue {
	t.Helper()
	q := NewQueue(t.Context(), slog.New(slog.DiscardHandler), dial)
	q.Update(&set, p)
	return q
}

// An attempt to connect ends after connect_timeout; with 0 it has no limit.
func TestConnectTimeout(t *testing.T) {
	for _, limit := range []time.Duration{3 * time.Second, 70 * time.Minute, 0} {
		for _, own := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan time.Duration, 1) // of the first attempt
				q := queue(t, pool(t, balancer.PoolSettings{}, "192.0.2.1:80"), balancer.Settings{ConnectTimeout: limit}, func(ctx context.Context, _ *Node, _ []byte) (net.Conn, error) {
					began := time.Now()
					<-ctx.Done()
					select {
					case ended <- time.Since(began):
					default:
					}
					return nil, ctx.Err()
				})
				defer q.Close()
				get := func() error { _, err := q.Get(t.Context(), Want{Timeout: 2 * time.Hour}); return err }
				if own {
					get = func() error { _, err := q.GetOwn(t.Context(), Want{Timeout: 2 * time.Hour}, []byte("x")); return err }
				}
				if err := get(); !errors.Is(err, ErrQueueTime) {
					t.Errorf("%v", err)
				}
				if limit == 0 && !own { // it ends with the queue
					select {
					case d := <-ended:
						t.Errorf("without a limit it ended after %v", d)
					default:
					}
					return
				}
				want := limit
				if limit == 0 { // with the request
					want = 2 * time.Hour
				}
				if got := <-ended; got != want {
					t.Errorf("connect_timeout = %v, own %v: it ended after %v", limit, own, got)
				}
			})
		}
	}
}

// Who has waited in vain is told what the last connect failed with, also while the next one is being made; a node that was reached since
// is not blamed.
func TestLatenessNamesTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, balancer.PoolSettings{MaxConns: 1}, "192.0.2.1:80")
		var alive atomic.Bool
		q := queue(t, p, balancer.Settings{ConnectTimeout: 5 * time.Second}, func(ctx context.Context, _ *Node, _ []byte) (net.Conn, error) {
			if !alive.Load() { // to the second attempt, from 6 s on, nothing has come yet after 8 s
				<-ctx.Done()
				return nil, ctx.Err()
			}
			ours, theirs := net.Pipe()
			t.Cleanup(func() { theirs.Close() })
			return ours, nil
		})
		defer q.Close()
		want := ErrQueueTime.Error() + " (192.0.2.1:80: " + context.DeadlineExceeded.Error() + ")"
		if _, err := q.Get(t.Context(), Want{Timeout: 8 * time.Second}); err == nil || err.Error() != want {
			t.Errorf("no answer to connects: %v; want %s", err, want)
		}
		alive.Store(true)
		c, err := q.Get(t.Context(), Want{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Get(t.Context(), Want{Timeout: time.Minute}); err == nil || err.Error() != ErrQueueTime.Error() {
			t.Errorf("the only connection is busy: %v; want %v", err, ErrQueueTime)
		}
		c.ClientConn.Close()
		c.release(false)
	})
}

// A connection that was being made when its node left the pool is not used.
func TestNodeGoesWhileItIsConnectedTo(t *testing.T) {
	let := map[string]chan struct{}{"192.0.2.1:80": make(chan struct{}), "192.0.2.2:80": make(chan struct{})}
	asked, ends := make(chan string, 10), map[string]chan net.Conn{"192.0.2.1:80": make(chan net.Conn, 1), "192.0.2.2:80": make(chan net.Conn, 1)}
	p := pool(t, balancer.PoolSettings{}, "192.0.2.1:80")
	q := queue(t, p, balancer.Settings{ConnectTimeout: time.Hour, PersistBackend: true}, func(ctx context.Context, n *Node, _ []byte) (net.Conn, error) {
		asked <- n.Addr
		select {
		case <-let[n.Addr]:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		ours, theirs := net.Pipe()
		ends[n.Addr] <- theirs
		return ours, nil
	})
	defer q.Close()
	got := make(chan *Conn, 1)
	go func() {
		c, err := q.Get(t.Context(), Want{Timeout: time.Hour})
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	<-asked
	gone := p.Nodes()[0]
	p.Update(&balancer.PoolSettings{Nodes: []balancer.Node{{Addr: "192.0.2.2:80", Weight: 1}}})
	close(let["192.0.2.1:80"])
	end := <-ends["192.0.2.1:80"]
	end.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := end.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("the connection to the node that has gone: %v; want its end", err)
	}
	close(let["192.0.2.2:80"])
	if c := <-got; c != nil {
		if c.Node.Addr != "192.0.2.2:80" {
			t.Errorf("the request got a connection to %s", c.Node.Addr)
		}
		c.ClientConn.Close()
		c.release(false)
	}
	if n := gone.Conns(); n != 0 {
		t.Errorf("the node that has gone counts %d connections", n)
	}
}

// looped is a connection of an event loop.
type looped struct {
	net.Conn
	loop int
}

func (l looped) Loop() int { return l.loop }

// A request gets a connection that waits in the loop of its client's, if an idle one does, and any other if none does.
func TestConnectionOfTheSameLoop(t *testing.T) {
	p := pool(t, balancer.PoolSettings{}, "192.0.2.1:80")
	var dials atomic.Int32
	q := queue(t, p, balancer.Settings{ConnectTimeout: time.Hour, PersistBackend: true, BackendPersist: 10}, func(context.Context, *Node, []byte) (net.Conn, error) {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { theirs.Close() })
		return looped{ours, 1 + int(dials.Add(1)-1)%2}, nil
	})
	defer q.Close()
	get := func(loop int) *Conn {
		c, err := q.Get(t.Context(), Want{Loop: loop, Timeout: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var all []*Conn
	for range 6 {
		all = append(all, get(0))
	}
	for _, c := range all {
		c.giveBack()
	}
	for i, want := range []int{2, 2, 1, 2, 1, 1} { // three of each; the last but one of loop 1 has to do for the fourth
		asked := []int{2, 2, 1, 2, 2, 0}[i]
		if c := get(asked); c.loop != want {
			t.Errorf("request %d, of loop %d, got a connection of loop %d, want %d", i, asked, c.loop, want)
		}
	}
	if n := dials.Load(); n != 6 {
		t.Errorf("%d connections were made, want 6", n)
	}
}
