package backend

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"wheelhouse/balancer"
)

var any0 = func(*Node) bool { return true }

func weighted(t *testing.T, m balancer.Method, weights ...int) *Pool {
	t.Helper()
	set := balancer.PoolSettings{Method: m}
	for i, w := range weights {
		set.Nodes = append(set.Nodes, balancer.Node{Addr: fmt.Sprintf("192.0.2.%d:80", i+1), Weight: w})
	}
	return pool(t, set)
}

// The methods give each node what is due to it.
func TestPick(t *testing.T) {
	p := weighted(t, balancer.RoundRobin, 3, 1, 2)
	count := map[*Node]int{}
	for range 600 {
		count[p.pick(epochStart, "", nil, any0)]++
	}
	for i, want := range []int{300, 100, 200} {
		if got := count[p.Nodes()[i]]; got != want {
			t.Errorf("round_robin: node %d got %d; want %d", i, got, want)
		}
	}
	p = weighted(t, balancer.LeastConn, 1, 2, 1)
	for i, n := range []int64{3, 6, 4} {
		p.Nodes()[i].Active.Store(n)
	}
	if got := p.pick(epochStart, "", nil, any0); got != p.Nodes()[1] { // 7/2 against 4 and 5
		t.Errorf("least_conn: %s", got.Addr)
	}
	p.Nodes()[1].Active.Store(7) // 8/2 against 4 and 5: the first two are even
	count = map[*Node]int{}
	for range 600 {
		count[p.pick(epochStart, "", nil, any0)]++
	}
	if a, b := count[p.Nodes()[0]], count[p.Nodes()[1]]; a < 100 || b < 200 || a+b != 600 {
		t.Errorf("least_conn: of those that are even one got %d, the other, of twice the weight, %d", a, b)
	}
	p = weighted(t, balancer.PowerOfTwo, 1, 1)
	p.Nodes()[0].Active.Store(100)
	busy := 0
	for range 1000 {
		if p.pick(epochStart, "", nil, any0) == p.Nodes()[0] {
			busy++
		}
	}
	if busy < 150 || busy > 350 { // both draws must fall on it: a quarter
		t.Errorf("power_of_two: the busy one of two got %d of 1000; want about 250", busy)
	}
	p = weighted(t, balancer.FirstFree, 1, 3)
	count = map[*Node]int{}
	for range 4000 {
		count[p.pick(epochStart, "", nil, any0)]++
	}
	if n := count[p.Nodes()[0]]; n < 800 || n > 1200 {
		t.Errorf("random: weight 1 of 4 got %d of 4000", n)
	}
}

// A key stays with its node; when that goes, its keys spread over the others and no other key moves.
func TestConsistentHash(t *testing.T) {
	p := weighted(t, balancer.ConsistentHash, 1, 1, 1, 1)
	where := func() (m [1000]string) {
		for i := range m {
			m[i] = p.pick(epochStart, fmt.Sprint("key", i), nil, any0).Addr
		}
		return m
	}
	before := where()
	share := map[string]int{}
	for _, a := range before {
		share[a]++
	}
	for a, n := range share {
		if n < 120 || n > 400 {
			t.Errorf("%s has %d of 1000 keys", a, n)
		}
	}
	gone := p.Nodes()[1]
	gone.pausedUntil.Store(epochStart.Add(time.Second).UnixNano())
	heirs := map[string]bool{}
	for i, a := range where() {
		if before[i] != gone.Addr && a != before[i] {
			t.Errorf("key %d moved from %s to %s", i, before[i], a)
		}
		if before[i] == gone.Addr {
			heirs[a] = true
		}
	}
	if len(heirs) != 3 || heirs[gone.Addr] {
		t.Errorf("the keys of the one that went are with %v", heirs)
	}
	gone.pausedUntil.Store(0)
	if where() != before {
		t.Error("when it came back its keys did not")
	}
}

// Those that have failed the request are taken only when there is no other, and none is taken that may not be used.
func TestPickExcludes(t *testing.T) {
	for m := range balancer.Methods {
		p := weighted(t, balancer.Method(m), 1, 1, 1)
		n := p.Nodes()
		for range 50 {
			if got := p.pick(epochStart, "k", n[:2], any0); got != n[2] {
				t.Fatalf("%v: %v", balancer.Method(m), got)
			}
		}
		n[2].sick = true
		if got := p.pick(epochStart, "k", n[:2], any0); got != n[0] && got != n[1] {
			t.Errorf("%v: with nothing else: %v", balancer.Method(m), got)
		}
		if got := p.Usable(epochStart, n[:1]); !slices.Equal(got, []string{n[1].Addr}) {
			t.Errorf("usable: %v", got)
		}
		n[0].sick, n[1].sick = true, true
		if got := p.pick(epochStart, "k", nil, any0); got != nil {
			t.Errorf("%v: all are sick, and %s was picked", balancer.Method(m), got.Addr)
		}
	}
}

// A request goes to the node that it wants, while that may be used.
func TestChoose(t *testing.T) {
	p := weighted(t, balancer.FirstFree, 1, 1)
	n := p.Nodes()
	if got := p.choose(epochStart, &Want{Node: n[1].Addr}); got != n[1] {
		t.Errorf("%v", got)
	}
	for name, w := range map[string]Want{"nothing is wanted": {}, "it is unknown": {Node: "192.0.2.9:80"}, "it has failed": {Node: n[1].Addr, Exclude: n[1:]}} {
		if got := p.choose(epochStart, &w); got != nil {
			t.Errorf("%s: %v; want whichever is free", name, got.Addr)
		}
	}
	n[1].sick = true
	if got := p.choose(epochStart, &Want{Node: n[1].Addr}); got != nil {
		t.Error("a sick node was chosen because it was wanted")
	}
}

// Nodes that stay keep what is known of them; a nodefile that is wrong changes nothing.
func TestUpdate(t *testing.T) {
	p := weighted(t, balancer.RoundRobin, 1, 1)
	stays := p.Nodes()[1]
	stays.Requests.Store(7)
	p.Update(&balancer.PoolSettings{Nodes: []balancer.Node{{Addr: stays.Addr, Weight: 5}, {Addr: "192.0.2.9:80", Weight: 1}, {Addr: "local:x", Weight: 1}}})
	if len(p.Nodes()) != 2 || p.Nodes()[0] != stays || stays.Weight() != 5 || p.Local() != "x" {
		t.Errorf("%d nodes, weight %d, local %q", len(p.Nodes()), stays.Weight(), p.Local())
	}
	file := filepath.Join(t.TempDir(), "nodes")
	write := func(text string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write("# comment\n192.0.2.1\n\n192.0.2.2:81 # x\n", epochStart)
	p.Update(&balancer.PoolSettings{NodeFile: file})
	list := func() (s []string) {
		for _, n := range p.Nodes() {
			s = append(s, n.Addr)
		}
		return s
	}
	want := []string{"192.0.2.1:80", "192.0.2.2:81"}
	if !slices.Equal(list(), want) {
		t.Errorf("%v; want %v", list(), want)
	}
	write("not an address!\n", epochStart.Add(time.Second))
	p.refresh(time.Now())
	if !slices.Equal(list(), want) {
		t.Errorf("after a wrong file: %v", list())
	}
	write("192.0.2.3\n", epochStart.Add(2*time.Second))
	p.refresh(time.Now().Add(nodefileInterval))
	if !slices.Equal(list(), []string{"192.0.2.3:80"}) {
		t.Errorf("after a good one: %v", list())
	}
}

// Quantiles are upper bounds, at most a quarter of a doubling too high.
func TestHistogram(t *testing.T) {
	var h Histogram
	for i := 1; i <= 1000; i++ {
		h.Observe(time.Duration(i) * time.Millisecond)
	}
	c := h.Counts()
	for q, exact := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.95: 950 * time.Millisecond, 0.99: 990 * time.Millisecond} {
		if got := c.Quantile(q); got < exact || got > exact*13/10 {
			t.Errorf("quantile %v is %v; exactly it is %v", q, got, exact)
		}
	}
	if c.Count != 1000 || c.Sum != 500500*time.Millisecond {
		t.Errorf("%d, %v", c.Count, c.Sum)
	}
	if d := h.Counts().Sub(c); d.Count != 0 || d.Quantile(0.5) != 0 {
		t.Errorf("%+v", d)
	}
	h.Observe(-time.Second)
	h.Observe(1000 * time.Hour)
	for us := range uint64(1 << 14) {
		if c := classOf(us); time.Duration(us)*time.Microsecond >= upper(c) || c > 0 && time.Duration(us)*time.Microsecond < upper(c-1) {
			t.Fatalf("%d µs is in class %d, which ends at %v", us, c, upper(c))
		}
	}
}
