package dispatcher_test

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
	"wheelhouse/store/disk"
	"wheelhouse/store/dispatcher"
)

// What docs/ops/durability.md promises: a write that was acknowledged with n durable entities is still there when n−1 of
// the machines that hold it are lost for good, and every machine that comes back after a power cut has what it promised.
func TestAcknowledgedWritesSurvivePowerCuts(t *testing.T) {
	for _, tt := range []struct {
		name    string
		headers []string
		hang    bool // storage 3 answers nothing while the load runs
		durable int
	}{
		{"healthy", nil, false, 3},
		{"one storage hangs", nil, true, 2},
		{"the client asks for one, one storage hangs", []string{"X-STF-Consistency: 1"}, true, 1},
		{"the client asks for three", []string{"X-STF-Consistency: 3"}, false, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tail := time.Hour // who is only slow is waited for
			if tt.hang {
				tail = 300 * time.Millisecond
			}
			ts := newStore(t, setup{powered: true, options: dispatcher.Options{TailWait: tail}})
			ts.bucket("b")
			if tt.hang {
				ts.devices[3].set(fault{hang: make(chan struct{})})
			}
			bodies := writeSome(t, ts, tt.headers)
			// All power goes at once; what was not synced is lost, wholly or in part.
			for id, dev := range ts.devices {
				dev.power.Cut()
				if err := dev.power.Restore(rand.New(rand.NewPCG(uint64(id), 1))); err != nil {
					t.Fatal(err)
				}
			}
			for name, body := range bodies {
				_, o, err := ts.cat.Find(t.Context(), "b", name)
				if err != nil {
					t.Fatal(err)
				}
				if holders := ts.holders(t, o, body); holders < tt.durable {
					t.Errorf("%s (%d bytes) is on %d storages; %d were promised (missing: %v)", name, len(body), holders, tt.durable, o.Missing)
				}
				if promised := 3 - len(o.Missing); promised < tt.durable {
					t.Errorf("%s: the catalog counts %d entities; want %d", name, promised, tt.durable)
				}
			}
		})
	}
}

// writeSome stores objects of several sizes from several clients at once and returns those that were acknowledged.
func writeSome(t *testing.T, ts *testStore, headers []string) map[string][]byte {
	t.Helper()
	var mu sync.Mutex
	bodies := map[string][]byte{}
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i, size := range []int{0, 100, 10_000, 70_000, 1 << 20, 1<<20 + 1, 3 << 20} {
				name, body := fmt.Sprintf("w%d/%d", w, i), randomBody(size+w)
				if a := ts.do("PUT", "/b/"+name, bytes.NewReader(body), headers...); a.status != 201 {
					t.Errorf("PUT %s = %d %s", name, a.status, a.body)
					continue
				}
				mu.Lock()
				bodies[name] = body
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return bodies
}

// holders counts the storages that give an object's bytes after their power has come back.
func (ts *testStore) holders(t *testing.T, o store.Object, body []byte) (n int) {
	t.Helper()
	for id, dev := range ts.devices {
		if !dev.reopened {
			_ = dev.Device.(*disk.Disk).Close() // it fails: its power is gone
			o := dev.options
			o.FS = faultfs.OS{}
			d, err := disk.Open(dev.dir, o)
			if err != nil {
				t.Fatalf("storage %d after the power cut: %v", id, err)
			}
			dev.Device, dev.reopened = d, true
		}
		if got, err := dev.Device.Get(t.Context(), o.ID, o.Size, nil); err == nil && md5.Sum(got) == md5.Sum(body) {
			n++
		}
	}
	return n
}
