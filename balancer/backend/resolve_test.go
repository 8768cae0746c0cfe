package backend

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wheelhouse/balancer"
)

// looking runs a pool whose names a function looks up, and gives the seconds at which that was asked.
func looking(t *testing.T, set balancer.PoolSettings, total time.Duration, f func(ctx context.Context, n int) ([]netip.Addr, error)) (p *Pool, at []int) {
	t.Helper()
	began := time.Now()
	p = NewPool("p", slog.New(slog.DiscardHandler), func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
		at = append(at, int(time.Since(began)/time.Second))
		return f(ctx, len(at))
	})
	p.Update(&set)
	ctx, cancel := context.WithTimeout(t.Context(), total)
	defer cancel()
	p.Run(ctx)
	return p, at
}

// Names are looked up every resolve_interval; while nothing is known of one, every second; with 0 until it is known.
func TestWhenNamesAreLookedUp(t *testing.T) {
	one := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	nodes := []balancer.Node{{Addr: "app.test:80", Weight: 1}, {Addr: "app.test:80", Weight: 1}, {Addr: "192.0.2.9:80", Weight: 1}}
	for _, tt := range []struct {
		name     string
		interval time.Duration
		until    int // the look-up that succeeds first
		again    bool
		want     []int
	}{
		{"every seven seconds", 7 * time.Second, 1, true, []int{0, 7, 14}},
		{"those that fail later wait too", 7 * time.Second, 1, false, []int{0, 7, 14}},
		{"every second before anything is known", 7 * time.Second, 3, true, []int{0, 1, 2, 9, 16}},
		{"once", 0, 1, true, []int{0}},
		{"once, when it has succeeded", 0, 4, true, []int{0, 1, 2, 3}},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, at := looking(t, balancer.PoolSettings{Nodes: nodes, ResolveInterval: tt.interval}, 20*time.Second, func(_ context.Context, n int) ([]netip.Addr, error) {
				if n < tt.until || n > tt.until && !tt.again {
					return nil, errors.New("not now")
				}
				return one, nil
			})
			if !slices.Equal(at, tt.want) {
				t.Errorf("%s: at %v s; want %v", tt.name, at, tt.want)
			}
			if got := addrs(p); !slices.Equal(got, []string{"192.0.2.1:80", "192.0.2.9:80"}) {
				t.Errorf("%s: nodes %v", tt.name, got)
			}
		})
	}
}

func addrs(p *Pool) (list []string) {
	for _, n := range p.Nodes() {
		list = append(list, n.Addr)
	}
	return list
}

// A name server that does not answer is given up after ten seconds, and one that answers with nothing has failed.
func TestLookupsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, at := looking(t, balancer.PoolSettings{Nodes: []balancer.Node{{Addr: "app.test:80", Weight: 1}}, ResolveInterval: time.Hour}, 14500*time.Millisecond,
			func(ctx context.Context, n int) ([]netip.Addr, error) {
				if n == 1 {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return nil, nil
			})
		if want := []int{0, 11, 12, 13, 14}; !slices.Equal(at, want) || !slices.Equal(p.Unresolved(), []string{"app.test:80: lookup app.test: no addresses"}) {
			t.Errorf("at %v s; want %v. It says %q", at, want, p.Unresolved())
		}
	})
}

// What a look-up finds makes the nodes: addresses of both kinds, each once, by the first name that has it; a node that stays keeps its
// state, and one whose name has changed is another.
func TestFound(t *testing.T) {
	p := pool(t, balancer.PoolSettings{}, "a.test:80", "b.test:80")
	found := func(name string, list ...string) {
		t.Helper()
		p.lookup = func(context.Context, string, string) (ips []netip.Addr, _ error) {
			for _, a := range list {
				ips = append(ips, netip.MustParseAddr(a))
			}
			return ips, nil
		}
		as, err := p.lookUp(t.Context(), name)
		p.found(name, as, err)
	}
	found("a.test:80", "::ffff:192.0.2.2", "2001:db8::1", "192.0.2.1", "192.0.2.2")
	found("b.test:80", "192.0.2.1", "192.0.2.3")
	if got, want := addrs(p), []string{"192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80", "192.0.2.3:80"}; !slices.Equal(got, want) {
		t.Errorf("%v; want %v", got, want)
	}
	first, stays := p.Nodes()[0], p.Nodes()[1]
	if first.Name != "a.test:80" {
		t.Errorf("%s is of %s", first.Addr, first.Name)
	}
	found("a.test:80", "192.0.2.2")
	if got := p.Nodes(); len(got) != 3 || got[0] != stays || got[1] == first || got[1].Addr != first.Addr || got[1].Name != "b.test:80" {
		t.Errorf("%v", addrs(p))
	}
	p.found("gone.test:80", []string{"192.0.2.7:80"}, nil) // of a node that was removed meanwhile
	p.found("b.test:80", nil, errors.New("not now"))
	p.Update(&balancer.PoolSettings{Nodes: []balancer.Node{{Addr: "a.test:80", Weight: 1}}})
	if got := addrs(p); !slices.Equal(got, []string{"192.0.2.2:80"}) || len(p.names.known) != 1 || len(p.Unresolved()) != 0 {
		t.Errorf("%v, %v", got, p.names)
	}
}
