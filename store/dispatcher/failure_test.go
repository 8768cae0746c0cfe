package dispatcher_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/dispatcher"
)

func randomBody(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// missing is what the catalog says an object is owed.
func (ts *testStore) missing(bucket, name string) []store.StorageID {
	ts.t.Helper()
	_, o, err := ts.cat.Find(ts.t.Context(), bucket, name)
	if err != nil {
		ts.t.Fatal(err)
	}
	return o.Missing
}

func TestWritesGoOnWithoutOneStorage(t *testing.T) {
	for _, size := range []int{10, 3 << 20} {
		for _, tt := range []struct {
			name string
			f    fault
		}{
			{"fails at once", fault{err: errInjected}},
			{"fails on write", fault{failPut: true}},
			{"fails in mid-stream", fault{failWrite: 1 << 20, failPut: size < 1<<20}},
			{"hangs", fault{hang: make(chan struct{})}},
			{"full", fault{err: store.ErrFull}},
		} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, size), func(t *testing.T) {
				ts := newStore(t, setup{options: dispatcher.Options{TailWait: 20 * time.Millisecond, HotBytes: 8 << 20}})
				ts.bucket("b")
				ts.devices[2].set(tt.f)
				body := randomBody(size)
				for i := range 3 {
					if a := ts.do("PUT", fmt.Sprint("/b/o", i), bytes.NewReader(body)); a.status != 201 {
						t.Fatalf("PUT = %d %s", a.status, a.body)
					}
					if got := ts.missing("b", fmt.Sprint("o", i)); len(got) != 1 || got[0] != 2 {
						t.Errorf("missing = %v; want storage 2", got)
					}
				}
				if tt.f.hang == nil {
					ts.devices[2].set(fault{err: errInjected})
					if a := ts.do("GET", "/b/o1", nil); a.status != 200 || a.body != string(body) {
						t.Errorf("GET = %d, %d bytes", a.status, len(a.body))
					}
				}
			})
		}
	}
}

// Where space is all that is wanting the client is told so, and not to come back in two seconds.
func TestFullStorages(t *testing.T) {
	refuse := func(ts *testStore, ids ...store.StorageID) {
		for _, id := range ids {
			ts.devices[id].set(fault{full: true})
		}
	}
	for _, tt := range []struct {
		name   string
		change func(ts *testStore)
		want   int
	}{
		{"they refuse", func(ts *testStore) { refuse(ts, 1, 2) }, 507},
		{"they are known to be full", func(ts *testStore) {
			for id := store.StorageID(1); id <= 2; id++ {
				if err := ts.cat.SetStorageUsage(t.Context(), id, 1<<40, 1<<40); err != nil {
					t.Fatal(err)
				}
			}
		}, 507},
		{"one is full", func(ts *testStore) { refuse(ts, 1) }, 201},
		{"they fail otherwise", func(ts *testStore) {
			ts.devices[1].set(fault{err: errInjected})
			ts.devices[2].set(fault{err: errInjected})
		}, 503},
	} {
		for _, size := range []int{0, 10, 3 << 20} {
			for _, chunked := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/chunked=%v", tt.name, size, chunked), func(t *testing.T) {
					ts := newStore(t, setup{options: dispatcher.Options{PutTimeout: time.Second}})
					ts.bucket("b")
					tt.change(ts)
					var body io.Reader = bytes.NewReader(randomBody(size))
					if chunked {
						body = io.MultiReader(body) // its length is not known
					}
					a := ts.do("PUT", "/b/o", body)
					if retry := a.header.Get("Retry-After"); a.status != tt.want || (retry != "") != (tt.want == 503) {
						t.Errorf("PUT = %d %s, Retry-After %q; want %d", a.status, a.body, retry, tt.want)
					}
				})
			}
		}
	}
}

// What no cluster can take is not asked for.
func TestBodyThatNobodyCanTake(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(ts *testStore) error
		size   int
		want   int
	}{
		{"not enough room", func(ts *testStore) error {
			return errors.Join(ts.cat.SetStorageUsage(t.Context(), 1, 4<<20, 2<<20), ts.cat.SetStorageUsage(t.Context(), 2, 4<<20, 2<<20))
		}, 3 << 20, 507},
		{"not enough storages", func(ts *testStore) error {
			return errors.Join(ts.cat.SetStorageMode(t.Context(), 1, store.ModeDown), ts.cat.SetStorageMode(t.Context(), 2, store.ModeRO))
		}, 10, 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ts := newStore(t, setup{})
			ts.http.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
			ts.bucket("b")
			ts.want(201, "PUT", "/b/before", "x")
			if err := tt.change(ts); err != nil {
				t.Fatal(err)
			}
			body := &asked{Reader: bytes.NewReader(randomBody(tt.size)), do: func() { t.Error("the body was asked for") }}
			req, err := http.NewRequestWithContext(t.Context(), "PUT", ts.url+"/b/o", body)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = int64(tt.size)
			req.SetBasicAuth(ts.key.ID, ts.key.Secret)
			req.Header.Set("Expect", "100-continue")
			resp, err := ts.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tt.want {
				t.Errorf("PUT = %d; want %d", resp.StatusCode, tt.want)
			}
		})
	}
}

func TestWriteThatCannotBeDurableIsRefused(t *testing.T) {
	for _, size := range []int{10, 3 << 20} {
		ts := newStore(t, setup{options: dispatcher.Options{PutTimeout: time.Second}})
		ts.bucket("b")
		ts.devices[1].set(fault{err: errInjected})
		ts.devices[2].set(fault{err: errInjected})
		a := ts.do("PUT", "/b/o", bytes.NewReader(randomBody(size)))
		if a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Fatalf("PUT of %d bytes = %d %q %v", size, a.status, a.body, a.header)
		}
		ts.want(404, "GET", "/b/o", "")
		// One durable copy is enough for a client that says so.
		if a := ts.do("PUT", "/b/o", bytes.NewReader(randomBody(size)), "X-STF-Consistency: 1"); a.status != 201 {
			t.Fatalf("PUT with one = %d %q", a.status, a.body)
		}
	}
}

// An overwrite that fails must leave the old version: STF deleted it first.
func TestFailedOverwriteLeavesTheOldVersion(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b")
	ts.want(201, "PUT", "/b/o", "old")
	for _, dev := range ts.devices {
		dev.set(fault{failPut: true})
	}
	ts.want(503, "PUT", "/b/o", "new")
	if a := ts.want(200, "GET", "/b/o", ""); a.body != "old" {
		t.Errorf("GET = %q", a.body)
	}
}

// Where one cluster fails under way, another takes the whole body without the client sending it again.
func TestAnotherClusterTakesOver(t *testing.T) {
	for _, size := range []int{100, 1<<20 - 1, 1 << 20, 1<<20 + 1, 6 << 20} {
		for _, known := range []bool{true, false} {
			ts := newStore(t, setup{clusters: 2, options: dispatcher.Options{SpoolDir: t.TempDir(), TailWait: time.Minute}})
			ts.bucket("b")
			for i := range 6 { // either cluster is the first for some
				body := randomBody(size + i)
				for id, dev := range ts.devices {
					if id <= 3 {
						dev.set(fault{failWrite: int64(size / 2), failPut: size <= 1<<20})
					}
				}
				var r io.Reader = bytes.NewReader(body)
				if !known {
					r = io.MultiReader(r) // chunked
				}
				path := fmt.Sprint("/b/o", i)
				if a := ts.do("PUT", path, r); a.status != 201 {
					t.Fatalf("PUT of %d bytes = %d %s", size, a.status, a.body)
				}
				_, o, err := ts.cat.Find(t.Context(), "b", path[3:])
				if err != nil || o.Cluster != 2 || o.Missing != nil {
					t.Fatalf("object %+v, %v; want cluster 2, nothing missing", o, err)
				}
				if a := ts.do("GET", path, nil); a.body != string(body) {
					t.Fatalf("GET of %d bytes: another body", size)
				}
			}
		}
	}
}

// The reader sees one unbroken body whatever a storage does.
func TestReadsFailOver(t *testing.T) {
	for _, size := range []int{10, 50_000, 200_000, 3 << 20} {
		for _, tt := range []struct {
			name string
			f    fault
		}{
			{"error", fault{err: errInjected}},
			{"absent", fault{err: store.ErrNoEntity}},
			{"corrupt", fault{corrupt: true}},
			{"breaks off", fault{readBytes: int64(size / 3), corrupt: size <= 64<<10}},
		} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, size), func(t *testing.T) {
				ts := newStore(t, setup{options: dispatcher.Options{TailWait: time.Minute}}) // the one that is left must have it
				ts.bucket("b")
				body := randomBody(size)
				for i := range 6 {
					if a := ts.do("PUT", fmt.Sprint("/b/o", i), bytes.NewReader(body)); a.status != 201 {
						t.Fatal(a)
					}
				}
				ts.devices[1].set(tt.f)
				ts.devices[3].set(tt.f)
				for i := range 6 {
					path := fmt.Sprint("/b/o", i)
					if a := ts.do("GET", path, nil); a.status != 200 || a.body != string(body) {
						t.Fatalf("GET = %d, %d bytes", a.status, len(a.body))
					}
					if a := ts.do("GET", path, nil, "Range: bytes=2-8"); a.status != 206 || a.body != string(body[2:9]) {
						t.Fatalf("range = %d, %d bytes", a.status, len(a.body))
					}
					if a := ts.do("GET", path, nil, "Range: bytes=2-3,5-8"); a.status == 206 {
						checkMultipart(t, a, [][]byte{body[2:4], body[5:9]})
					} else {
						t.Fatalf("ranges = %d", a.status)
					}
				}
				ts.devices[2].set(fault{err: store.ErrNoEntity})
				if tt.f.readBytes == 0 && !tt.f.corrupt { // what is found corrupt under way can only be broken off
					if a := ts.do("GET", "/b/o1", nil); a.status != 503 {
						t.Errorf("with no storage left: GET = %d", a.status)
					}
				}
			})
		}
	}
}

func TestClientThatGoesAwayLeavesNothing(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b")
	for _, size := range []int{500_000, 8 << 20} {
		c, err := net.Dial("tcp", strings.TrimPrefix(ts.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest("PUT", ts.url+"/b/o", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(ts.key.ID, ts.key.Secret)
		fmt.Fprintf(c, "PUT /b/o HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n", req.Header.Get("Authorization"), size)
		if _, err := c.Write(randomBody(size / 10)); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c) // until the server has given up
		_ = c.Close()
	}
	ts.want(404, "GET", "/b/o", "")
	for id, dev := range ts.devices {
		entries, err := dev.Device.Manifest(context.Background(), 0, 1<<62, 10)
		if err != nil || len(entries) != 0 {
			t.Errorf("storage %d holds %v, %v", id, entries, err)
		}
	}
	if used := ts.d.Metrics().BufferedBytes.Load(); used != 0 {
		t.Errorf("%d bytes of bodies are still in memory", used)
	}
}

func TestUploadsBeyondTheMemoryLimitAreTurnedAway(t *testing.T) {
	ts := newStore(t, setup{options: dispatcher.Options{MemoryLimit: 100 << 10}})
	ts.bucket("b")
	ts.want(201, "PUT", "/b/small", "x")
	if a := ts.do("PUT", "/b/large", bytes.NewReader(randomBody(500_000))); a.status != 503 || !strings.Contains(a.body, "too many uploads") {
		t.Errorf("PUT = %d %q", a.status, a.body)
	}
	ts.want(201, "PUT", "/b/small", "y")
}

// Writers of one name, each of whom is told 201, leave one of their bodies, and readers never see a mixture.
func TestConcurrentOverwrites(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b")
	ts.want(201, "PUT", "/b/o", strings.Repeat("-", 1000))
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for range 20 {
				ts.want(201, "PUT", "/b/o", strings.Repeat(string(rune('a'+w)), 1000))
			}
		})
		all.Go(func() {
			for range 40 {
				a := ts.do("GET", "/b/o", nil)
				if a.status != 200 || len(a.body) != 1000 || strings.Count(a.body, a.body[:1]) != 1000 {
					t.Errorf("GET = %d, %.20q…", a.status, a.body)
				}
			}
		})
	}
	// Of creators, one wins.
	var mu sync.Mutex
	won := 0
	for range 8 {
		all.Go(func() {
			if a := ts.do("PUT", "/b/once", strings.NewReader("x"), "If-None-Match: *"); a.status == 201 {
				mu.Lock()
				won++
				mu.Unlock()
			} else if a.status != 412 {
				t.Errorf("PUT = %d", a.status)
			}
		})
	}
	all.Wait()
	if won != 1 {
		t.Errorf("%d creators won", won)
	}
}

func TestReadOnlyClusterAndModes(t *testing.T) {
	ts := newStore(t, setup{clusters: 2})
	ts.bucket("b")
	ctx := t.Context()
	if _, err := ts.cat.PutCluster(ctx, store.Cluster{ID: 1, Name: "c", Mode: store.ClusterRO}); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		ts.want(201, "PUT", fmt.Sprint("/b/o", i), "x")
		if _, o, err := ts.cat.Find(ctx, "b", fmt.Sprint("o", i)); err != nil || o.Cluster != 2 {
			t.Errorf("object in cluster %d, %v", o.Cluster, err)
		}
	}
	// A spare is written and not read; one that is down is owed.
	if err := errors.Join(ts.cat.SetStorageMode(ctx, 4, store.ModeSpare), ts.cat.SetStorageMode(ctx, 5, store.ModeDown)); err != nil {
		t.Fatal(err)
	}
	ts.want(201, "PUT", "/b/p", "x")
	if got := ts.missing("b", "p"); len(got) != 1 || got[0] != 5 {
		t.Errorf("missing = %v; want storage 5", got)
	}
	ts.devices[6].set(fault{err: errInjected})
	if a := ts.do("GET", "/b/p", nil); a.status != 200 { // the spare, as a last resort
		t.Errorf("GET = %d %s", a.status, a.body)
	}
}
