package worker_test

import (
	"crypto/md5"
	"fmt"
	"slices"
	"sync"
	"testing"

	"wheelhouse/store"
	"wheelhouse/store/disk"
)

// addCluster adds a cluster of n empty storages.
func (wd *world) addCluster(n int) store.ClusterID {
	wd.t.Helper()
	id, err := wd.cat.PutCluster(wd.t.Context(), store.Cluster{Name: "another"})
	if err != nil {
		wd.t.Fatal(err)
	}
	for range n {
		wd.mu.Lock()
		next := len(wd.disks) + 1
		wd.mu.Unlock()
		sid, err := wd.cat.PutStorage(wd.t.Context(), store.Storage{Cluster: id, URI: fmt.Sprintf("http://10.0.0.2/dev%d", next)})
		if err != nil {
			wd.t.Fatal(err)
		}
		d, err := disk.Open(wd.t.TempDir(), disk.Options{StorageID: sid, MinFree: -1})
		if err != nil {
			wd.t.Fatal(err)
		}
		wd.mu.Lock()
		wd.disks[sid] = d
		wd.mu.Unlock()
	}
	return id
}

// read finds an object by name and reads it as a client would: from any storage of its cluster that should have it.
func (wd *world) read(name string) (store.Object, error) {
	_, o, err := wd.cat.Find(wd.t.Context(), "b", name)
	if err != nil {
		return o, err
	}
	top, err := wd.cat.Topology(wd.t.Context())
	if err != nil {
		return o, err
	}
	err = fmt.Errorf("object %d is on no storage of cluster %d", o.ID, o.Cluster)
	for i := range top.Storages {
		s := &top.Storages[i]
		if s.Cluster != o.Cluster || !s.Mode.Readable() {
			continue
		}
		data, getErr := wd.Device(s).Get(wd.t.Context(), o.ID, o.Size, nil)
		if getErr == nil && md5.Sum(data) == o.ETag {
			return o, nil
		}
	}
	return o, err
}

// A storage that alone holds something gives it to its siblings before it leaves.
func TestDrainStorage(t *testing.T) {
	wd := newWorld(t)
	objects := wd.fill(40)
	alone := wd.put("alone", []byte("only here"), true, 1)
	objects = append(objects, alone)
	if err := wd.disks[2].Delete(t.Context(), []store.ObjectID{objects[7].ID}); err != nil {
		t.Fatal(err)
	}
	wd.operate(wd.w)
	if err := wd.cat.SetStorageMode(t.Context(), 1, store.ModeDrain); err != nil {
		t.Fatal(err)
	}
	if op := wd.end(wd.create(store.Operation{Kind: store.OpDrain, Storage: 1})); op.State != store.OpDone {
		t.Fatalf("%+v", op)
	}
	for _, o := range objects {
		if got := wd.holders(o); len(got) != 3 {
			t.Errorf("object %d is held by %v", o.ID, got)
		}
		if owed := wd.missing(o); owed != nil {
			t.Errorf("object %d is owed to %v", o.ID, owed)
		}
	}
	if op := wd.end(wd.create(store.Operation{Kind: store.OpDrain, Storage: 2})); op.State != store.OpFailed {
		t.Errorf("a storage that is not in mode drain: %+v", op)
	}
}

// All objects of a cluster move while clients read, overwrite and delete; no read fails, and nothing stays behind.
func TestDrainClusterUnderLoad(t *testing.T) {
	wd := newWorld(t)
	objects := wd.fill(120)
	second := wd.addCluster(3)
	if _, err := wd.cat.PutCluster(t.Context(), store.Cluster{ID: 1, Name: "c", Mode: store.ClusterRetire}); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var load sync.WaitGroup
	read := slices.Clone(objects) // the others change
	load.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := wd.read(read[i%len(read)].Name); err != nil {
				t.Errorf("a read failed: %v", err)
				return
			}
		}
	})
	stopWorker := wd.operate(wd.w)
	id := wd.create(store.Operation{Kind: store.OpDrain, Cluster: 1})
	for i := range 20 { // overwritten while it goes on
		o := wd.put(objects[i].Name, fmt.Appendf(nil, "new %d", i), true, 1, 2, 3)
		objects[i] = o
	}
	op := wd.end(id)
	close(stop)
	load.Wait()
	stopWorker()
	if op.State != store.OpDone || op.Progress.Objects < int64(len(objects)-20) {
		t.Errorf("%+v", op)
	}
	for _, o := range objects {
		now, err := wd.read(o.Name)
		if err != nil || now.Cluster != second || now.ETag != o.ETag || now.Size != o.Size || !now.Created.Equal(o.Created) {
			t.Errorf("%s: %+v, %v", o.Name, now, err)
		}
	}
	// The old entities go the way of all that was replaced, and then the cluster holds nothing.
	wd.now = wd.now.Add(2 * grace)
	wd.runJobs(store.TaskDeleteObject, store.TaskReplicate)
	wd.round()
	for id := store.StorageID(1); id <= 3; id++ {
		if all, err := wd.disks[id].Manifest(t.Context(), 0, 1<<64-1, 10); err != nil || len(all) > 0 {
			t.Errorf("storage %d still holds %v, %v", id, all, err)
		}
	}
	if sum, err := wd.cat.IDDigests(t.Context(), 1); err != nil || len(sum) > 0 {
		t.Errorf("the catalog still expects %+v, %v", sum, err)
	}
}

// Between clusters, until they are as full as each other; and within one, what a storage lacks.
func TestRebalance(t *testing.T) {
	wd := newWorld(t)
	var objects []store.Object
	for i := range 40 {
		objects = append(objects, wd.put(fmt.Sprint("o", i), append(noise(100<<10), byte(i)), true, 1, 2, 3))
	}
	second := wd.addCluster(3)
	wd.operate(wd.w)
	op := wd.end(wd.create(store.Operation{Kind: store.OpRebalance, Options: []byte(`{"within":0.000001}`)}))
	if op.State != store.OpDone {
		t.Fatalf("%+v", op)
	}
	moved := 0
	for _, o := range objects {
		now, err := wd.read(o.Name)
		if err != nil {
			t.Error(err)
		}
		if now.Cluster == second {
			moved++
		}
	}
	if moved < 15 || moved > 25 {
		t.Errorf("%d of 40 objects moved", moved)
	}
	if op := wd.end(wd.create(store.Operation{Kind: store.OpRebalance})); op.State != store.OpDone || op.Progress.Objects != 0 {
		t.Errorf("within 5 %%: %+v", op)
	}
	op = wd.end(wd.create(store.Operation{Kind: store.OpRebalance, Options: []byte(`{"from":2,"to":1,"bytes":250000}`)}))
	if op.State != store.OpDone || op.Progress.Objects != 3 {
		t.Errorf("so much: %+v", op)
	}
	_, o, err := wd.cat.Find(t.Context(), "b", objects[39].Name)
	if err != nil || o.Cluster != 1 {
		t.Fatal(o, err)
	}
	if err := wd.disks[3].Delete(t.Context(), []store.ObjectID{o.ID}); err != nil {
		t.Fatal(err)
	}
	if op := wd.end(wd.create(store.Operation{Kind: store.OpRebalance, Cluster: 1})); op.State != store.OpDone || len(wd.holders(o)) != 3 {
		t.Errorf("within the cluster: %+v, held by %v", op, wd.holders(o))
	}
}
