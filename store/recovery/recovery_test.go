package recovery_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/store"
	"wheelhouse/store/catalog"
	"wheelhouse/store/disk"
	"wheelhouse/store/recovery"
)

// world is two clusters of two disks each, and a catalog.
type world struct {
	t     *testing.T
	dir   string
	cat   *catalog.SQLite
	disks []*disk.Disk // storages 1 to 4; 1 and 2 are cluster 1
	list  []recovery.Storage
	now   time.Time
	n     int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), now: time.Unix(2_000_000_000, 0)}
	w.cat = w.open(filepath.Join(w.dir, "catalog.db"))
	for k := range 2 {
		cluster, err := w.cat.PutCluster(t.Context(), store.Cluster{Name: fmt.Sprint("c", k+1)})
		w.ok(err)
		for range 2 {
			id, err := w.cat.PutStorage(t.Context(), store.Storage{Cluster: cluster, URI: fmt.Sprintf("http://127.0.0.1:1/dev%d", len(w.list)+1)})
			w.ok(err)
			d, err := disk.Open(t.TempDir(), disk.Options{StorageID: id, MinFree: -1})
			w.ok(err)
			t.Cleanup(func() { _ = d.Close() })
			w.disks = append(w.disks, d)
			w.list = append(w.list, recovery.Storage{ID: id, Device: d})
		}
	}
	_, err := w.cat.CreateBucket(t.Context(), store.Bucket{Name: "b", Access: store.PublicRead})
	w.ok(err)
	return w
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) open(path string) *catalog.SQLite {
	w.t.Helper()
	c, err := catalog.OpenSQLite(w.t.Context(), path, catalog.Options{
		Now: func() time.Time { return w.now }, TopologyAge: time.Nanosecond, Grace: time.Minute,
	})
	w.ok(err)
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// put stores an object in a cluster, as the dispatcher does.
func (w *world) put(bucket, name, data string, cluster store.ClusterID) store.Object {
	w.t.Helper()
	b, err := w.cat.Bucket(w.t.Context(), bucket)
	if errors.Is(err, store.ErrNoBucket) {
		b, err = w.cat.CreateBucket(w.t.Context(), store.Bucket{Name: bucket})
	}
	w.ok(err)
	id, err := w.cat.LeaseIDs(w.t.Context(), fmt.Sprint("process ", w.n%2), 1)
	w.ok(err)
	w.n++
	o := w.store(id, bucket, name, data, cluster)
	o.Bucket = b.ID
	_, err = w.cat.Commit(w.t.Context(), store.Commit{Object: o})
	w.ok(err)
	return o
}

// store writes the entities alone.
func (w *world) store(id store.ObjectID, bucket, name, data string, cluster store.ClusterID) store.Object {
	w.t.Helper()
	o := store.Object{
		ID: id, Name: name, Cluster: cluster, Size: int64(len(data)), ETag: md5.Sum([]byte(data)), ContentType: "text/plain", Created: w.now,
	}
	info := store.EntityInfo{ID: id, Size: o.Size, Bucket: bucket, Name: name, ContentType: o.ContentType, ETag: o.ETag, Created: o.Created}
	for _, d := range w.disks[2*cluster-2 : 2*cluster] {
		w.ok(d.Put(w.t.Context(), info, []byte(data)))
	}
	return o
}

// remove deletes an object, and its entities as the worker does after the grace time.
func (w *world) remove(o store.Object) {
	w.t.Helper()
	_, err := w.cat.Delete(w.t.Context(), o.Bucket, o.Name, store.Condition{})
	w.ok(err)
	w.purge(o)
}

func (w *world) purge(o store.Object) {
	w.t.Helper()
	for _, d := range w.disks[2*o.Cluster-2 : 2*o.Cluster] {
		w.ok(d.Delete(w.t.Context(), []store.ObjectID{o.ID}))
	}
}

// backup stores a backup of the catalog as of now, in a cluster.
func (w *world) backup(cluster store.ClusterID) store.Object {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "copy")
	w.ok(w.cat.Backup(w.t.Context(), path))
	data, err := os.ReadFile(path)
	w.ok(err)
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	_, err = zip.Write(data)
	w.ok(errors.Join(err, zip.Close()))
	return w.put(store.CatalogBucket, store.BackupName(w.now), zipped.String(), cluster)
}

// contents are the bytes of all objects, as a client would read them, by bucket/name; those without are "gone".
func (w *world) contents(c *catalog.SQLite) map[string]string {
	w.t.Helper()
	all := map[string]string{}
	buckets, err := c.ListBuckets(w.t.Context(), "", 100)
	w.ok(err)
	for _, b := range buckets {
		if b.Name == store.CatalogBucket {
			continue
		}
		w.ok(c.Scan(w.t.Context(), b.ID, "", 1000, func(o *store.Object) bool {
			all[b.Name+"/"+o.Name] = "gone"
			for _, d := range w.disks[2*o.Cluster-2 : 2*o.Cluster] {
				if data, err := d.Get(context.Background(), o.ID, o.Size, nil); err == nil && md5.Sum(data) == o.ETag {
					all[b.Name+"/"+o.Name] = fmt.Sprintf("%s %s %d", data, o.ContentType, o.Created.Unix())
				}
			}
			return true
		}))
	}
	return all
}

func (w *world) want(c *catalog.SQLite, want map[string]string) {
	w.t.Helper()
	if d := cmp.Diff(want, w.contents(c)); d != "" {
		w.t.Errorf("-before +after:\n%s", d)
	}
	totals, err := c.Totals(w.t.Context())
	w.ok(err)
	var objects int64
	buckets, err := c.ListBuckets(w.t.Context(), "", 100)
	w.ok(err)
	for _, b := range buckets {
		w.ok(c.Scan(w.t.Context(), b.ID, "", 1000, func(*store.Object) bool { objects++; return true }))
	}
	if totals.Objects != objects {
		w.t.Errorf("totals count %d objects; there are %d", totals.Objects, objects)
	}
}

// restored is the newest backup, restored and fenced.
func (w *world) restored(before time.Time) *catalog.SQLite {
	w.t.Helper()
	place := recovery.Place{Temp: filepath.Join(w.t.TempDir(), "restored.db")}
	_, skipped, err := recovery.FromStorages(w.t.Context(), w.list, before, place)
	w.ok(errors.Join(append(skipped, err)...))
	c := w.open(place.Temp)
	failed, err := recovery.Fence(w.t.Context(), c, w.list)
	w.ok(errors.Join(append(failed, err)...))
	return c
}

// history is a few hours of a store: some before the backup, some after.
func (w *world) history(backup bool) {
	w.put("b", "kept", "kept", 1)
	old := w.put("b", "overwritten", "first", 1)
	gone := w.put("b", "deleted", "deleted", 2)
	w.put("b", "renamed", "renamed", 2)
	b, err := w.cat.Bucket(w.t.Context(), "b")
	w.ok(err)
	early := w.put("b", "early", "deleted before", 1)
	w.remove(early)
	if backup {
		w.ok(w.cat.Rename(w.t.Context(), b.ID, "renamed", b.ID, "new name"))
		w.backup(1)
	}
	w.now = w.now.Add(time.Hour)
	w.put("b", "overwritten", "second", 2)
	w.purge(old)
	w.remove(gone)
	w.put("b", "new", "new", 1)
	w.put("c", "in a new bucket", "new too", 2)
	w.put("b", "same second", "one", 1)
	w.put("b", "same second", "two", 1)
	w.now = w.now.Add(time.Second)
	w.put("b", "not purged yet", "one", 1)
	w.now = w.now.Add(time.Second)
	w.put("b", "not purged yet", "two", 2)
}

func TestReadopt(t *testing.T) {
	w := newWorld(t)
	w.history(true)
	want := w.contents(w.cat)
	c := w.restored(time.Time{})
	dry, err := recovery.Readopt(t.Context(), c, w.list, recovery.Options{DryRun: true})
	w.ok(err)
	if dry.Gone != 2 || dry.Released { // it does not tell deleted from overwritten
		t.Errorf("dry run: %+v", dry)
	}
	rep, err := recovery.Readopt(t.Context(), c, w.list, recovery.Options{})
	w.ok(err)
	w.want(c, want)
	if rep.Gone != 1 || rep.Lost != 0 || rep.Older != 0 || rep.Replaced != 3 || !rep.Released || rep.Failed != nil {
		t.Errorf("%+v", rep)
	}
	b, err := c.Bucket(t.Context(), "b")
	w.ok(err)
	if b.Access != store.PublicRead {
		t.Error("the bucket's access is not what the backup says")
	}
	again, err := recovery.Readopt(t.Context(), c, w.list, recovery.Options{})
	w.ok(err)
	if again.Adopted+again.Gone+again.Older+again.Strangers != 0 {
		t.Errorf("a second time: %+v", again)
	}
}

func TestRebuildFromScratch(t *testing.T) {
	w := newWorld(t)
	w.history(false)
	want := w.contents(w.cat)
	groups, err := recovery.Clusters(t.Context(), w.list)
	w.ok(err)
	if d := cmp.Diff([][]store.StorageID{{1, 2}, {3, 4}}, groups); d != "" {
		t.Fatal(d)
	}
	c := w.open(filepath.Join(t.TempDir(), "new.db"))
	for _, g := range groups {
		k, err := c.PutCluster(t.Context(), store.Cluster{Name: "c"})
		w.ok(err)
		for _, s := range g {
			_, err := c.PutStorage(t.Context(), store.Storage{ID: s, Cluster: k, URI: fmt.Sprint("u", s)})
			w.ok(err)
		}
	}
	_, err = recovery.Fence(t.Context(), c, w.list)
	w.ok(err)
	rep, err := recovery.Readopt(t.Context(), c, w.list, recovery.Options{})
	w.ok(err)
	w.want(c, want)
	if !rep.Released || rep.Replaced != 2 {
		t.Errorf("%+v", rep)
	}
	id, err := c.LeaseIDs(t.Context(), "new", 1)
	w.ok(err)
	if last, err := recovery.Largest(t.Context(), w.list[0]); err != nil || id <= last {
		t.Errorf("the next id is %d; a storage holds %d, %v", id, last, err)
	}
}

// A sweep right after a restore must not take what came after the backup for the remains of uploads.
func TestFencedIsNotSwept(t *testing.T) {
	w := newWorld(t)
	before, err := w.cat.LeaseIDs(t.Context(), "a dispatcher", 10)
	w.ok(err)
	w.backup(1)
	o := w.store(before+3, "b", "leased before the backup", "x", 1)
	w.put("b", "leased after", "y", 2)
	c := w.restored(time.Time{})
	w.now = w.now.Add(1000 * time.Hour)
	leases, err := c.Leases(t.Context(), w.now, 100)
	w.ok(err)
	if len(leases) > 0 {
		t.Errorf("%+v would be swept", leases)
	}
	leases, err = c.Leases(t.Context(), w.now.Add(24*time.Hour), 100)
	w.ok(err)
	if len(leases) != 2 || leases[0].First > o.ID {
		t.Errorf("all leases: %+v; want what was leased before and what is fenced", leases)
	}
	if _, err := c.Commit(t.Context(), store.Commit{Object: store.Object{ID: o.ID, Bucket: 1, Name: "late", Cluster: 1}}); !errors.Is(err, store.ErrLease) {
		t.Errorf("a commit with a fenced id: %v", err)
	}
	_, err = recovery.Readopt(t.Context(), c, w.list, recovery.Options{})
	w.ok(err)
	now := time.Unix(2_000_000_000, 0).Unix()
	w.want(c, map[string]string{
		"b/leased before the backup": fmt.Sprint("x text/plain ", now), "b/leased after": fmt.Sprint("y text/plain ", now),
	})
}

// What cannot be asked stays fenced, and is adopted when it can.
func TestReadoptInParts(t *testing.T) {
	w := newWorld(t)
	w.put("b", "early", "early", 2)
	w.backup(1)
	w.now = w.now.Add(time.Hour)
	w.put("b", "one", "one", 1)
	w.put("b", "two", "two", 2)
	want := w.contents(w.cat)
	c := w.restored(time.Time{})
	rep, err := recovery.Readopt(t.Context(), c, w.list[:2], recovery.Options{})
	w.ok(err)
	if rep.Released || len(rep.Failed) != 2 || rep.Gone != 0 || rep.Lost != 1 {
		t.Errorf("without cluster 2: %+v", rep)
	}
	part := maps.Clone(want)
	delete(part, "b/two")
	w.want(c, part)
	rep, err = recovery.Readopt(t.Context(), c, w.list, recovery.Options{})
	w.ok(err)
	if !rep.Released || rep.Lost != 0 {
		t.Errorf("with it: %+v", rep)
	}
	w.want(c, want)
}

// A storage that says that it has deleted an entity is believed, although its sibling was away then.
func TestDeletedOnASibling(t *testing.T) {
	w := newWorld(t)
	w.backup(1)
	o := w.put("b", "deleted", "deleted", 1)
	w.ok(w.disks[0].Delete(t.Context(), []store.ObjectID{o.ID}))
	c := w.restored(time.Time{})
	rep, err := recovery.Readopt(t.Context(), c, w.list, recovery.Options{})
	w.ok(err)
	w.want(c, map[string]string{})
	if rep.Older != 1 {
		t.Errorf("%+v", rep)
	}
	if _, err := c.DeletedObject(t.Context(), o.ID); err != nil {
		t.Errorf("its entity will never be deleted: %v", err)
	}
}

// A storage that lost an entity is owed it.
func TestAdoptedIsOwed(t *testing.T) {
	w := newWorld(t)
	w.backup(2)
	o := w.put("b", "x", "x", 1)
	d, err := disk.Open(t.TempDir(), disk.Options{StorageID: 2, MinFree: -1}) // a new disk
	w.ok(err)
	defer d.Close()
	w.list[1].Device = d
	c := w.restored(time.Time{})
	_, err = recovery.Readopt(t.Context(), c, w.list, recovery.Options{})
	w.ok(err)
	got, err := c.ObjectByID(t.Context(), o.ID)
	w.ok(err)
	if d := cmp.Diff([]store.StorageID{2}, got.Missing); d != "" {
		t.Error(d)
	}
}

// An empty cluster is no proof that everything in it was deleted.
func TestLostIsNotDeleted(t *testing.T) {
	w := newWorld(t)
	for i := range 10 {
		w.put("b", fmt.Sprint(i), "x", 1)
	}
	w.backup(2)
	for i := range w.list[:2] {
		d, err := disk.Open(t.TempDir(), disk.Options{StorageID: w.list[i].ID, MinFree: -1})
		w.ok(err)
		defer d.Close()
		w.list[i].Device = d
	}
	c := w.restored(time.Time{})
	rep, err := recovery.Readopt(t.Context(), c, w.list, recovery.Options{})
	w.ok(err)
	if rep.Lost != 10 || rep.Gone != 0 {
		t.Errorf("%+v", rep)
	}
}

// A backup that is damaged on one storage is read from the other, one that is damaged on both is passed over.
func TestDamagedBackups(t *testing.T) {
	w := newWorld(t)
	first := w.now
	w.put("b", "a", "a", 1)
	w.backup(1)
	w.now = w.now.Add(time.Hour)
	w.put("b", "b", "b", 1)
	second := w.now
	newest := w.backup(2)
	broken := w.list[2]
	w.list[2].Device = rotten{broken.Device, newest.ID}
	place := recovery.Place{Temp: filepath.Join(t.TempDir(), "x.db")}
	b, skipped, err := recovery.FromStorages(t.Context(), w.list, time.Time{}, place)
	if err != nil || !b.At.Equal(second) || skipped != nil {
		t.Errorf("rot on one storage: %v, %v, %v", b.At, skipped, err)
	}
	w.list[3].Device = rotten{w.list[3].Device, newest.ID}
	b, skipped, err = recovery.FromStorages(t.Context(), w.list, time.Time{}, place)
	if err != nil || !b.At.Equal(first) || len(skipped) != 1 || !errors.Is(skipped[0], recovery.ErrBackup) {
		t.Errorf("rot on both: %v, %v, %v", b.At, skipped, err)
	}
	if _, _, err = recovery.FromStorages(t.Context(), w.list, first.Add(-time.Second), place); !errors.Is(err, recovery.ErrNoBackup) {
		t.Errorf("before the first: %v", err)
	}
	b, _, err = recovery.FromStorages(t.Context(), w.list[:2], time.Time{}, place)
	if err != nil || !b.At.Equal(first) {
		t.Errorf("on cluster 1 alone: %v, %v", b.At, err)
	}
}

// rotten is a storage that gives wrong bytes of one entity.
type rotten struct {
	store.Device
	id store.ObjectID
}

func (r rotten) Open(ctx context.Context, id store.ObjectID, off, n int64) (store.EntityReader, error) {
	e, err := r.Device.Open(ctx, id, off, n)
	if err != nil || id != r.id {
		return e, err
	}
	return cut{e, io.LimitReader(e, 300)}, nil
}

type cut struct {
	store.EntityReader
	r io.Reader
}

func (c cut) Read(p []byte) (int, error) { return c.r.Read(p) }
