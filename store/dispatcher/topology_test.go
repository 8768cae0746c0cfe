package dispatcher_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
	"wheelhouse/store/dispatcher"
)

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
