package backend

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"wheelhouse/balancer"
)

var epochStart = time.Unix(1_000_000, 0)

// breaker is a circuit with a clock that is moved by hand.
type breaker struct {
	c   circuit
	now time.Time
	set balancer.PoolSettings
}

// pass sends a request that ends so; false when it was refused.
func (b *breaker) pass(how outcome) bool {
	trial, epoch, ok, _, _ := b.c.admit(b.now, &b.set)
	if ok {
		b.c.done(b.now, &b.set, trial, false, epoch, how, "cause")
	}
	return ok
}

func (b *breaker) want(t *testing.T, when string, s CircuitState) {
	t.Helper()
	if b.c.state != s {
		t.Errorf("%s the circuit is %v; want %v", when, b.c.state, s)
	}
}

func TestCircuitByErrorsInARow(t *testing.T) {
	b := &breaker{now: epochStart, set: balancer.PoolSettings{CircuitErrors: 3, CircuitTime: 5 * time.Second, CircuitProbes: 2, CircuitWindow: time.Second}}
	for _, how := range []outcome{failed, failed, succeeded, failed, unknown, failed} {
		b.pass(how)
	}
	b.want(t, "after two in a row", CircuitClosed)
	straggler, old, _, _, _ := b.c.admit(b.now, &b.set)
	b.pass(failed)
	b.want(t, "after three in a row", CircuitOpen)
	if b.pass(succeeded) {
		t.Error("an open circuit let a request pass")
	}
	if _, _, ok, wait, _ := b.c.admit(b.now.Add(2*time.Second), &b.set); ok || wait != 3*time.Second {
		t.Errorf("after 2 s: %v, to wait %v; want 3 s", ok, wait)
	}
	b.now = b.now.Add(5 * time.Second)
	t1, e1, ok1, _, changed := b.c.admit(b.now, &b.set)
	t2, e2, ok2, _, _ := b.c.admit(b.now, &b.set)
	if _, _, ok3, _, _ := b.c.admit(b.now, &b.set); !ok1 || !ok2 || ok3 || !t1 || !t2 || !changed {
		t.Fatalf("half-open: %v %v %v; want two trials and no more", ok1, ok2, ok3)
	}
	// One that was let in before it opened says nothing of now.
	if b.c.done(b.now, &b.set, straggler, false, old, failed, ""); b.c.state != CircuitHalfOpen {
		t.Error("a straggler's failure opened the circuit again")
	}
	b.c.done(b.now, &b.set, t1, false, e1, succeeded, "")
	b.want(t, "after one good trial", CircuitHalfOpen)
	b.c.done(b.now, &b.set, t2, false, e2, unknown, "") // its client has gone
	if !b.pass(succeeded) {
		t.Error("a trial that said nothing was not followed by another")
	}
	b.want(t, "after two good trials", CircuitClosed)
	for range 3 {
		b.pass(failed)
	}
	b.now = b.now.Add(5 * time.Second)
	b.pass(failed)
	b.want(t, "after a bad trial", CircuitOpen)
	if b.c.trips != 3 {
		t.Errorf("%d trips; want 3", b.c.trips)
	}
	b.now = b.now.Add(5 * time.Second)
	b.c.admit(b.now, &b.set)
	if !b.c.connectFailed(b.now, &b.set, "refused") || b.c.state != CircuitOpen || b.c.failure != "refused" {
		t.Errorf("a connect that failed during a trial: %v, %q", b.c.state, b.c.failure)
	}
}

func TestCircuitByPercent(t *testing.T) {
	b := &breaker{now: epochStart, set: balancer.PoolSettings{CircuitPercent: 50, CircuitMinRequests: 10, CircuitWindow: 10 * time.Second, CircuitTime: time.Second}}
	for range 9 {
		b.pass(failed)
	}
	b.want(t, "below circuit_min_requests", CircuitClosed)
	for range 11 {
		b.pass(succeeded)
	}
	b.pass(failed)
	b.want(t, "at 10 of 21", CircuitClosed)
	b.pass(failed)
	b.want(t, "at 11 of 22", CircuitOpen)

	// What lies a window back is forgotten.
	b = &breaker{now: epochStart, set: b.set}
	for range 9 {
		b.pass(failed)
	}
	b.now = b.now.Add(10 * time.Second)
	for range 20 {
		b.pass(succeeded)
	}
	b.pass(failed)
	b.want(t, "with one failure of late", CircuitClosed)
	// What lies half a window back is not.
	b = &breaker{now: epochStart, set: b.set}
	for range 9 {
		b.pass(failed)
	}
	b.now = b.now.Add(6 * time.Second)
	b.pass(failed)
	b.want(t, "with ten failures", CircuitOpen)
}

func pool(t *testing.T, set balancer.PoolSettings, addrs ...string) *Pool {
	t.Helper()
	p := NewPool("p", slog.New(slog.DiscardHandler), nil)
	for _, a := range addrs {
		set.Nodes = append(set.Nodes, balancer.Node{Addr: a, Weight: 1})
	}
	p.Update(&set)
	return p
}

// Each limit takes as many as it says, refuses the next by its name, and takes one more when one has ended.
func TestPoolLimits(t *testing.T) {
	for limit, set := range map[string]balancer.PoolSettings{LimitRequests: {MaxRequests: 2}, LimitRetries: {MaxRetries: 2}} {
		p := pool(t, set)
		a, err1 := p.admit(epochStart, true)
		_, err2 := p.admit(epochStart, true)
		_, err3 := p.admit(epochStart, true)
		var e *LimitError
		if err1 != nil || err2 != nil || !errors.As(err3, &e) || e.Limit != limit || e.Pool != "p" {
			t.Errorf("%s: %v, %v, %v", limit, err1, err2, err3)
		}
		if _, err := p.admit(epochStart, false); (err == nil) != (limit == LimitRetries) {
			t.Errorf("%s: a first attempt: %v", limit, err)
		}
		a.release()
		a.release()
		_, err4 := p.admit(epochStart, true)
		_, err5 := p.admit(epochStart, true)
		if err4 != nil || err5 == nil {
			t.Errorf("%s, after one has ended twice over: %v, %v", limit, err4, err5)
		}
		if n := p.Circuit(epochStart).Refused[limit]; n < 2 {
			t.Errorf("%s: %d were refused", limit, n)
		}
	}
	// A request that the circuit refuses takes nothing of the other limits.
	p := pool(t, balancer.PoolSettings{MaxRequests: 5, MaxRetries: 5, CircuitErrors: 1, CircuitTime: time.Hour})
	tk, _ := p.admit(time.Now(), true)
	tk.tell(failed, "x")
	tk.release()
	for range 10 {
		if _, err := p.admit(time.Now(), true); err == nil || err.Error() != "the circuit of pool p is open: x" {
			t.Fatal(err)
		}
	}
	if st := p.Circuit(time.Now()); st.Active != 0 || st.Retrying != 0 || st.State != CircuitOpen || st.Refused[LimitCircuit] != 10 || st.Trips != 1 {
		t.Errorf("%+v", st)
	}
}

// A node that fails again and again is left alone, for longer each time; then it is half-open: so many requests at once, of which one that
// fails is enough, and one that is answered is enough too.
func TestNodeEjection(t *testing.T) {
	set := balancer.PoolSettings{EjectErrors: 3, EjectTime: 10 * time.Second, EjectMax: 50, EjectProbes: 1}
	n := newNode("a", "", 1)
	state := func(now time.Time) string { return n.Status(now).State }
	boom := errors.New("boom")
	now := epochStart
	for i := range 3 {
		if got := n.failed(now, boom, &set); got != (i == 2) {
			t.Fatalf("failure %d: ejectable %v", i+1, got)
		}
	}
	for i, want := range []time.Duration{10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 100} {
		if d := n.eject(now, &set); d != want*time.Second {
			t.Fatalf("ejection %d is for %v; want %v", i+1, d, want*time.Second)
		}
		if state(now) != "ejected" || n.usable(now) || n.healthy(now) {
			t.Fatalf("ejection %d: %s", i+1, state(now))
		}
		if n.failed(now, boom, &set) {
			t.Fatal("one that is ejected was to be ejected")
		}
		now = now.Add(want * time.Second)
		if state(now) != "half-open" || !n.usable(now) {
			t.Fatalf("after it: %s", state(now))
		}
		n.Active.Add(1)
		if n.usable(now) {
			t.Fatal("half-open, and a second request at once")
		}
		n.Active.Add(-1)
		if !n.failed(now, boom, &set) {
			t.Fatal("half-open, and one failure was not enough")
		}
	}
	n.Answered(now, 200, 0)
	if state(now) != "up" {
		t.Errorf("after an answer: %s", state(now))
	}
	for i := range 3 {
		if got := n.failed(now, boom, &set); got != (i == 2) {
			t.Errorf("up again, failure %d: ejectable %v", i+1, got)
		}
	}
	n.Answered(now.Add(2*time.Minute), 200, 0)
	if d := n.eject(now.Add(2*time.Minute), &set); d != 10*time.Second {
		t.Errorf("after a good time it is ejected for %v", d)
	}
	set.EjectErrors = 0
	if n = newNode("a", "", 1); n.failed(now, boom, &set) {
		t.Error("eject_errors = 0 ejects")
	}
}

// Never are more nodes left alone than eject_max allows.
func TestEjectMax(t *testing.T) {
	for _, tt := range []struct{ nodes, max, want int }{{1, 50, 0}, {1, 100, 1}, {2, 50, 1}, {4, 50, 2}, {4, 74, 2}, {4, 75, 3}, {3, 0, 0}} {
		var addrs []string
		for i := range tt.nodes {
			addrs = append(addrs, fmt.Sprintf("192.0.2.%d:80", i+1))
		}
		p := pool(t, balancer.PoolSettings{EjectErrors: 1, EjectTime: time.Hour, EjectMax: tt.max}, addrs...)
		for _, n := range p.Nodes() {
			p.failed(n, errors.New("boom"))
		}
		out := 0
		for _, n := range p.Nodes() {
			if n.Status(time.Now()).State == "ejected" {
				out++
			}
		}
		if out != tt.want {
			t.Errorf("%d nodes, eject_max %d: %d ejected; want %d", tt.nodes, tt.max, out, tt.want)
		}
	}
}

// Active checks: so many in a row that speak against what the node is taken for.
func TestChecks(t *testing.T) {
	set := balancer.PoolSettings{HealthFall: 3, HealthRise: 2}
	n := newNode("a", "", 1)
	bad := errors.New("bad")
	for i, c := range []struct {
		err   error
		state string
	}{
		{bad, "up"}, {bad, "up"}, {nil, "up"}, {bad, "up"}, {bad, "up"}, {bad, "sick"}, {nil, "sick"}, {bad, "sick"}, {nil, "sick"}, {nil, "up"},
	} {
		n.checked(epochStart, c.err, &set)
		if s := n.Status(epochStart).State; s != c.state {
			t.Errorf("after check %d: %s; want %s", i+1, s, c.state)
		}
	}
	if s := n.share(epochStart.Add(5*time.Second), 10*time.Second); s != 0.5 {
		t.Errorf("half way through slow_start its share is %v", s)
	}
	if s := n.share(epochStart, 10*time.Second); s != 0.05 {
		t.Errorf("at first its share is %v", s)
	}
	if n.share(epochStart.Add(time.Minute), 10*time.Second) != 1 || n.share(epochStart, 0) != 1 {
		t.Error("in the end its share is not whole")
	}
}

// A connect that failed leaves the node alone for a second.
func TestPause(t *testing.T) {
	p := pool(t, balancer.PoolSettings{}, "192.0.2.1:80")
	n := p.Nodes()[0]
	p.connectFailed(n, epochStart, errors.New("refused"))
	if st := n.Status(epochStart); st.State != "paused" || st.Error != "refused" || n.usable(epochStart.Add(connectPause-1)) || !n.usable(epochStart.Add(connectPause)) {
		t.Errorf("%+v", st)
	}
}

// A node that could not be reached is not said to be up until it was.
func TestStateOfWhatCannotBeReached(t *testing.T) {
	for name, reached := range map[string]func(n *Node, now time.Time){
		"by a connection": func(n *Node, now time.Time) { n.lastConnect.Store(now.UnixNano()) },
		"by a check":      func(n *Node, now time.Time) { n.checked(now, nil, &balancer.PoolSettings{}) },
	} {
		n, now := newNode("a", "", 1), epochStart
		if st := n.Status(now); st.State != "up" {
			t.Fatalf("new: %s", st.State)
		}
		n.connectFailed(now, errRefused)
		for _, after := range []time.Duration{0, connectPause, time.Hour} {
			if st := n.Status(now.Add(after)); st.State != "paused" || st.Error != errRefused.Error() {
				t.Errorf("%v after a connect has failed: %s, %q", after, st.State, st.Error)
			}
		}
		if !n.usable(now.Add(connectPause)) {
			t.Error("it is not tried again")
		}
		now = now.Add(connectPause)
		if reached(n, now); n.Status(now).State != "up" || !n.usable(now) {
			t.Errorf("reached %s: %s", name, n.Status(now).State)
		}
	}
}
