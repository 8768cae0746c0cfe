package dispatcher_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/dispatcher"
)

// within demands that something did not wait for a storage.
func within(t *testing.T, begun time.Time, limit time.Duration, what string) {
	t.Helper()
	if took := time.Since(begun); took > limit {
		t.Errorf("%s took %v; want at most %v", what, took, limit)
	}
}

// promised is a second and what a loaded machine may add to that; who waits for a storage that hangs waits PutTimeout (10 s), or
// for ever.
const promised = 5 * time.Second

// A storage that accepts reads and never answers costs a client less than a second, each time.
func TestReadsGoRoundAStorageThatHangs(t *testing.T) {
	for _, size := range []int{10, 3 << 20} {
		ts := newStore(t, setup{})
		ts.bucket("b")
		body := randomBody(size)
		for i := range 12 {
			if a := ts.do("PUT", fmt.Sprint("/b/o", i), bytes.NewReader(body)); a.status != 201 {
				t.Fatal(a)
			}
		}
		ts.devices[1].set(fault{hangRead: make(chan struct{})})
		for i := range 12 {
			begun := time.Now()
			if a := ts.do("GET", fmt.Sprint("/b/o", i), nil); a.status != 200 || a.body != string(body) {
				t.Fatalf("GET = %d, %d bytes", a.status, len(a.body))
			}
			within(t, begun, promised, "GET")
			begun = time.Now()
			if a := ts.do("GET", fmt.Sprint("/b/o", i), nil, "Range: bytes=2-8"); a.status != 206 || a.body != string(body[2:9]) {
				t.Fatalf("range = %d, %d bytes", a.status, len(a.body))
			}
			within(t, begun, promised, "GET of a range")
		}
		if m := ts.d.Metrics(); m.Hedges.Load() == 0 || m.HedgeWins.Load() == 0 {
			t.Errorf("%d hedges, %d of them first", m.Hedges.Load(), m.HedgeWins.Load())
		}
		if n := ts.d.Metrics().Failures.Load(); n != 0 {
			t.Errorf("%d failures", n)
		}
	}
}

// Two that hang cost a client less than a second too.
func TestReadsGoRoundTwoStoragesThatHang(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b")
	for i := range 6 {
		ts.want(201, "PUT", fmt.Sprint("/b/o", i), "body")
	}
	ts.devices[1].set(fault{hangRead: make(chan struct{})})
	ts.devices[3].set(fault{hangRead: make(chan struct{})})
	for i := range 6 {
		begun := time.Now()
		ts.want(200, "GET", fmt.Sprint("/b/o", i), "")
		within(t, begun, promised, "GET")
	}
}

// Hedges are bounded: where every storage is slow, they would double the load.
func TestHedgesAreBounded(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b")
	ts.want(201, "PUT", "/b/o", "body")
	for _, dev := range ts.devices {
		dev.mu.Lock()
		dev.delay = 100 * time.Millisecond // longer than a storage is given of which nothing is known
		dev.mu.Unlock()
	}
	const reads = 300
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			for range reads / 30 {
				ts.want(200, "GET", "/b/o", "")
			}
		})
	}
	all.Wait()
	if n := ts.d.Metrics().Hedges.Load(); n > reads/20+5 {
		t.Errorf("%d hedges to %d reads", n, reads)
	}
}

// A storage that stops in mid-upload is owed the object, and the client does not wait for it: neither while it hangs, which here is for ever, nor
// for PutTimeout, which here is an hour.
func TestUploadsDoNotWaitForAStorageThatHangs(t *testing.T) {
	ts := newStore(t, setup{options: unhurried})
	ts.bucket("b")
	ts.devices[2].set(fault{hang: make(chan struct{})})
	answered := make(chan answer, 1)
	go func() { answered <- ts.do("PUT", "/b/o", bytes.NewReader(randomBody(24<<20))) }()
	select {
	case a := <-answered:
		if a.status != 201 {
			t.Fatal(a)
		}
	case <-time.After(3 * time.Minute): // as long as it takes disks that are busy with other tests
		t.Fatal("it waits for the storage that hangs")
	}
	if got := ts.missing("b", "o"); len(got) != 1 || got[0] != 2 {
		t.Errorf("missing = %v; want storage 2", got)
	}
}

// What the catalog says is down is not sent to, is owed, and is asked only when nobody else has an object.
func TestStorageReportedDown(t *testing.T) {
	ts := newStore(t, setup{options: dispatcher.Options{ProbeRetry: time.Hour}})
	ts.bucket("b")
	ts.want(201, "PUT", "/b/old", "body")
	report := func(id store.StorageID, ok bool) {
		t.Helper()
		if _, err := ts.cat.ReportHealth(t.Context(), "test", []store.StorageHealth{{Storage: id, OK: ok, Reason: "as a test"}}); err != nil {
			t.Fatal(err)
		}
	}
	report(2, false)
	before := ts.devices[2].count()
	for i := range 9 {
		ts.want(201, "PUT", fmt.Sprint("/b/o", i), "body")
		ts.want(200, "GET", fmt.Sprint("/b/o", i), "")
		ts.want(200, "GET", "/b/old", "")
		if got := ts.missing("b", fmt.Sprint("o", i)); len(got) != 1 || got[0] != 2 {
			t.Errorf("missing = %v; want storage 2", got)
		}
	}
	if n := ts.devices[2].count() - before; n != 0 {
		t.Errorf("%d requests were sent to it", n)
	}
	for _, id := range []store.StorageID{1, 3} {
		ts.devices[id].set(fault{err: errInjected})
	}
	ts.want(200, "GET", "/b/old", "")
	for _, id := range []store.StorageID{1, 3} {
		ts.devices[id].set(fault{})
	}
	report(2, true)
	ts.want(201, "PUT", "/b/new", "body")
	if n := ts.devices[2].count() - before; n < 2 {
		t.Error("nothing is sent to it since it is back")
	}
}

// A storage that is full refuses writes and goes on being read.
func TestFullStorageIsRead(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b")
	for i := range 6 {
		ts.want(201, "PUT", fmt.Sprint("/b/o", i), "body")
	}
	ts.devices[1].set(fault{full: true})
	ts.want(201, "PUT", "/b/p", "body")
	before := ts.devices[1].count()
	ts.want(201, "PUT", "/b/q", "body")
	if n := ts.devices[1].count() - before; n != 0 {
		t.Errorf("%d writes were sent to a storage that had just said that it is full", n)
	}
	for i := range 6 {
		ts.want(200, "GET", fmt.Sprint("/b/o", i), "")
	}
	if ts.devices[1].count() == before {
		t.Error("it is not read any more")
	}
}

// A client that goes away while storages are waited for leaves nothing behind.
func TestReadersThatGoAwayWhileWaiting(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b")
	ts.want(201, "PUT", "/b/o", "body")
	for _, dev := range ts.devices {
		dev.set(fault{hangRead: make(chan struct{})})
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "GET", ts.url+"/b/o", nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.SetBasicAuth(ts.key.ID, ts.key.Secret)
			if resp, err := ts.http.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				t.Errorf("GET = %d", resp.StatusCode)
			}
		})
	}
	all.Wait()
	for _, dev := range ts.devices {
		dev.set(fault{})
	}
	ts.want(200, "GET", "/b/o", "")
}
