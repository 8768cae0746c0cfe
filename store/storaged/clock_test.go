package storaged

import (
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
	"wheelhouse/store/disk"
)

// A node's clock jumps by an hour, either way, and back: requests go on, and so do URLs that are given away.
func TestClocksApart(t *testing.T) {
	secret := Secret("a secret of the installation")
	d, err := disk.Open(t.TempDir(), disk.Options{StorageID: 1, MinFree: -1})
	if err != nil {
		t.Fatal(err)
	}
	var ahead atomic.Int64
	n, err := NewNode([]Disk{{ID: 1, Device: d, Bulk: d.Bulk()}}, Options{Secret: secret, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := http1.NewServer(n, http1.Options{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(ln)
	}()
	client := http1.NewClient(http1.ClientOptions{})
	t.Cleanup(func() {
		client.Close()
		_ = srv.Close()
		<-served
		_ = d.Close()
	})
	s := &store.Storage{ID: 1, URI: "http://" + ln.Addr().String() + "/dev1"}
	fleet := NewFleet(client, secret, nil)
	dev := fleet.Device(s)
	id := store.ObjectID(0)
	for _, by := range []time.Duration{0, time.Hour, -time.Hour, 0} {
		ahead.Store(int64(by))
		id++
		if err := dev.Put(t.Context(), store.EntityInfo{ID: id, Size: 4, Bucket: "b", Name: "o", Created: time.Now()}, []byte("body")); err != nil {
			t.Fatalf("%v apart: %v", by, err)
		}
		if got, err := dev.Get(t.Context(), id, 4, nil); err != nil || string(got) != "body" {
			t.Errorf("%v apart: %q, %v", by, got, err)
		}
		bulk, err := fleet.Bulk(s)
		if err != nil {
			t.Fatal(err)
		}
		if have, err := bulk.Entities(t.Context(), []store.ObjectID{id}); err != nil || len(have) != 1 {
			t.Errorf("%v apart: %v, %v", by, have, err)
		}
		resp, err := http.Get(fleet.URL(s, id, time.Now().Add(time.Minute)))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%v apart: GET of a signed URL = %d", by, resp.StatusCode)
		}
	}
	// Without the secret nobody is told anything that helps.
	if err := NewFleet(client, Secret("another, sixteen bytes and more"), nil).Device(s).Delete(t.Context(), []store.ObjectID{id}); err == nil {
		t.Error("a request with another secret was taken")
	}
}

// A time that is not signed, or signed for another request, is not believed.
func TestForgedTime(t *testing.T) {
	secret, now := Secret("a secret of the installation"), time.Unix(2_000_000_000, 0)
	mine, other := secret.Authorization("GET", "/x", now), secret.Authorization("GET", "/y", now)
	later := now.Add(time.Hour)
	for _, tt := range []struct {
		name, value string
		want        bool
	}{
		{"good", secret.timeFor(mine, later), true},
		{"of another request", secret.timeFor(other, later), false},
		{"of another secret", Secret("another, sixteen bytes and more").timeFor(mine, later), false},
		{"unsigned", "2000003600", false},
		{"nonsense", "x:y", false},
		{"none", "", false},
	} {
		var h http1.Header
		if tt.value != "" {
			h.Set(headerTime, tt.value)
		}
		var c peerClock
		if got := c.learn(secret, mine, &h, now); got != tt.want || (c.offset() == time.Hour) != tt.want {
			t.Errorf("%s: %v, %v ahead", tt.name, got, c.offset())
		}
	}
}
