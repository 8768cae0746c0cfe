package gearmand_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wheelhouse/gearman/gearmand"
	"wheelhouse/gearman/gearmantest"
	"wheelhouse/gearman/packet"
)

// memStore is a store in memory, which can be told to fail and to wait.
type memStore struct {
	mu    sync.Mutex // guards all below
	keys  []string   // in order
	jobs  map[string]gearmand.StoredJob
	adds  int // calls
	gate  chan struct{}
	fail  error
	lose  error // Add keeps the jobs and fails all the same
	stuck error // Remove fails
}

var _ gearmand.Store = (*memStore)(nil)

func newMemStore() *memStore { return &memStore{jobs: map[string]gearmand.StoredJob{}} }

// shut makes all Adds wait until the function that it returns is called.
func (m *memStore) shut() (open func()) {
	gate := make(chan struct{})
	m.set(func() { m.gate = gate })
	return sync.OnceFunc(func() {
		m.set(func() { m.gate = nil })
		close(gate)
	})
}

func (m *memStore) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

var errTooLong = errors.New("its workload is too long")

func (*memStore) Check(j *gearmand.StoredJob) error {
	if len(j.Arg) > 3<<20 {
		return errTooLong
	}
	return nil
}

func (m *memStore) Add(ctx context.Context, list []gearmand.StoredJob) error {
	m.mu.Lock()
	gate := m.gate
	m.adds++
	m.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	for _, j := range list {
		if _, known := m.jobs[j.Key]; !known {
			m.keys = append(m.keys, j.Key)
		}
		j.Arg = slices.Clone(j.Arg)
		m.jobs[j.Key] = j
	}
	return m.lose
}

func (m *memStore) Remove(_ context.Context, keys []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stuck != nil {
		return m.stuck
	}
	for _, k := range keys {
		delete(m.jobs, k)
	}
	m.keys = slices.DeleteFunc(m.keys, func(k string) bool { return slices.Contains(keys, k) })
	return nil
}

func (m *memStore) Load(_ context.Context, f func(gearmand.StoredJob) error) error {
	for _, j := range m.list() {
		if err := f(j); err != nil {
			return err
		}
	}
	return nil
}

func (m *memStore) list() (list []gearmand.StoredJob) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.keys {
		list = append(list, m.jobs[k])
	}
	return list
}

func TestStoredBeforeItIsAcknowledged(t *testing.T) {
	t.Parallel()
	m := newMemStore()
	s := serve(t, gearmand.Options{Store: m})
	c, other := s.dial(t), s.dial(t)
	w := s.dial(t).Worker("f")
	w.Send(packet.PreSleep)
	w.Nothing()
	open := m.shut()
	c.Send(packet.SubmitJobBG, "f", "u", "x")
	c.Send(packet.EchoReq, "behind")
	eventually(t, "the store is asked", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.adds == 1 })
	other.Nothing() // nobody else waits
	w.Nothing()     // it is not handed out yet
	h := other.Submit(packet.SubmitJob, "g", "", "y")
	other.Send(packet.GetStatus, h)
	other.Expect(packet.StatusRes, h, "1")
	if c.Buffered() {
		t.Error("something is answered before the job is stored")
	}
	open()
	h = c.Expect(packet.JobCreated)[0]
	c.Expect(packet.EchoRes, "behind")
	if list := m.list(); len(list) != 1 || list[0].Handle != h || list[0].Unique != "u" || string(list[0].Arg) != "x" {
		t.Errorf("stored: %+v", list)
	}
	w.Expect(packet.Noop)
	w.Grab()
	w.Send(packet.WorkComplete, h, "r")
	eventually(t, "the job is forgotten", func() bool { return len(m.list()) == 0 })
}

// Submissions of all connections that come while the store is busy share a call; answers stay in order.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	m := newMemStore()
	s := serve(t, gearmand.Options{Store: m})
	open := m.shut()
	const conns, each = 10, 50
	var all []*gearmantest.Conn
	for i := range conns {
		c := s.dial(t)
		var b []byte
		for k := range each {
			b = packet.Append(b, packet.Req, packet.SubmitJobBG, "f", fmt.Sprintf("%d-%d", i, k), "x")
			b = packet.Append(b, packet.Req, packet.EchoReq, strconv.Itoa(k))
		}
		c.Raw(string(b))
		all = append(all, c)
	}
	eventually(t, "all have arrived", func() bool { return s.Stats().Submitted == conns*each })
	open()
	for i, c := range all {
		for k := range each {
			h := c.Expect(packet.JobCreated)[0]
			c.Expect(packet.EchoRes, strconv.Itoa(k))
			if k == each-1 {
				c.Send(packet.GetStatusUnique, fmt.Sprintf("%d-%d", i, k))
				c.Expect(packet.StatusResUnique, "*", "1")
				c.Send(packet.GetStatus, h)
				c.Expect(packet.StatusRes, h, "1")
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.adds > 3 {
		t.Errorf("%d calls for %d jobs that came while one ran", m.adds, conns*each)
	}
}

func TestStoreFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		set  func(*memStore)
	}{
		{"keeps nothing", func(m *memStore) { m.fail = errors.New("disk full") }},
		{"keeps it and fails", func(m *memStore) { m.lose = errors.New("connection lost") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMemStore()
			s := serve(t, gearmand.Options{Store: m})
			c, fg := s.dial(t), s.dial(t)
			open := m.shut()
			m.set(func() { tt.set(m) })
			c.Send(packet.SubmitJobBG, "f", "u", "x")
			eventually(t, "the store is asked", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.adds == 1 })
			fg.Send(packet.SubmitJob, "f", "u", "x") // attached to a job that will not be
			eventually(t, "it is attached", func() bool { return s.Stats().Merged == 1 })
			open()
			c.Expect(packet.Error, "QUEUE_ERROR", "Job could not be stored")
			fg.Expect(packet.Error, "QUEUE_ERROR", "Job could not be stored")
			w := s.dial(t).Worker("f")
			if h, _ := w.Grab(); h != "" {
				t.Error("a job that was refused is handed out")
			}
			eventually(t, "nothing is left in the store", func() bool { return len(m.list()) == 0 })
			m.set(func() { m.fail, m.lose = nil, nil })
			if h := c.Submit(packet.SubmitJobBG, "f", "u", "x"); h == "" {
				t.Error("the store works again, the server does not")
			}
		})
	}
}

func TestStoreHangs(t *testing.T) {
	m := newMemStore()
	open := m.shut()
	defer open()
	inBubble(t, gearmand.Options{Store: hanging{m}, StoreTimeout: 5 * time.Second}, func(t *testing.T, dial func() *gearmantest.Conn) {
		c := dial()
		c.Send(packet.SubmitJobBG, "f", "u", "x")
		begun := time.Now()
		c.Expect(packet.Error, "QUEUE_ERROR")
		if d := time.Since(begun); d != 5*time.Second {
			t.Errorf("refused after %v; want 5s", d)
		}
	})
}

// hanging has an Add that waits for the end of its context.
type hanging struct{ *memStore }

func (hanging) Add(ctx context.Context, _ []gearmand.StoredJob) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestStoreThatDoesNotForget(t *testing.T) {
	m := newMemStore()
	inBubble(t, gearmand.Options{Store: m}, func(t *testing.T, dial func() *gearmantest.Conn) {
		m.set(func() { m.stuck = errors.New("read-only") })
		c, w := dial(), dial().Worker("f")
		for range 3 {
			h := c.Submit(packet.SubmitJobBG, "f", "", "x")
			w.Grab()
			w.Send(packet.WorkComplete, h, "r")
			w.Nothing()
		}
		time.Sleep(10 * time.Second)
		if n := len(m.list()); n != 3 {
			t.Errorf("%d jobs are in the store; want 3", n)
		}
		m.set(func() { m.stuck = nil })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := len(m.list()); n != 0 {
			t.Errorf("%d jobs are in the store; want none", n)
		}
	})
}

// After a restart everything is there: handles, order, priorities, uniques, times.
func TestRestart(t *testing.T) {
	t.Parallel()
	m := newMemStore()
	s := serve(t, gearmand.Options{Store: m, HandlePrefix: "H:t", Retries: 3})
	c := s.dial(t)
	var handles []string
	for i := range 10 {
		handles = append(handles, c.Submit(packet.SubmitJobBG, "f", "", strconv.Itoa(i)))
	}
	high := c.Submit(packet.SubmitJobHighBG, "f", "u", "high")
	c.Send(packet.SubmitJobEpoch, "f", "", strconv.FormatInt(time.Now().Unix()+3600, 10), "later")
	later := c.Expect(packet.JobCreated)[0]
	c.Send(packet.SubmitReduceJobBG, "g", "", "sum", "", "x")
	reduce := c.Expect(packet.JobCreated)[0]
	c.Submit(packet.SubmitJob, "f", "", "foreground")
	w := s.dial(t).Worker("f")
	if h, _ := w.Grab(); h != high {
		t.Fatalf("got %q", h)
	}
	w.Close()
	eventually(t, "the number of retries is stored", func() bool {
		return slices.ContainsFunc(m.list(), func(j gearmand.StoredJob) bool { return j.Handle == high && j.Retries == 1 })
	})
	s.Close()

	s = serve(t, gearmand.Options{Store: m, HandlePrefix: "H:t", Retries: 3})
	c = s.dial(t)
	if lines := c.Command("show jobs"); !slices.Contains(lines, high+"\t1\t0\t1") {
		t.Errorf("show jobs: %q", lines)
	}
	for _, h := range append(handles, high, later, reduce) {
		c.Send(packet.GetStatus, h)
		c.Expect(packet.StatusRes, h, "1", "0", "0", "0")
	}
	if h := c.Submit(packet.SubmitJobBG, "f", "u", "again"); h != high {
		t.Errorf("the unique is not known any more: %q", h)
	}
	if h := c.Submit(packet.SubmitJobBG, "z", "", "new"); slices.Contains(append(handles, high, later, reduce), h) {
		t.Errorf("handle %s is given out again", h)
	}
	w = s.dial(t).Worker("f")
	for _, want := range append([]string{high}, handles...) {
		h, _ := w.Grab()
		if h != want {
			t.Fatalf("got %q; want %q", h, want)
		}
		w.Send(packet.WorkComplete, h, "")
	}
	if h, data := w.Grab(); h != "" {
		t.Errorf("got %q %q; want none", h, data)
	}
	w.Worker("g")
	w.Send(packet.GrabJobAll)
	w.Expect(packet.JobAssignAll, reduce, "g", "", "sum", "x")
}

// Jobs of a server with another prefix keep their handles; jobs without a handle get one.
func TestRestartElsewhere(t *testing.T) {
	t.Parallel()
	m := newMemStore()
	m.Add(t.Context(), []gearmand.StoredJob{
		{Key: "1", Func: "f", Handle: "H:old:7", Arg: []byte("a"), Priority: gearmand.Normal},
		{Key: "2", Func: "f", Arg: []byte("b"), Priority: gearmand.High},
		{Key: "3", Func: "f", Handle: "H:t:40", Arg: []byte("c"), Priority: gearmand.Low},
	})
	s := serve(t, gearmand.Options{Store: m, HandlePrefix: "H:t"})
	w := s.dial(t).Worker("f")
	for _, want := range []string{"H:t:41", "H:old:7", "H:t:40"} {
		if h, _ := w.Grab(); h != want {
			t.Errorf("got %q; want %q", h, want)
		}
		w.Send(packet.WorkComplete, want, "")
	}
	w.Nothing()
	eventually(t, "all are forgotten", func() bool { return len(m.list()) == 0 })
}

func TestLoadFails(t *testing.T) {
	t.Parallel()
	m := newMemStore()
	m.Add(t.Context(), []gearmand.StoredJob{{Key: "k"}})
	if _, err := gearmand.Open(t.Context(), gearmand.Options{Store: m}); err == nil || !strings.Contains(err.Error(), "load") {
		t.Errorf("Open = %v; want an error", err)
	}
}

// A background submission that joins a foreground job is durable when it is answered.
func TestForegroundJobIsStored(t *testing.T) {
	t.Parallel()
	m := newMemStore()
	s := serve(t, gearmand.Options{Store: m})
	fg, bg := s.dial(t), s.dial(t)
	h := fg.Submit(packet.SubmitJob, "f", "u", "x")
	if n := len(m.list()); n != 0 {
		t.Fatalf("%d jobs stored; a foreground job is not", n)
	}
	if got := bg.Submit(packet.SubmitJobBG, "f", "u", "x"); got != h {
		t.Fatalf("got %q; want %q", got, h)
	}
	if list := m.list(); len(list) != 1 || list[0].Handle != h {
		t.Errorf("stored: %+v", list)
	}
	fg.Close()
	eventually(t, "the client is gone", func() bool { return s.Stats().Connections == 1 })
	w := s.dial(t).Worker("f")
	if got, _ := w.Grab(); got != h {
		t.Errorf("got %q; want %q", got, h)
	}
	w.Send(packet.WorkComplete, h, "")
	eventually(t, "it is forgotten", func() bool { return len(m.list()) == 0 })
}

// The same, when the job ends, or loses its client, while it is being stored.
func TestForegroundJobEndsWhileItIsStored(t *testing.T) {
	t.Parallel()
	for _, ends := range []bool{true, false} {
		m := newMemStore()
		s := serve(t, gearmand.Options{Store: m})
		fg, bg, w := s.dial(t), s.dial(t), s.dial(t).Worker("f")
		h := fg.Submit(packet.SubmitJob, "f", "u", "x")
		open := m.shut()
		bg.Send(packet.SubmitJobBG, "f", "u", "x")
		eventually(t, "the store is asked", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.adds == 1 })
		if ends {
			w.Grab()
			w.Send(packet.WorkComplete, h, "r")
			fg.Expect(packet.WorkComplete, h, "r")
		} else {
			fg.Close()
			eventually(t, "the client is gone", func() bool { return s.Stats().Connections == 2 })
		}
		open()
		bg.Expect(packet.JobCreated, h)
		if !ends {
			if got, _ := w.Grab(); got != h {
				t.Errorf("got %q; want %q", got, h)
			}
			w.Send(packet.WorkComplete, h, "r")
		}
		eventually(t, "it is forgotten", func() bool { return len(m.list()) == 0 })
	}
}

// Cancelled and dropped jobs leave the store too, also those that are just on their way.
func TestCancelStored(t *testing.T) {
	t.Parallel()
	m := newMemStore()
	s := serve(t, gearmand.Options{Store: m})
	c, admin := s.dial(t), s.dial(t)
	h := c.Submit(packet.SubmitJobBG, "f", "", "x")
	open := m.shut()
	c.Send(packet.SubmitJobBG, "f", "u", "y")
	eventually(t, "it is on its way", func() bool { return len(admin.Command("show jobs")) == 2 })
	admin.Raw("cancel job " + h + "\n")
	if l := admin.Line(); l != "OK\r" {
		t.Error(l)
	}
	lines := admin.Command("show jobs")
	if len(lines) != 1 {
		t.Fatalf("show jobs: %q", lines)
	}
	h, _, _ = strings.Cut(lines[0], "\t")
	admin.Raw("cancel job " + h + "\n")
	admin.Line()
	open()
	c.Expect(packet.JobCreated, h)
	eventually(t, "both are forgotten", func() bool { return len(m.list()) == 0 && len(admin.Command("show jobs")) == 0 })
}

// A client that submits without end while the store is busy blocks itself, and its answers come in order.
func TestMuchBehindTheStore(t *testing.T) {
	t.Parallel()
	m := newMemStore()
	s := serve(t, gearmand.Options{Store: m})
	c, other := s.dial(t), s.dial(t)
	open := m.shut()
	defer open()
	const n = 200
	part := strings.Repeat("x", 16<<10)
	go func() {
		b := packet.Append(nil, packet.Req, packet.SubmitJobBG, "f", "", "x")
		for range n {
			b = packet.Append(b, packet.Req, packet.EchoReq, part)
		}
		c.Write(b)
	}()
	eventually(t, "it has been heard", func() bool { return s.Stats().Packets > 10 })
	other.Nothing()
	if p := s.Stats().Packets; p > n/2 {
		t.Errorf("%d packets are answered in memory", p)
	}
	open()
	c.Expect(packet.JobCreated)
	for range n {
		c.Expect(packet.EchoRes, part)
	}
}

// What the store would not take is refused with its reason, without asking it for the others.
func TestStoreChecks(t *testing.T) {
	t.Parallel()
	m := newMemStore()
	s := serve(t, gearmand.Options{Store: m})
	c, other := s.dial(t), s.dial(t)
	long := strings.Repeat("x", 3<<20+1)
	refusal := "Job could not be stored: " + errTooLong.Error()
	c.Send(packet.SubmitJobBG, "f", "", long)
	c.Expect(packet.Error, "QUEUE_ERROR", refusal)
	h := c.Submit(packet.SubmitJob, "f", "u", long)
	other.Send(packet.SubmitJobBG, "f", "u", "")
	other.Expect(packet.Error, "QUEUE_ERROR", refusal)
	c.Send(packet.GetStatus, h)
	c.Expect(packet.StatusRes, h, "1")
	if m.set(func() {}); m.adds != 0 {
		t.Errorf("%d calls of Add; want none", m.adds)
	}
}

// picky fails when there is a large job, as a database does for reasons of its own.
type picky struct{ *memStore }

func (p picky) Add(ctx context.Context, list []gearmand.StoredJob) error {
	if slices.ContainsFunc(list, func(j gearmand.StoredJob) bool { return len(j.Arg) > 1<<20 }) {
		return errors.New("packet too large")
	}
	return p.memStore.Add(ctx, list)
}

// A large job that the store refuses has no others with it.
func TestLargeJobsAreStoredAlone(t *testing.T) {
	t.Parallel()
	m := newMemStore()
	s := serve(t, gearmand.Options{Store: picky{m}})
	c := s.dial(t)
	open := m.shut()
	c.Send(packet.SubmitJobBG, "f", "", "first")
	eventually(t, "the store is asked", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.adds == 1 })
	for _, data := range []string{"a", strings.Repeat("x", 1<<20+1), "b"} {
		c.Send(packet.SubmitJobBG, "f", "", data)
	}
	eventually(t, "all are read", func() bool { return s.Stats().Submitted == 4 })
	open()
	c.Expect(packet.JobCreated)
	c.Expect(packet.JobCreated)
	c.Expect(packet.Error, "QUEUE_ERROR")
	c.Expect(packet.JobCreated)
}

// A store that fails at once is not asked to forget again before a second is over, however many submissions it refuses, nor does
// each of its failures fill the log.
func TestStoreFailsFast(t *testing.T) {
	m := newMemStore()
	var removes, lines atomic.Int32
	log := slog.New(slog.NewTextHandler(countingWriter{&lines}, nil))
	inBubble(t, gearmand.Options{Store: countingStore{m, &removes}, Log: log}, func(t *testing.T, dial func() *gearmantest.Conn) {
		m.set(func() { m.fail, m.stuck = errors.New("connection refused"), errors.New("connection refused") })
		c := dial()
		for range 100 {
			c.Send(packet.SubmitJobBG, "f", "", "x")
			c.Expect(packet.Error, "QUEUE_ERROR")
		}
		synctest.Wait()
		if n := removes.Load(); n != 1 {
			t.Errorf("%d calls of Remove; want 1", n)
		}
		if n := lines.Load(); n != 1 {
			t.Errorf("%d lines of log; want 1", n)
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if n := removes.Load(); n != 2 {
			t.Errorf("%d calls of Remove after a second; want 2", n)
		}
	})
}

type countingStore struct {
	*memStore
	removes *atomic.Int32
}

func (s countingStore) Remove(ctx context.Context, keys []string) error {
	s.removes.Add(1)
	return s.memStore.Remove(ctx, keys)
}

type countingWriter struct{ n *atomic.Int32 }

func (w countingWriter) Write(p []byte) (int, error) {
	w.n.Add(1)
	return len(p), nil
}

// A background submission that meets a cancelled job that still runs is promised like any other.
func TestCancelledAndSubmittedAgain(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]gearmand.Store{"memory": nil, "store": newMemStore()} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, gearmand.Options{Store: store})
			c, w := s.dial(t), s.dial(t).Worker("f")
			h := c.Submit(packet.SubmitJobBG, "f", "u", "x")
			w.Grab()
			c.Raw("cancel job " + h + "\n")
			if l := c.Line(); l != "OK\r" {
				t.Fatalf("cancel: %q", l)
			}
			if again := c.Submit(packet.SubmitJobBG, "f", "u", "x"); again != h {
				t.Errorf("handle %s; want %s", again, h)
			}
			if m, ok := store.(*memStore); ok && len(m.list()) != 1 {
				t.Errorf("%d jobs are in the store; want 1", len(m.list()))
			}
			w.Close()
			other := s.dial(t).Worker("f")
			eventually(t, "it is queued again", func() bool { return s.Stats().Requeued == 1 })
			other.Grab()
		})
	}
}
