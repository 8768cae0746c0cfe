package dispatcher_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
	"wheelhouse/store/dispatcher"
)

// asked is a body that does something when it is asked for: the server has then decided where it goes.
type asked struct {
	io.Reader
	once sync.Once
	do   func()
}

func (a *asked) Read(p []byte) (int, error) {
	a.once.Do(a.do)
	return a.Reader.Read(p)
}

// An upload that is under way while its cluster is removed is not lost behind a 201: it goes elsewhere, or the client hears of it.
func TestClusterRemovedDuringUpload(t *testing.T) {
	for _, tt := range []struct {
		size, put, get int
	}{
		{10, 201, 200},
		{3 << 20, 503, 404}, // too large to be held until the catalog has answered
	} {
		t.Run(fmt.Sprint(tt.size), func(t *testing.T) {
			ts := newStore(t, setup{clusters: 2})
			ts.http.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
			ctx := t.Context()
			to := func(clusters ...store.ClusterID) {
				if err := ts.cat.PutClass(ctx, store.Class{Name: store.DefaultClass, Clusters: clusters}); err != nil {
					t.Error(err)
				}
			}
			to(2)
			ts.bucket("b")
			body := randomBody(tt.size)
			a := ts.do("PUT", "/b/o", &asked{Reader: bytes.NewReader(body), do: func() {
				to(1)
				for id := store.StorageID(4); id <= 6; id++ {
					if err := ts.cat.RemoveStorage(ctx, id); err != nil {
						t.Error(err)
					}
				}
				if err := ts.cat.RemoveCluster(ctx, 2); err != nil {
					t.Error(err)
				}
			}}, "Expect: 100-continue")
			if a.status != tt.put || tt.put == 503 && a.header.Get("Retry-After") == "" {
				t.Errorf("PUT = %d %s, %v; want %d", a.status, a.body, a.header, tt.put)
			}
			if a := ts.do("GET", "/b/o", nil); a.status != tt.get || tt.get == 200 && a.body != string(body) {
				t.Errorf("GET = %d %.100q; want %d", a.status, a.body, tt.get)
			}
		})
	}
}

// What is stored in a cluster that has just been added can be read through a dispatcher that has not heard of the cluster.
func TestClusterAddedReadElsewhere(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b")
	ts.want(201, "PUT", "/b/old", "x")
	cat, err := catalog.OpenSQLite(t.Context(), ts.path, catalog.Options{TopologyAge: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	d := dispatcher.New(cat, ts, dispatcher.NewAuthenticator(0, cat, time.Now), dispatcher.Options{Owner: "other"})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = d.Run(ctx) })
	srv := http1.NewServer(d, http1.Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(func() {
		ts.http.CloseIdleConnections()
		_ = srv.Close()
		stop()
		running.Wait()
		_ = cat.Close()
	})
	elsewhere := *ts
	elsewhere.url = "http://" + ln.Addr().String()
	elsewhere.want(200, "GET", "/b/old", "") // it knows the first cluster from now on

	cluster, err := ts.cat.PutCluster(t.Context(), store.Cluster{Name: "new"})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ts.addStorage(cluster, false)
	}
	if err := ts.cat.PutClass(t.Context(), store.Class{Name: store.DefaultClass, Clusters: []store.ClusterID{cluster}}); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{300 << 10, 10} {
		body, path := randomBody(size), fmt.Sprint("/b/new", size)
		if a := ts.do("PUT", path, bytes.NewReader(body)); a.status != 201 {
			t.Fatalf("PUT of %d bytes = %d %s", size, a.status, a.body)
		}
		if a := elsewhere.do("GET", path, nil); a.status != 200 || a.body != string(body) {
			t.Errorf("GET of %d bytes elsewhere = %d %.100q", size, a.status, a.body)
		}
	}
}
