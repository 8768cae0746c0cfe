package metacache

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"wheelhouse/memcache"
	"wheelhouse/store"
)

const testLease = leaseTime

// reader and writer are two processes that use one server, which is in use.
func readerAndWriter(t *testing.T) (r, w *process, s *site) {
	s = newSite(t, startOurs(t))
	s.setIn(testLease)
	c := newClock()
	r, w = s.process(c, Options{}), s.process(c, Options{})
	r.renew()
	w.renew()
	return r, w, s
}

// What one process writes the others see, although caches answer.
func TestChangesAreSeen(t *testing.T) {
	r, w, s := readerAndWriter(t)
	ctx := t.Context()
	w.commit("x", 1)
	r.warm("x", 1)
	w.find("x") // which id the bucket has
	w.want("x", 1, true)
	w.commit("x", 2)
	r.want("x", 2, false)
	r.want("x", 2, true)
	_, o, err := r.Find(ctx, "b", "x")
	if err != nil {
		t.Fatal(err)
	}
	o.CacheControl = "changed"
	if err := w.Update(ctx, o); err != nil {
		t.Fatal(err)
	}
	if _, o, err := r.Find(ctx, "b", "x"); err != nil || o.CacheControl != "changed" {
		t.Errorf("after Update: %+v, %v", o, err)
	}
	r.warm("y", -1) // that there is none is cached too
	if err := w.Rename(ctx, s.bucket.ID, "x", s.bucket.ID, "y"); err != nil {
		t.Fatal(err)
	}
	r.want("y", 2, false)
	r.want("x", -1, false)
	r.warm("y", 2)
	if _, err := w.Delete(ctx, s.bucket.ID, "y", store.Condition{}); err != nil {
		t.Fatal(err)
	}
	r.warm("y", -1)
	if _, err := w.Undelete(ctx, "b", "y", 0, false); err != nil {
		t.Fatal(err)
	}
	r.want("y", 2, false)
	r.warm("y", 2)
	_, o, _ = r.Find(ctx, "b", "y")
	to := o
	to.ID, to.Cluster = w.id(), 9
	if err := w.MoveObject(ctx, o.ID, to, nil); err != nil {
		t.Fatal(err)
	}
	if _, got, err := r.Find(ctx, "b", "y"); err != nil || got.ID != to.ID || got.Cluster != 9 {
		t.Errorf("after MoveObject: %+v, %v; want id %d in cluster 9", got, err, to.ID)
	}
	r.warm("y", 2)
	if err := w.AddMissing(ctx, to.ID, []store.StorageID{3}); err != nil {
		t.Fatal(err)
	}
	for range 3 { // what is owed is not cached
		if v, hit := r.find("y"); v != 2 || hit {
			t.Errorf("an object that is owed: version %d, cached %v", v, hit)
		}
		if _, got, err := r.Find(ctx, "b", "y"); err != nil || len(got.Missing) != 1 {
			t.Errorf("after AddMissing: %+v, %v", got, err)
		}
	}
}

func TestBucketChangesAreSeen(t *testing.T) {
	r, w, s := readerAndWriter(t)
	ctx := t.Context()
	w.commit("x", 1)
	bucket := func(name string, want func(b store.Bucket, err error) bool) {
		t.Helper()
		for range 3 {
			b, err := r.Bucket(ctx, name)
			r.work.Wait()
			found, _, findErr := r.Find(ctx, name, "x")
			r.work.Wait()
			if !want(b, err) || err == nil && findErr == nil && found != b {
				t.Errorf("bucket %s: %+v, %v; with an object %+v, %v", name, b, err, found, findErr)
			}
		}
	}
	none := func(_ store.Bucket, err error) bool { return errors.Is(err, store.ErrNoBucket) }
	bucket("b", func(b store.Bucket, err error) bool { return err == nil && b.CacheControl == "" })
	r.warm("x", 1)
	changed := s.bucket
	changed.CacheControl, changed.Name = "x", "a name that UpdateBucket does not look at"
	if err := w.UpdateBucket(ctx, changed); err != nil {
		t.Fatal(err)
	}
	bucket("b", func(b store.Bucket, err error) bool { return err == nil && b.CacheControl == "x" })
	r.warm("x", 1)

	// Away and back: what was written under the other name counts under the old one.
	if err := w.RenameBucket(ctx, "b", "c"); err != nil {
		t.Fatal(err)
	}
	bucket("b", none)
	bucket("c", func(b store.Bucket, err error) bool { return err == nil && b.Name == "c" && b.ID == s.bucket.ID })
	w.commit("x", 2)
	if err := w.RenameBucket(ctx, "c", "b"); err != nil {
		t.Fatal(err)
	}
	bucket("c", none)
	r.want("x", 2, false)
	r.warm("x", 2)

	// Deleted and made anew: another bucket.
	if err := w.DeleteBucket(ctx, "b", true); err != nil {
		t.Fatal(err)
	}
	bucket("b", none)
	b, err := w.CreateBucket(ctx, store.Bucket{Name: "b"})
	if err != nil {
		t.Fatal(err)
	}
	bucket("b", func(got store.Bucket, err error) bool { return err == nil && got.ID == b.ID })
	r.warm("x", -1)

	// The first one comes back, of which an object was taken out behind its back.
	if err := w.DeleteBucket(ctx, "b", false); err != nil {
		t.Fatal(err)
	}
	if err := w.cat.RenameBucket(ctx, "b", "b"); !errors.Is(err, store.ErrNoBucket) {
		t.Fatal(err)
	}
	if n, err := w.EmptyBucket(ctx, s.bucket.ID, 1); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	for range 2 { // the newest one first
		if _, err := w.UndeleteBucket(ctx, "b"); err != nil {
			t.Fatal(err)
		}
		got, err := r.Bucket(ctx, "b")
		if err != nil {
			t.Fatal(err)
		}
		if got.ID == s.bucket.ID {
			break
		}
		if err := w.RenameBucket(ctx, "b", "other"); err != nil {
			t.Fatal(err)
		}
	}
	r.clock.add(testLease)
	r.want("x", -1, false)
}

// A reader that has asked the catalog before a commit comes back after it, and leaves nothing behind.
func TestLateFill(t *testing.T) {
	r, w, _ := readerAndWriter(t)
	w.commit("x", 1)
	r.find("x")
	w.commit("x", 2)
	r.cat.afterFind = func(string) { w.commit("x", 3) }
	if v, _ := r.find("x"); v != 2 {
		t.Errorf("the reader that began before the commit: version %d; want 2", v)
	}
	if r.Stats().Lost == 0 {
		t.Error("the late fill was not lost")
	}
	r.want("x", 3, false)
	r.warm("x", 3)
}

// Without the delete, the test sees the old version: it would be seen if a change went past it.
func TestWithoutDeletesOldVersionsAreSeen(t *testing.T) {
	s := newSite(t, startOurs(t))
	s.setIn(testLease)
	c := newClock()
	r, w := s.process(c, Options{}), s.process(c, Options{noDelete: true})
	r.renew()
	w.commit("x", 1)
	r.warm("x", 1)
	w.commit("x", 2)
	r.want("x", 1, true)
}

// A server that cannot be reached by a writer is put out of use, and the write is acknowledged when nobody reads from it any more.
func TestWriterIsCutOff(t *testing.T) {
	for _, noWait := range []bool{false, true} {
		addr := startOurs(t)
		s := newSite(t, addr)
		s.setIn(testLease)
		c := newClock()
		way := newLink(t, addr)
		r, w := s.process(c, Options{}), s.process(c, Options{dial: through(way), noWait: noWait})
		r.renew()
		w.commit("x", 1)
		r.warm("x", 1)
		way.setCut(true)
		if noWait { // the one rule left out: the old version is seen after the new one was acknowledged
			w.commit("x", 2)
			r.want("x", 1, true)
			continue
		}
		began := c.now()
		w.commit("x", 2)
		if waited := c.now().Sub(began); waited < testLease {
			t.Errorf("the write was acknowledged after %s; others believe in the server for %s", waited, testLease)
		}
		r.want("x", 2, false)
		if l := r.renew(); l.members[0].state != out {
			t.Errorf("the server is %s", l.members[0].state)
		}
		// It comes back in its time, empty.
		way.setCut(false)
		c.add(2 * testLease)
		if l := w.renew(); l.members[0].state != joining {
			t.Errorf("a server that answers again is %s; want joining", l.members[0].state)
		}
		r.renew()
		r.want("x", 2, false)
		w.commit("x", 3)
		c.add(2 * testLease)
		r.renew() // who goes on need not be who began
		c.add(2 * testLease)
		if l := r.renew(); l.members[0].state != in {
			t.Errorf("a server that has joined is %s; want in", l.members[0].state)
		}
		r.warm("x", 3)
	}
}

// A process that learns that a server is out does not know for how long: others may still read from it.
func TestWriterWhoDidNotSwap(t *testing.T) {
	addr := startOurs(t)
	s := newSite(t, addr)
	s.setIn(testLease)
	c := newClock()
	way := newLink(t, addr)
	r, first, second := s.process(c, Options{}), s.process(c, Options{dial: through(way)}), s.process(c, Options{dial: through(way)})
	r.renew()
	first.commit("x", 1)
	first.commit("y", 1)
	r.warm("x", 1)
	way.setCut(true)
	// The first one has swapped and waits; meanwhile the second one writes.
	wrote := false
	first.opts.sleep = func(ctx context.Context, d time.Duration) error {
		if !wrote {
			wrote = true
			second.commit("x", 2)
			r.want("x", 2, false)
		}
		return c.sleep(ctx, d)
	}
	first.commit("y", 2)
	if !wrote {
		t.Fatal("the first writer did not wait")
	}
}

// A delete whose answer does not come, and which is done later, does no harm; and the write does not wait for it.
func TestLostAnswer(t *testing.T) {
	for _, direction := range []int{requests, replies} {
		addr := startOurs(t)
		s := newSite(t, addr)
		s.setIn(testLease)
		c := newClock()
		way := newLink(t, addr)
		r, w := s.process(c, Options{}), s.process(c, Options{dial: through(way), Timeout: 20 * time.Millisecond})
		r.renew()
		eventually(t, "the writer reaches the server", func() bool {
			w.commit("x", 1)
			c.add(3 * testLease)
			w.renew()
			return r.renew().members[0].state == in
		})
		r.warm("x", 1)
		way.hold(direction, true)
		w.commit("x", 2)
		r.want("x", 2, false)
		way.hold(direction, false)
		r.want("x", 2, false)
		if w.Stats().Timeouts == 0 {
			t.Error("no write has counted a server that does not answer")
		}
	}
}

// A reader that sleeps between the question and the use of the answer does not use it.
func TestReaderIsPaused(t *testing.T) {
	addr := startOurs(t)
	s := newSite(t, addr)
	s.setIn(testLease)
	c := newClock()
	r, w := s.process(c, Options{}), s.process(c, Options{})
	r.renew()
	w.commit("x", 1)
	r.warm("x", 1)
	// The reader's clock goes on while the answer is under way.
	n := 0
	r.opts.now = func() time.Time {
		if n++; n == 3 { // valid, ready, and then still
			c.add(testLease)
		}
		return c.now()
	}
	if _, hit := r.find("x"); hit {
		t.Error("an answer was used that came after the end of the lease")
	}
	if n < 3 {
		t.Fatalf("the clock was read %d times: the test no longer tests", n)
	}
}

// Without a catalog that tells the record a write is not acknowledged, and what failed is said.
func TestCatalogIsLost(t *testing.T) {
	_, w, _ := readerAndWriter(t)
	w.commit("x", 1)
	gone := errors.New("the catalog is gone")
	w.cat.afterCommit = func() {
		w.clock.add(2 * testLease)
		w.cat.settings = func() error { return gone }
	}
	ctx, cancel := context.WithCancel(t.Context())
	sleeps := 0
	w.opts.sleep = func(sctx context.Context, d time.Duration) error {
		if sleeps++; sleeps > 5 {
			return context.DeadlineExceeded
		}
		cancel() // that the client is gone is no reason to stop
		return sctx.Err()
	}
	_, err := w.Commit(ctx, store.Commit{Object: store.Object{ID: w.id(), Bucket: w.bucket.ID, Name: "x", Cluster: 1, Size: 2}})
	if !errors.Is(err, gone) || sleeps != 6 {
		t.Errorf("%v after %d tries; want %v after 6", err, sleeps, gone)
	}
	// When it comes back in time all is well.
	w.cat.settings = nil
	w.opts.sleep = w.clock.sleep
	tries := 0
	w.cat.afterCommit = func() {
		w.clock.add(2 * testLease)
		w.cat.settings = func() error {
			if tries++; tries < 3 {
				return gone
			}
			return nil
		}
	}
	w.commit("x", 3)
}

// Of processes with different lists the one that was started last is heeded; the others read from the catalog, and delete where it reads.
func TestOtherLists(t *testing.T) {
	one, two := startOurs(t), startOurs(t)
	s := newSite(t, one)
	c := newClock()
	until := func(p *process, want state) {
		t.Helper()
		for range 10 {
			l := p.renew()
			if l.ours && !slices.ContainsFunc(l.members, func(m seen) bool { return m.state != want }) {
				return
			}
			c.add(2 * testLease)
		}
		t.Fatalf("the server did not become %s", want)
	}
	a := s.process(c, Options{})
	until(a, in)
	a.commit("x", 1)
	a.warm("x", 1)
	list, err := memcache.ParseServers(two, one)
	if err != nil {
		t.Fatal(err)
	}
	b := s.process(c, Options{Servers: list})
	plain := s.process(c, Options{Servers: []memcache.Server{}})
	until(b, in)
	c.add(testLease)
	a.renew()
	for range 3 {
		a.want("x", 1, false)
	}
	b.renew()
	b.warm("x", 1)
	a.commit("x", 2)
	b.want("x", 2, false)
	b.warm("x", 2)
	plain.commit("x", 3)
	b.want("x", 3, false)
	for range 3 {
		plain.want("x", 3, false)
	}
	if l := b.renew(); !l.ours {
		t.Error("the list changed again")
	}
	// Restarted with the same list, the first one reads from caches again.
	a = s.process(c, Options{Servers: list})
	a.renew()
	a.warm("x", 3)
}

// A record that cannot be read is made void: whoever goes by it stops.
func TestStrangeRecord(t *testing.T) {
	r, w, s := readerAndWriter(t)
	w.commit("x", 1)
	r.warm("x", 1)
	if err := w.cat.SetSetting(t.Context(), recordKey, "metacache 99\nwhatever\n"); err != nil {
		t.Fatal(err)
	}
	began := w.clock.now()
	w.clock.add(testLease)
	w.commit("x", 2)
	if waited := w.clock.now().Sub(began); waited < 2*testLease {
		t.Errorf("the write was acknowledged after %s", waited)
	}
	if all, err := w.cat.Settings(t.Context()); err != nil || !isVoid(all[recordKey]) {
		t.Errorf("the record is %q, %v; want a void one", all[recordKey], err)
	}
	if all, err := s.process(w.clock, Options{}).Settings(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("Settings = %q, %v; the record is not for operators", all, err)
	}
}

// A catalog that was restored knows nothing of what caches hold.
func TestRestoredCatalog(t *testing.T) {
	r, w, s := readerAndWriter(t)
	w.commit("x", 1)
	r.warm("x", 1)
	if err := w.cat.Fence(t.Context(), 5000); err != nil {
		t.Fatal(err)
	}
	c := newClock()
	again := s.process(c, Options{})
	for again.renew().members == nil || again.held.Load().members[0].state != in {
		c.add(2 * testLease)
	}
	again.find("x")
	again.want("x", 1, false) // and not what is there from the time before
}

// A server that joins is not read from: a writer may still believe that it is out, and not delete there.
func TestJoiningIsNotRead(t *testing.T) {
	s := newSite(t, startOurs(t))
	c := newClock()
	r, w, a := s.process(c, Options{}), s.process(c, Options{}), s.process(c, Options{})
	w.commit("x", 1)
	a.renew() // the record is made, and the server is out
	a.renew()
	w.renew()
	c.add(2 * testLease)
	if _, err := w.need(t.Context(), testLease/2); err != nil {
		t.Fatal(err)
	}
	if l := a.renew(); l.members[0].state != joining {
		t.Fatalf("the server is %s; want joining", l.members[0].state)
	}
	r.renew()
	for range 3 {
		r.want("x", 1, false)
	}
	if l := w.valid(); l == nil || l.members[0].state != out {
		t.Fatal("the writer knows already that the server is joining: the test tests nothing")
	}
	began := c.now()
	w.commit("x", 2)
	if c.now() != began {
		t.Error("the writer has waited")
	}
	r.want("x", 2, false)
}

// A process that thinks that a bucket still has the id that it had is not given what was in that bucket.
func TestGuessedBucket(t *testing.T) {
	r, w, s := readerAndWriter(t)
	other := s.process(r.clock, Options{})
	other.renew()
	w.commit("x", 1)
	r.warm("x", 1)
	other.find("x")
	other.want("x", 1, true)
	if err := w.DeleteBucket(t.Context(), "b", true); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateBucket(t.Context(), store.Bucket{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	for range 3 { // the new bucket is cached, and the object of the old one still is
		if _, err := r.Bucket(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		r.work.Wait()
		r.find("x")
	}
	other.want("x", -1, false)
	other.want("x", -1, true)
}
