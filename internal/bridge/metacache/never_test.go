package metacache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/memcache"
	"wheelhouse/store"
)

// history is what was done to one name, by one writer. Its steps are numbered; after a step there is a version, or nothing (-1).
type history struct {
	what  string
	acked atomic.Int64
	mu    sync.Mutex // guards steps
	steps []int
}

func newHistory(what string) *history { return &history{what: what, steps: []int{-1}} }

// begin returns the number of a new step, which makes the version of that number, or nothing.
func (h *history) begin(gone bool) int {
	version := len(h.steps) // only the writer adds to them
	if gone {
		version = -1
	}
	return h.beginWith(version)
}

func (h *history) beginWith(version int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.steps = append(h.steps, version)
	return len(h.steps) - 1
}

// gone reports whether there is nothing now. For the writer alone.
func (h *history) gone() bool { return h.steps[len(h.steps)-1] < 0 }

func (h *history) ack(step int) { h.acked.Store(int64(step)) }

// judge says what is wrong with a reader having seen a version, or nothing (-1), who began when floor was acknowledged.
func (h *history) judge(floor int64, version int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Contains(h.steps[floor:], version) {
		return fmt.Errorf("%s: read version %d (-1: nothing) when step %d was acknowledged; the steps since: %d", h.what, version, floor, h.steps[floor:])
	}
	return nil
}

// trial is several dispatchers, readers and writers on each, and servers to which everything happens.
type trial struct {
	*testing.T
	site    *site
	daemons []daemon
	links   [][]*link // by dispatcher and server
	parts   []*running
	objects []*history
	bucket  *history
	places  []place
	ids     atomic.Uint64
	wrote   chan struct{} // one for each write that was acknowledged
	read    atomic.Int64
	rest    sync.RWMutex // held by who reads or writes; alone by who wants quiet
}

// place is where the object can be that is renamed all the time.
type place struct {
	*history
	bucket store.Bucket
	name   string
}

const (
	dispatchers = 3
	names       = 4
	// A short time to believe in, so that faults are gone through quickly, and a short one to wait for answers.
	trialLease   = 100 * time.Millisecond
	trialTimeout = 100 * time.Millisecond
)

func newTrial(t *testing.T) *trial {
	tr := &trial{T: t, wrote: make(chan struct{}, 1), bucket: newHistory("bucket")}
	tr.daemons = []daemon{&debian{t: t, port: freePort(t)}, &warm{t: t, port: freePort(t), file: filepath.Join(t.TempDir(), "items")}}
	var addrs []string
	for _, d := range tr.daemons {
		d.start()
		t.Cleanup(d.kill)
		addrs = append(addrs, d.addr())
	}
	tr.site = newSite(t, addrs...)
	tr.ids.Store(uint64(tr.site.next))
	other, err := tr.site.open().CreateBucket(t.Context(), store.Bucket{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []place{{bucket: tr.site.bucket, name: "r0"}, {bucket: tr.site.bucket, name: "r1"}, {bucket: other, name: "r0"}} {
		p.history = newHistory("moving object at /" + p.bucket.Name + "/" + p.name)
		tr.places = append(tr.places, p)
	}
	for i := range names {
		tr.objects = append(tr.objects, newHistory(fmt.Sprint("object ", i)))
	}
	for range dispatchers {
		var links []*link
		for _, a := range addrs {
			links = append(links, newLink(t, a))
		}
		c, err := New(tr.site.open(), Options{Servers: tr.site.members, Timeout: trialTimeout, lease: trialLease, rest: trialTimeout, dial: through(links...)})
		if err != nil {
			t.Fatal(err)
		}
		r := run(t, c)
		t.Cleanup(func() {
			r.stop()
			if err := c.CloseServers(); err != nil {
				t.Error(err)
			}
		})
		tr.links, tr.parts = append(tr.links, links), append(tr.parts, r)
	}
	return tr
}

// any returns one of the dispatchers.
func (tr *trial) any() *Cache { return tr.parts[rand.IntN(len(tr.parts))].Cache }

// writeObject does one step of one object.
func (tr *trial) writeObject(ctx context.Context, i int) error {
	h, c, name := tr.objects[i], tr.any(), fmt.Sprint("o", i)
	kind := rand.IntN(10)
	if h.gone() {
		kind = 0
	}
	step := h.begin(kind == 9)
	var err error
	switch {
	case kind == 9:
		_, err = c.Delete(ctx, tr.site.bucket.ID, name, store.Condition{})
	case kind >= 7:
		var o store.Object
		if _, o, err = c.Catalog.Find(ctx, "b", name); err == nil {
			o.CacheControl = strconv.Itoa(step)
			err = c.Update(ctx, o)
		}
	default:
		o := store.Object{ID: store.ObjectID(tr.ids.Add(1)), Bucket: tr.site.bucket.ID, Name: name, Cluster: 1, CacheControl: strconv.Itoa(step)}
		_, err = c.Commit(ctx, store.Commit{Object: o})
	}
	if err == nil {
		h.ack(step)
	}
	return err
}

// moveObject does one step of the object that is renamed all the time: it is stored, renamed to another place, or deleted.
func (tr *trial) moveObject(ctx context.Context) error {
	c, kind := tr.any(), rand.IntN(10)
	at := slices.IndexFunc(tr.places, func(p place) bool { return !p.gone() })
	if at < 0 {
		at, kind = rand.IntN(len(tr.places)), 0
	}
	from := tr.places[at]
	step := 0
	var err error
	switch {
	case kind < 3:
		version := int(tr.ids.Add(1))
		step = from.beginWith(version)
		_, err = c.Commit(ctx, store.Commit{Object: store.Object{
			ID: store.ObjectID(version), Bucket: from.bucket.ID, Name: from.name, Cluster: 1, CacheControl: strconv.Itoa(version),
		}})
	case kind < 9:
		to := tr.places[(at+1+rand.IntN(len(tr.places)-1))%len(tr.places)]
		there := to.beginWith(from.steps[len(from.steps)-1])
		step = from.begin(true)
		if err = c.Rename(ctx, from.bucket.ID, from.name, to.bucket.ID, to.name); err == nil {
			to.ack(there)
		}
	default:
		step = from.begin(true)
		_, err = c.Delete(ctx, from.bucket.ID, from.name, store.Condition{})
	}
	if err == nil {
		from.ack(step)
	}
	return err
}

// writeBucket does one step of the bucket that is changed all the time.
func (tr *trial) writeBucket(ctx context.Context) error {
	h, c := tr.bucket, tr.any()
	b := store.Bucket{Name: "moving"}
	if h.gone() {
		step := h.begin(false)
		b.CacheControl = strconv.Itoa(step)
		_, err := c.CreateBucket(ctx, b)
		if err == nil {
			h.ack(step)
		}
		return err
	}
	kind := rand.IntN(4)
	step := h.begin(kind < 2)
	var err error
	switch kind {
	case 0:
		err = c.DeleteBucket(ctx, "moving", false)
	case 1:
		err = c.RenameBucket(ctx, "moving", fmt.Sprint("moved", step))
	default:
		if b, err = c.Catalog.Bucket(ctx, "moving"); err == nil {
			b.CacheControl = strconv.Itoa(step)
			err = c.UpdateBucket(ctx, b)
		}
	}
	if err == nil {
		h.ack(step)
	}
	return err
}

func version(text string, gone bool) (int, error) {
	if gone {
		return -1, nil
	}
	return strconv.Atoi(text)
}

// readOne looks something up at one dispatcher.
func (tr *trial) readOne(ctx context.Context, c *Cache) error {
	tr.read.Add(1)
	if rand.IntN(6) == 0 {
		floor := tr.bucket.acked.Load()
		b, err := c.Bucket(ctx, "moving")
		if err != nil && !errors.Is(err, store.ErrNoBucket) {
			return err
		}
		v, err := version(b.CacheControl, err != nil)
		return errors.Join(err, tr.bucket.judge(floor, v))
	}
	i := rand.IntN(names + len(tr.places))
	h, bucket, name := (*history)(nil), "b", fmt.Sprint("o", i)
	if i < names {
		h = tr.objects[i]
	} else {
		p := tr.places[i-names]
		h, bucket, name = p.history, p.bucket.Name, p.name
	}
	floor := h.acked.Load()
	_, o, err := c.Find(ctx, bucket, name)
	if err != nil && !errors.Is(err, store.ErrNoObject) {
		return err
	}
	v, err := version(o.CacheControl, err != nil)
	return errors.Join(err, h.judge(floor, v))
}

// begin starts readers and writers; the function returned ends them.
func (tr *trial) begin() (end func()) {
	ctx, cancel := context.WithCancel(tr.Context())
	var wait sync.WaitGroup
	loop := func(f func() error) {
		wait.Go(func() {
			for ctx.Err() == nil && !tr.Failed() {
				tr.rest.RLock()
				err := f()
				tr.rest.RUnlock()
				if err != nil && ctx.Err() == nil {
					tr.Error(err)
				}
			}
		})
	}
	write := func(f func(context.Context) error) {
		loop(func() error {
			err := f(context.WithoutCancel(ctx)) // to know whether it was done
			select {
			case tr.wrote <- struct{}{}:
			default:
			}
			for range 40 { // writing all the time it would keep everybody from caches all the time
				err = errors.Join(err, tr.readOne(context.WithoutCancel(ctx), tr.any()))
			}
			return err
		})
	}
	for i := range names {
		write(func(ctx context.Context) error { return tr.writeObject(ctx, i) })
	}
	write(tr.writeBucket)
	write(tr.moveObject)
	for _, p := range tr.parts {
		for range 2 {
			loop(func() error { return tr.readOne(ctx, p.Cache) })
		}
	}
	return func() { cancel(); wait.Wait() }
}

// writes waits until some more writes were acknowledged.
func (tr *trial) writes(n int) {
	tr.Helper()
	late := time.After(patience)
	for range n {
		select {
		case <-tr.wrote:
		case <-late:
			tr.Fatal("writers do not come on")
		}
		if tr.Failed() {
			tr.FailNow()
		}
	}
}

// allIn waits until all dispatchers read from all servers. Readers and writers rest meanwhile: on a slow machine there would always be one whose delete is
// too late, and its server put out of use again.
func (tr *trial) allIn() {
	tr.Helper()
	tr.rest.Lock()
	defer tr.rest.Unlock()
	eventually(tr, "all servers are in use again", func() bool {
		ready := true
		for _, p := range tr.parts {
			if _, _, err := p.Find(tr.Context(), "b", "o0"); err != nil && !errors.Is(err, store.ErrNoObject) { // which renews its lease
				tr.Fatal(err)
			}
			servers, used := p.States()
			ready = ready && used == servers
		}
		return ready
	})
}

// TestNeverOlderThanAcknowledged: whatever happens to servers and to the ways to them, no reader, at whichever dispatcher, is given what is older than what was
// acknowledged, by whichever dispatcher, before it asked.
func TestNeverOlderThanAcknowledged(t *testing.T) {
	tr := newTrial(t)
	end := tr.begin()
	defer end()
	tr.allIn()
	client := func(d daemon, f func(*memcache.Client) error) {
		servers, err := memcache.ParseServers(d.addr())
		if err != nil {
			t.Fatal(err)
		}
		c, err := memcache.New(servers)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := f(c); err != nil {
			t.Error(err)
		}
	}
	// Some answers come in time and others do not, and what was given up arrives later.
	slow := func(ways ...*link) (heal func()) {
		for _, l := range ways {
			l.delay(trialTimeout * 3 / 2)
		}
		return func() {
			for _, l := range ways {
				l.heal()
			}
		}
	}
	for _, fault := range []struct {
		name string
		do   func(d daemon, ways []*link) (heal func())
	}{
		{"nothing", func(daemon, []*link) func() { return func() {} }},
		{"killed and started again", func(d daemon, _ []*link) func() { d.kill(); return d.start }},
		{"killed and started at once", func(d daemon, _ []*link) func() { d.kill(); d.start(); return func() {} }},
		{"stopped", func(d daemon, _ []*link) func() { d.pause(true); return func() { d.pause(false) } }},
		{"cut off from one", func(_ daemon, w []*link) func() { w[0].setCut(true); return w[0].heal }},
		{"connections broken", func(_ daemon, w []*link) func() {
			for _, l := range w {
				l.setCut(true)
				l.heal()
			}
			return func() {}
		}},
		{"requests of one held", func(_ daemon, w []*link) func() { w[1].hold(requests, true); return w[1].heal }},
		{"replies to one held", func(_ daemon, w []*link) func() { w[2].hold(replies, true); return w[2].heal }},
		{"all ways slow", func(_ daemon, w []*link) func() { return slow(w...) }},
		{"one way slow", func(_ daemon, w []*link) func() { return slow(w[0]) }},
		{"all cut off", func(_ daemon, w []*link) func() {
			for _, l := range w {
				l.setCut(true)
			}
			return func() {
				for _, l := range w {
					l.heal()
				}
			}
		}},
		{"flushed", func(d daemon, _ []*link) func() {
			client(d, func(c *memcache.Client) error { return c.FlushAll(context.WithoutCancel(t.Context())) })
			return func() {}
		}},
	} {
		for i, d := range tr.daemons {
			ways := make([]*link, dispatchers)
			for j := range ways {
				ways[j] = tr.links[(i+j)%dispatchers][i]
			}
			heal := fault.do(d, ways)
			tr.writes(40)
			heal()
			tr.writes(20)
			tr.allIn()
			if t.Failed() {
				t.Fatalf("while server %d was: %s", i, fault.name)
			}
		}
	}
	end()
	var s Stats
	for _, p := range tr.parts {
		q := p.Stats()
		s.Hits, s.Misses, s.Avoided, s.Failures, s.Swaps = s.Hits+q.Hits, s.Misses+q.Misses, s.Avoided+q.Avoided, s.Failures+q.Failures, s.Swaps+q.Swaps
		s.Fills, s.Lost, s.Timeouts, s.Waits, s.Deletes = s.Fills+q.Fills, s.Lost+q.Lost, s.Timeouts+q.Timeouts, s.Waits+q.Waits, s.Deletes+q.Deletes
	}
	t.Logf("%d look-ups; %+v", tr.read.Load(), s)
	if s.Hits == 0 || s.Fills == 0 || s.Timeouts == 0 || s.Waits == 0 || s.Deletes == 0 {
		t.Errorf("%+v: not all of it was put to the test", s)
	}
}
