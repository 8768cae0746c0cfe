package backend

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"wheelhouse/balancer"
)

var errRefused = errors.New("connection refused")

// A request that has something to fall back on is sent away at once when no node can be used, and when the last one turns out not to be
// while it waits; others wait on.
func TestStandby(t *testing.T) {
	preface := []byte("PROXY UNKNOWN\r\n")
	for name, tt := range map[string]struct {
		prepare func(p *Pool)
		own     bool
		after   time.Duration // which it takes
		dials   bool
	}{
		"all are paused":  {prepare: func(p *Pool) { each(p, func(n *Node) { n.connectFailed(time.Now(), errRefused) }) }},
		"all are sick":    {prepare: func(p *Pool) { each(p, func(n *Node) { n.sick = true }) }},
		"all are ejected": {prepare: func(p *Pool) { each(p, func(n *Node) { n.ejected = time.Now().Add(time.Hour) }) }},
		"one of each": {prepare: func(p *Pool) {
			p.Nodes()[0].connectFailed(time.Now(), errRefused)
			p.Nodes()[1].sick = true
			p.Nodes()[2].ejected = time.Now().Add(time.Hour)
		}},
		"none is known to be dead yet":                         {prepare: func(*Pool) {}, after: 30 * time.Millisecond, dials: true},
		"two are sick, the third is not known to be dead":      {prepare: func(p *Pool) { p.Nodes()[0].sick, p.Nodes()[1].sick = true, true }, after: 10 * time.Millisecond, dials: true},
		"a connection of its own, none known to be dead":       {prepare: func(*Pool) {}, own: true, after: 30 * time.Millisecond, dials: true},
		"a connection of its own, and two are known to be ill": {prepare: func(p *Pool) { p.Nodes()[0].sick, p.Nodes()[1].sick = true, true }, own: true, after: 10 * time.Millisecond, dials: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := pool(t, balancer.PoolSettings{}, "192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80")
			dialed := make(chan struct{}, 100000)
			q := queue(t, p, balancer.Settings{ConnectTimeout: time.Hour}, func(ctx context.Context, _ *Node, _ []byte) (net.Conn, error) {
				dialed <- struct{}{}
				time.Sleep(10 * time.Millisecond) // of the bubble's clock
				return nil, errRefused
			})
			defer q.Close()
			tt.prepare(p)
			get := func(w Want) error {
				if tt.own {
					_, err := q.GetOwn(t.Context(), w, preface)
					return err
				}
				_, err := q.Get(t.Context(), w)
				return err
			}
			began := time.Now()
			if err := get(Want{Timeout: time.Hour, Standby: true}); !errors.Is(err, ErrNoneUsable) || time.Since(began) > tt.after || tt.dials != (len(dialed) > 0) {
				t.Errorf("%s: %v after %v, %d connects", name, err, time.Since(began), len(dialed))
			}
			began = time.Now()
			if err := get(Want{Timeout: time.Minute}); !errors.Is(err, ErrQueueTime) || time.Since(began) != time.Minute {
				t.Errorf("%s: one that waits: %v after %v", name, err, time.Since(began))
			}
			if n := q.count(); n != 0 {
				t.Errorf("%s: %d wait", name, n)
			}
		})
	}
}

// A pool whose nodes are only busy is waited for.
func TestStandbyWaitsForBusyNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, balancer.PoolSettings{MaxConns: 1}, "192.0.2.1:80")
		q := queue(t, p, balancer.Settings{ConnectTimeout: time.Hour, PersistBackend: true}, func(context.Context, *Node, []byte) (net.Conn, error) {
			ours, theirs := net.Pipe()
			t.Cleanup(func() { theirs.Close() })
			return ours, nil
		})
		defer q.Close()
		c, err := q.Get(t.Context(), Want{Timeout: time.Hour, Standby: true})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := q.Get(t.Context(), Want{Timeout: time.Minute, Standby: true}); !errors.Is(err, ErrQueueTime) || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		c.ClientConn.Close()
		c.release(false)
	})
}

func each(p *Pool, f func(*Node)) {
	for _, n := range p.Nodes() {
		f(n)
	}
}
