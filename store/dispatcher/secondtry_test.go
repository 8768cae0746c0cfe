package dispatcher_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/dispatcher"
)

// unhurried are options under which whoever waits for a storage that hangs waits for ever: the test ends only if nobody does.
var unhurried = dispatcher.Options{PutTimeout: time.Hour, ProbeRetry: time.Hour}

// A storage that failed a moment ago is left out of a write; when another one hangs then, it is asked after all.
func TestWriteAsksThoseThatWereSpared(t *testing.T) {
	for _, size := range []int{100, 3 << 20} {
		ts := newStore(t, setup{options: unhurried})
		ts.bucket("b")
		ts.devices[3].set(fault{failPut: true})
		if a := ts.do("PUT", "/b/first", bytes.NewReader(randomBody(size))); a.status != 201 {
			t.Fatal(a)
		}
		ts.devices[3].set(fault{})
		ts.devices[2].set(fault{hang: make(chan struct{})})
		if a := ts.do("PUT", "/b/second", bytes.NewReader(randomBody(size))); a.status != 201 {
			t.Fatal(a)
		}
		if got := ts.missing("b", "second"); !slices.Equal(got, []store.StorageID{2}) {
			t.Errorf("missing is %v", got)
		}
	}
}

// When all of a cluster hangs, writes go to the other one.
func TestWriteLeavesAClusterThatHangs(t *testing.T) {
	for _, size := range []int{100, 3 << 20} {
		ts := newStore(t, setup{clusters: 2, options: unhurried})
		ts.bucket("b")
		for id := store.StorageID(4); id <= 6; id++ {
			ts.devices[id].set(fault{hang: make(chan struct{})})
		}
		for i := range 8 {
			path := fmt.Sprint("/b/o", i)
			if a := ts.do("PUT", path, bytes.NewReader(randomBody(size))); a.status != 201 {
				t.Fatal(a)
			}
			if _, o, err := ts.cat.Find(t.Context(), "b", path[3:]); err != nil || o.Cluster != 1 {
				t.Errorf("%+v, %v", o, err)
			}
		}
	}
}

// One of exactly two storages breaks off in a large upload, or at its very end. It is back at once, as a process that is started
// again, and there is no other cluster: the client's one request succeeds all the same.
func TestUploadIsTriedAgain(t *testing.T) {
	const size = 8 << 20
	for _, at := range []int64{2 << 20, size - 1} {
		ts := newStore(t, setup{options: dispatcher.Options{ProbeRetry: time.Hour}})
		ts.bucket("b")
		if err := ts.cat.SetStorageMode(t.Context(), 3, store.ModeDown); err != nil {
			t.Fatal(err)
		}
		ts.devices[2].set(fault{failWrite: at, once: true})
		body := randomBody(size)
		if a := ts.do("PUT", "/b/o", bytes.NewReader(body)); a.status != 201 {
			t.Fatal(a)
		}
		if ts.devices[2].get().failWrite != 0 {
			t.Fatal("nothing failed")
		}
		if got := ts.missing("b", "o"); !slices.Equal(got, []store.StorageID{3}) {
			t.Errorf("missing is %v", got)
		}
		for _, id := range []store.StorageID{1, 2} { // each has it
			ts.devices[3-id].set(fault{err: errInjected})
			if a := ts.do("GET", "/b/o", nil); a.status != 200 || a.body != string(body) {
				t.Errorf("GET from storage %d = %d, %d bytes", id, a.status, len(a.body))
			}
			ts.devices[3-id].set(fault{})
		}
	}
}

// An upload that no cluster can take ends, and says so.
func TestUploadIsNotTriedForEver(t *testing.T) {
	ts := newStore(t, setup{options: dispatcher.Options{PutTimeout: 300 * time.Millisecond}})
	ts.bucket("b")
	if err := ts.cat.SetStorageMode(t.Context(), 3, store.ModeDown); err != nil {
		t.Fatal(err)
	}
	ts.devices[2].set(fault{failWrite: 1 << 20})
	if a := ts.do("PUT", "/b/o", bytes.NewReader(randomBody(8<<20))); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Fatal(a)
	}
	ts.want(404, "GET", "/b/o", "")
}
