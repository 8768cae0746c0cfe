package metacache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"wheelhouse/memcache"
	"wheelhouse/store"
)

// untilIn lets time pass until the process reads from its server.
func untilIn(t *testing.T, p *process) {
	t.Helper()
	for range 10 {
		if l := p.renew(); l.ours && l.members[0].state == in {
			return
		}
		p.clock.add(2 * testLease)
	}
	t.Fatal("the server did not come into use")
}

// A writer whose commit takes long goes by what the record says after it: a server that was out before may be in use by then, and have been asked for what
// the commit changes.
func TestServerComesInDuringCommit(t *testing.T) {
	s := newSite(t, startOurs(t))
	c := newClock()
	r, w := s.process(c, Options{}), s.process(c, Options{})
	w.commit("x", 1)
	r.renew()
	if l := w.renew(); len(l.members) != 1 || l.members[0].state != out {
		t.Fatalf("%+v; want one server, out", l)
	}
	c.add(2 * testLease) // it has been out for long: nothing to wait for
	if _, err := w.need(t.Context(), testLease/2); err != nil {
		t.Fatal(err)
	}
	w.cat.beforeCommit = func() {
		if l := w.valid(); l == nil || l.members[0].state != out {
			t.Error("the writer knows before its commit what it shall learn after it: the test tests nothing")
		}
		untilIn(t, r)
		r.warm("x", 1)
	}
	w.commit("x", 2)
	r.want("x", 2, false)
}

// A process that is started after a record was made void waits like those that knew it: others may still go by it.
func TestVoidRecordAndNewcomer(t *testing.T) {
	r, w, s := readerAndWriter(t)
	w.commit("x", 1)
	r.warm("x", 1)
	if err := w.cat.SetSetting(t.Context(), recordKey, "metacache 99\nwhatever\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.process(w.clock, Options{}).need(t.Context(), 0); !errors.Is(err, errRecord) {
		t.Fatalf("%v; want %v", err, errRecord)
	}
	newcomer := s.process(w.clock, Options{Servers: []memcache.Server{}})
	began := w.clock.now()
	newcomer.commit("x", 2)
	if waited := w.clock.now().Sub(began); waited < testLease {
		t.Errorf("the write was acknowledged after %s; others believe for %s", waited, testLease)
	}
	r.want("x", 2, false)
	untilIn(t, r) // a void record is replaced
	r.find("x")
	r.want("x", 2, true)
}

// pacedConn sends look-ups line by line, waits for the answer to each, and calls between before the next.
type pacedConn struct {
	net.Conn
	between *func(line int)
	early   bytes.Buffer // answers that were waited for
}

func (p *pacedConn) Read(b []byte) (int, error) {
	if p.early.Len() > 0 {
		return p.early.Read(b)
	}
	return p.Conn.Read(b)
}

func (p *pacedConn) Write(b []byte) (int, error) {
	f := *p.between
	if f == nil || !bytes.HasPrefix(b, []byte("mg wh:")) {
		return p.Conn.Write(b)
	}
	*p.between = nil
	n := 0
	for i, line := range bytes.SplitAfter(bytes.TrimSuffix(b, []byte("\n")), []byte("\n")) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			line = append(line[:len(line):len(line)], '\n')
		}
		k, err := p.Conn.Write(line)
		if n += k; err != nil {
			return n, err
		}
		if err := p.answer(); err != nil {
			return n, err
		}
		f(i)
	}
	return n, nil
}

// answer takes one answer to mg with v.
func (p *pacedConn) answer() error {
	var line []byte
	for c := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; line = append(line, c...) {
		if _, err := io.ReadFull(p.Conn, c); err != nil {
			return err
		}
	}
	p.early.Write(line)
	var size int64
	if _, err := fmt.Sscanf(string(line), "VA %d ", &size); err != nil {
		return nil
	}
	_, err := io.CopyN(&p.early, p.Conn, size+2)
	return err
}

// A bucket and an object that never were at the same time are not found together, although a server is asked for one after the other.
func TestBucketAndObjectOfOneMoment(t *testing.T) {
	addr := startOurs(t)
	s := newSite(t, addr)
	s.setIn(testLease)
	c := newClock()
	var between func(int)
	r := s.process(c, Options{dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &pacedConn{Conn: nc, between: &between}, err
	}})
	w, other := s.process(c, Options{}), s.process(c, Options{})
	r.renew()
	other.renew()
	access := func(a store.Access) {
		t.Helper()
		b := s.bucket
		b.Access = a
		if err := w.UpdateBucket(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	refill := func(version int) {
		for range 3 {
			other.find("x")
		}
		other.want("x", version, true)
	}
	for _, tt := range []struct {
		what   string
		after  int // which answer the changes come
		before func()
		change func()
		never  store.Access // is the bucket's access when the object is found in the version
		found  int
	}{
		{"closed, then a secret stored", 0, func() { access(store.PublicRead); w.commit("x", 1) }, func() {
			access(store.Private)
			w.commit("x", 2)
			refill(2)
		}, store.PublicRead, 2},
		{"a secret deleted, then opened", 1, func() { access(store.Private); w.commit("x", 3) }, func() {
			if _, err := w.Delete(t.Context(), s.bucket.ID, "x", store.Condition{}); err != nil {
				t.Error(err)
			}
			access(store.PublicRead)
			refill(-1)
		}, store.PublicRead, 3},
	} {
		tt.before()
		for range 3 {
			r.find("x")
		}
		changed := false
		between = func(line int) {
			if line == tt.after {
				tt.change()
				changed = true
			}
		}
		b, o, err := r.Find(t.Context(), "b", "x")
		r.work.Wait()
		if !changed {
			t.Fatalf("%s: the changes did not come in between", tt.what)
		}
		if err == nil && b.Access == tt.never && int(o.Size) == tt.found {
			t.Errorf("%s: found version %d in a bucket with access %v", tt.what, o.Size, b.Access)
		}
	}
}
