package main

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/disk"
)

const (
	tinyObjectsFull = 1_000_000

	idleTarget  = 150 // MB that a store of a million objects may take when nobody asks it
	indexTarget = 2   // bytes of memory for an object in a sealed pack
	tinyObject  = 100 // bytes
	tinyType    = "text/plain"
)

// memory1M measures the memory of a store with a million objects: the process when it is idle, and the index of a disk.
func memory1M(ctx context.Context, l *lab) ([]Result, error) {
	n := l.count(tinyObjectsFull)
	if err := l.needSpace(int64(n) * 3 * 3 << 10); err != nil {
		return nil, err
	}
	s, err := l.freshUp(ctx) // makes the storages, the bucket and the keys
	if err != nil {
		return nil, err
	}
	if err := s.front.end(); err != nil {
		return nil, err
	}
	l.logf("storing %d objects", n)
	t := &tinyObjects{data: s.data, n: n, created: time.Now().UTC().Truncate(time.Second)}
	if err := t.fill(ctx); err != nil {
		return nil, fmt.Errorf("store %d objects: %w", n, err)
	}
	row, err := t.idle(ctx, l)
	if err != nil {
		return nil, err
	}
	if err := l.endChildren(); err != nil {
		return nil, err
	}
	index, err := t.index(ctx, l)
	if err != nil {
		return []Result{row}, err
	}
	return []Result{row, index}, nil
}

// tinyObjects is a store that is filled without going through HTTP.
type tinyObjects struct {
	data    string
	n       int
	created time.Time
	bucket  store.BucketID
	cluster store.ClusterID
	first   store.ObjectID
}

func (t *tinyObjects) storage(i int) string { return filepath.Join(t.data, "storage", strconv.Itoa(i)) }

func (t *tinyObjects) object(i int64, o *store.Object) {
	*o = store.Object{
		Bucket: t.bucket, Name: string(photoName(nil, i)), Cluster: t.cluster, Size: tinyObject, ContentType: tinyType,
		Created: t.created, ETag: md5.Sum(content(i, tinyObject)),
	}
}

// fill writes the catalog's rows and then each storage's entities.
func (t *tinyObjects) fill(ctx context.Context) error {
	c, err := openForFilling(ctx, filepath.Join(t.data, "catalog.db"))
	if err != nil {
		return err
	}
	b, err := c.Bucket(ctx, bucket)
	top, terr := c.Topology(ctx)
	if err = errors.Join(err, terr); err != nil {
		return errors.Join(err, c.Close())
	}
	t.bucket, t.cluster = b.ID, top.Clusters[0].ID
	t.first, err = bulkInsert(ctx, c, t.n, t.object)
	if err = errors.Join(err, c.Close()); err != nil {
		return err
	}
	for _, s := range top.Storages {
		if err := t.fillStorage(ctx, s.ID); err != nil {
			return fmt.Errorf("storage %d: %w", s.ID, err)
		}
	}
	return nil
}

func (t *tinyObjects) fillStorage(ctx context.Context, id store.StorageID) error {
	d, err := disk.Open(t.storage(int(id)), disk.Options{StorageID: id})
	if err != nil {
		return err
	}
	slots := make(chan struct{}, 8192)
	var mu sync.Mutex // guards failed
	var failed error
	done := func(err error) {
		if err != nil {
			mu.Lock()
			failed = errors.Join(failed, err)
			mu.Unlock()
		}
		<-slots
	}
	var o store.Object
	for i := range int64(t.n) {
		if i%8192 == 0 && ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		t.object(i, &o)
		d.PutAsync(store.EntityInfo{
			ID: t.first + store.ObjectID(i), Size: o.Size, Bucket: bucket, Name: o.Name, ContentType: o.ContentType,
			ETag: o.ETag, Created: o.Created,
		}, content(i, tinyObject), done)
	}
	for range cap(slots) {
		slots <- struct{}{}
	}
	return errors.Join(failed, context.Cause(ctx), d.Close())
}

// idle starts the store on what is there and measures it when it has nothing to do.
func (t *tinyObjects) idle(ctx context.Context, l *lab) (Result, error) {
	begun := time.Now()
	s, err := l.startUp(ctx, t.data)
	if err != nil {
		return Result{}, err
	}
	ready := time.Since(begun)
	if err := pause(ctx, l.span(10*time.Second)); err != nil {
		return Result{}, err
	}
	idle, err := readMemory(s.front.pid())
	if err != nil {
		return Result{}, err
	}
	const reads = 3000
	for i := range int64(reads) { // which also shows that the objects are there
		if err := checkGet(ctx, s.url+"/"+bucket+"/"+string(photoName(nil, i*int64(t.n)/reads)), content(i*int64(t.n)/reads, tinyObject)); err != nil {
			return Result{}, err
		}
	}
	after, err := readMemory(s.front.pid())
	return Result{
		Name: "memory-1m" + l.reduced(t.n, tinyObjectsFull), Target: atMost(idleTarget, "MB"), Ours: Figure{megabytes(idle.RSS), "MB"},
		Notes: []string{fmt.Sprintf("%d objects on three storages, up ready after %.1f s, idle: VmRSS %.1f MB = RssAnon %.1f + RssFile %.1f; after %d random reads: %.1f = %.1f + %.1f",
			t.n, ready.Seconds(), megabytes(idle.RSS), megabytes(idle.Anon), megabytes(idle.File), reads,
			megabytes(after.RSS), megabytes(after.Anon), megabytes(after.File))},
	}, err
}

func megabytes(n int64) float64 { return float64(n) / 1e6 }

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// index seals all packs of the first storage and measures what the heap holds for them once it is open.
func (t *tinyObjects) index(ctx context.Context, l *lab) (Result, error) {
	empty, err := l.mkdir("storage")
	if err != nil {
		return Result{}, err
	}
	without, _, _, err := heapOf(empty, 9)
	if err != nil {
		return Result{}, err
	}
	asFilled, _, open, err := heapOf(t.storage(1), 1)
	if err != nil {
		return Result{}, err
	}
	if err := t.seal(ctx); err != nil {
		return Result{}, fmt.Errorf("seal: %w", err)
	}
	with, sealed, _, err := heapOf(t.storage(1), 1)
	if err != nil {
		return Result{}, err
	}
	if sealed < int64(t.n) {
		return Result{}, fmt.Errorf("%d objects are in sealed packs; want %d", sealed, t.n)
	}
	each := float64(with-without) / float64(sealed)
	return Result{
		Name: "memory-1m index" + l.reduced(t.n, tinyObjectsFull), Target: atMost(indexTarget, "B/object"), Ours: Figure{max(0, each), "B/object"},
		Notes: []string{
			fmt.Sprintf("heap of disk.Open: %d bytes with %d sealed objects, %d with none", with, sealed, without),
			fmt.Sprintf("before its last pack was sealed, the same storage took %.1f MB of heap: %.0f bytes for each of the %d objects in the pack being written",
				megabytes(asFilled), float64(asFilled-without)/float64(max(1, open)), open),
		},
	}, nil
}

// seal makes the first storage begin another pack: one that may not become as long as the last one is full.
func (t *tinyObjects) seal(ctx context.Context) error {
	d, err := disk.Open(t.storage(1), disk.Options{StorageID: 1, PackSize: 64 << 10})
	if err != nil {
		return err
	}
	err = d.Put(ctx, store.EntityInfo{ID: t.first + store.ObjectID(t.n), Size: tinyObject, Bucket: bucket, Name: "last", ContentType: tinyType},
		content(0, tinyObject))
	return errors.Join(err, d.Close()) // which waits for the sealing
}

// heapOf opens a storage and returns what that adds to the heap, and how many objects are in its sealed packs and in others.
func heapOf(dir string, id store.StorageID) (heap, sealed, open int64, err error) {
	before := heapInUse()
	d, err := disk.Open(dir, disk.Options{StorageID: id})
	if err != nil {
		return 0, 0, 0, err
	}
	heap = heapInUse() - before
	for _, p := range d.Packs() {
		if p.Sealed {
			sealed += p.Entities
		} else {
			open += p.Entities
		}
	}
	return heap, sealed, open, d.Close()
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // the first one only queues what finalizers and cleanups hold
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
