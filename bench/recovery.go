package main

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
	"wheelhouse/store/disk"
	"wheelhouse/store/foreground"
	"wheelhouse/store/storaged"
	"wheelhouse/store/worker"
)

const (
	rebuildObjects = 200_000
	rebuildSize    = 10 << 10
	rebuildTarget  = 0.6 // of the speed of cp
	getsTarget     = 2.0 // times the p99 of an idle store
	scrubTarget    = 0.7 // of the speed of cat
	fsckObjects    = 1_000_000
	fsckMore       = 5   // times as many, beside it: what agrees must not cost by the object
	fsckTarget     = 5.0 // seconds
	// quietSpan is how long reads are measured alone: some of the worker's measurements.
	quietSpan = 4 * time.Second
	// mostYielding bounds the rounds of rebuilds that make room for readers: each takes a minute or two.
	mostYielding = 3
)

// recovery is a catalog with one cluster of three storages, each a node of its own behind HTTP, all in this process.
type recovery struct {
	l       *lab
	cat     *catalog.SQLite
	fleet   *storaged.Fleet
	client  *http1.Client
	disks   map[store.StorageID]*disk.Disk
	servers map[store.StorageID]*http1.Server
	bucket  store.Bucket
	first   store.ObjectID
	n       int
	size    int
	closers []func() error
	waits   foreground.Meter // how long readers wait, where that is measured
}

func (l *lab) newRecovery(ctx context.Context, n, size int) (r *recovery, err error) {
	dir, err := l.mkdir("recovery")
	if err != nil {
		return nil, err
	}
	r = &recovery{l: l, n: n, size: size, disks: map[store.StorageID]*disk.Disk{}, servers: map[store.StorageID]*http1.Server{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	file := filepath.Join(dir, "catalog.db")
	if r.cat, err = openForFilling(ctx, file); err != nil {
		return r, err
	}
	cluster, err := r.cat.PutCluster(ctx, store.Cluster{Name: "main"})
	if err == nil {
		r.bucket, err = r.cat.CreateBucket(ctx, store.Bucket{Name: bucket})
	}
	if err != nil {
		return r, errors.Join(err, r.cat.Close())
	}
	created := time.Now().UTC().Truncate(time.Second)
	r.first, err = bulkInsert(ctx, r.cat, n, func(i int64, o *store.Object) {
		*o = store.Object{
			Bucket: r.bucket.ID, Name: string(photoName(nil, i)), Cluster: cluster, Size: int64(size), ContentType: tinyType,
			Created: created, ETag: md5.Sum(content(i, size)),
		}
	})
	if err = errors.Join(err, r.cat.Close()); err != nil {
		return r, err
	}
	if r.cat, err = catalog.OpenSQLite(ctx, file, catalog.Options{TopologyAge: time.Nanosecond}); err != nil { // which makes the digests
		return r, err
	}
	r.closers = append(r.closers, r.cat.Close)
	r.client = http1.NewClient(http1.ClientOptions{HeadTimeout: 2 * time.Minute})
	r.closers = append(r.closers, func() error { r.client.Close(); return nil })
	r.fleet = storaged.NewFleet(r.client, nil, nil)
	for id := store.StorageID(1); id <= 3; id++ {
		if err := r.serve(ctx, cluster, id); err != nil {
			return r, err
		}
	}
	return r, r.fill(ctx)
}

func (r *recovery) close() error {
	var errs []error
	for _, s := range r.servers {
		errs = append(errs, s.Close())
	}
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	for _, d := range r.disks {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// serve makes an empty storage in a fresh directory, and serves it at a new address.
func (r *recovery) serve(ctx context.Context, cluster store.ClusterID, id store.StorageID) error {
	dir, err := r.l.mkdir("disk")
	if err != nil {
		return err
	}
	d, err := disk.Open(dir, disk.Options{StorageID: id})
	if err != nil {
		return err
	}
	if s := r.servers[id]; s != nil {
		old := r.disks[id]
		if err := errors.Join(s.Close(), old.Close(), os.RemoveAll(old.Dir())); err != nil {
			return err
		}
	}
	n, err := storaged.NewNode([]storaged.Disk{{ID: id, Device: d, Bulk: d.Bulk()}}, storaged.Options{})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := http1.NewServer(n, http1.Options{Limits: http1.Limits{Body: store.MaxObjectSize}})
	go func() { _ = srv.Serve(ln) }() // ends by Close
	r.disks[id], r.servers[id] = d, srv
	_, err = r.cat.PutStorage(ctx, store.Storage{ID: id, Cluster: cluster, URI: fmt.Sprintf("http://%s/dev%d", ln.Addr(), id)})
	return err
}

// fill stores all objects on storage 1, and gives the others its packs.
func (r *recovery) fill(ctx context.Context) error {
	d := r.disks[1]
	slots := make(chan struct{}, 4096)
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
	for i := range int64(r.n) {
		slots <- struct{}{}
		data := content(i, r.size)
		d.PutAsync(store.EntityInfo{
			ID: r.first + store.ObjectID(i), Size: int64(r.size), Bucket: bucket, Name: string(photoName(nil, i)), ContentType: tinyType,
			ETag: md5.Sum(data), Created: time.Unix(1, 0),
		}, data, done)
	}
	for range cap(slots) {
		slots <- struct{}{}
	}
	for id := store.StorageID(2); id <= 3; id++ {
		if err := adoptAll(ctx, d.Bulk(), r.disks[id].Bulk()); err != nil {
			return err
		}
	}
	return errors.Join(failed, ctx.Err())
}

func adoptAll(ctx context.Context, from, to store.Bulk) error {
	packs, err := from.Packs(ctx)
	if err != nil {
		return err
	}
	for _, p := range packs {
		in, err := from.OpenPack(ctx, p.Name, p.UID, 0)
		if err != nil {
			return err
		}
		_, err = to.AppendPack(ctx, p.UID, 0, io.LimitReader(in, p.Size))
		if err = errors.Join(err, in.Close()); err != nil {
			return err
		}
		if _, err := to.FinishPack(ctx, p.UID, p.Size, nil); err != nil {
			return err
		}
	}
	return nil
}

// work runs a worker until stop is called, which waits for it. It makes room for readers as it does in an installation.
func (r *recovery) work(ctx context.Context) (stop func()) {
	w := worker.New(r.cat, r.fleet, worker.Options{
		Owner: "bench", Bulk: r.fleet.Bulk, ClaimEvery: 5 * time.Millisecond, SaveEvery: 100 * time.Millisecond, TopologyLag: time.Nanosecond,
		Foreground: func(context.Context) ([]store.Process, error) {
			return []store.Process{{Name: "bench", Foreground: r.waits.Latest(time.Now())}}, nil
		},
	})
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = w.Operate(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// operate does one operation, and returns how long it took.
func (r *recovery) operate(ctx context.Context, op store.Operation) (store.Operation, time.Duration, error) {
	defer r.work(ctx)()
	return r.operation(ctx, op)
}

// operation has the worker that runs do an operation.
func (r *recovery) operation(ctx context.Context, op store.Operation) (store.Operation, time.Duration, error) {
	begun := time.Now()
	id, err := r.cat.CreateOperation(ctx, op)
	if err != nil {
		return op, 0, err
	}
	for {
		if op, err = r.cat.Operation(ctx, id); err != nil {
			return op, 0, err
		}
		if op.Error != "" && !op.State.Final() {
			return op, 0, fmt.Errorf("%s is held up: %s", op.Kind, op.Error)
		}
		if op.State.Final() {
			took := time.Since(begun)
			if op.State != store.OpDone || op.Progress.Problems > 0 {
				return op, took, fmt.Errorf("%s: %s, %d problems: %s", op.Kind, op.State, op.Progress.Problems, op.Error)
			}
			return op, took, nil
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return op, 0, err
		}
	}
}

func (r *recovery) packBytes() (n int64) {
	for _, p := range r.disks[1].Packs() {
		n += p.Size
	}
	return n
}

// rebuild fills an empty storage 3 from its siblings over HTTP, and checks that it is all there.
func (r *recovery) rebuild(ctx context.Context) (time.Duration, error) {
	if err := r.serve(ctx, 1, 3); err != nil {
		return 0, err
	}
	if err := r.cat.SetStorageMode(ctx, 3, store.ModeFilling); err != nil {
		return 0, err
	}
	unix.Sync() // what rounds before have deleted is not this one's
	_, took, err := r.operation(ctx, store.Operation{Kind: store.OpRebuild, Storage: 3})
	if err != nil {
		return 0, err
	}
	want, err1 := r.disks[1].Digest(ctx, 0, 1<<64-1)
	got, err2 := r.disks[3].Digest(ctx, 0, 1<<64-1)
	if err := errors.Join(err1, err2); err != nil || got != want {
		return 0, fmt.Errorf("the rebuilt storage holds %+v, its sibling %+v: %w", got, want, err)
	}
	return took, nil
}

// copyPacks is the peer: cp of the packs to the same disk, and a sync.
func (r *recovery) copyPacks(ctx context.Context) (time.Duration, error) {
	dir, err := r.l.mkdir("copy")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	unix.Sync()
	begun := time.Now()
	script := `for f in "$1"/packs/*.tar; do cp "$f" "$2"/ && sync "$2"/$(basename "$f") || exit 1; done`
	out, err := exec.CommandContext(ctx, "sh", "-c", script, "sh", r.disks[1].Dir(), dir).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("cp: %w: %s", err, out)
	}
	return time.Since(begun), nil
}

// oneByOne copies entities as a rebuild without packs would: one at a time, each durable. It returns bytes a second.
func (r *recovery) oneByOne(ctx context.Context, span time.Duration) (float64, error) {
	dir, err := r.l.mkdir("single")
	if err != nil {
		return 0, err
	}
	d, err := disk.Open(dir, disk.Options{StorageID: 9})
	if err != nil {
		return 0, err
	}
	defer d.Close()
	src := r.fleet.Device(&store.Storage{ID: 1, URI: r.uri(ctx, 1)})
	var sum int64
	begun := time.Now()
	for i := 0; time.Since(begun) < span && i < r.n; i++ {
		id := r.first + store.ObjectID(i)
		info, err := src.Stat(ctx, id)
		if err != nil {
			return 0, err
		}
		data, err := src.Get(ctx, id, info.Size, nil)
		if err == nil {
			err = d.Put(ctx, info, data)
		}
		if err != nil {
			return 0, err
		}
		sum += info.Size
	}
	return float64(sum) / time.Since(begun).Seconds(), nil
}

func (r *recovery) uri(ctx context.Context, id store.StorageID) string {
	top, err := r.cat.Topology(ctx)
	if err != nil {
		return ""
	}
	for _, s := range top.Storages {
		if s.ID == id {
			return s.URI
		}
	}
	return ""
}

// gets reads objects from storages 1 and 2 over HTTP, 500 a second, until ctx ends, and returns the p99.
func (r *recovery) gets(ctx context.Context) (time.Duration, error) {
	devices := []store.Device{r.fleet.Device(&store.Storage{ID: 1, URI: r.uri(ctx, 1)}), r.fleet.Device(&store.Storage{ID: 2, URI: r.uri(ctx, 2)})}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var mu sync.Mutex // guards times and failed
	var times []time.Duration
	var failed error
	var all sync.WaitGroup
	for i := 0; ctx.Err() == nil; i++ {
		all.Go(func() {
			id := r.first + store.ObjectID(rand.IntN(r.n))
			begun := time.Now()
			_, err := devices[i%2].Get(context.WithoutCancel(ctx), id, int64(r.size), nil)
			took := time.Since(begun)
			r.waits.Note(took)
			mu.Lock()
			defer mu.Unlock()
			times, failed = append(times, took), errors.Join(failed, err)
		})
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	all.Wait()
	if failed != nil || len(times) == 0 {
		return 0, fmt.Errorf("reads during a rebuild: %w", failed)
	}
	return percentile(times, 0.99), nil
}

// rebuild200k compares the rebuild of a storage with cp.
func rebuild200k(ctx context.Context, l *lab) (rows []Result, err error) {
	n := l.count(rebuildObjects)
	if err := l.needSpace(int64(n) * (rebuildSize + 2048) * 6); err != nil {
		return nil, err
	}
	l.logf("storing %d objects of 10 KB on three storages", n)
	r, err := l.newRecovery(ctx, n, rebuildSize)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	defer r.work(ctx)()
	bytes := r.packBytes()
	speed := func(d time.Duration, err error) (reading, error) {
		return reading{Rate: float64(bytes) / 1e6 / d.Seconds()}, err
	}
	d, err := alternate(ctx, l.opt.rounds,
		func(ctx context.Context, _ int) (reading, error) { return speed(r.rebuild(ctx)) },
		func(ctx context.Context, _ int) (reading, error) { return speed(r.copyPacks(ctx)) })
	if err != nil {
		return nil, err
	}
	single, err := r.oneByOne(ctx, l.span(2*time.Second))
	if err != nil {
		return nil, err
	}
	label := l.reduced(n, rebuildObjects)
	rows = append(rows, Result{
		Name: "rebuild-200k" + label, Target: atLeast(rebuildTarget), Ratio: d.ratio(rateOf), Rounds: d,
		Ours: Figure{median(over(d.Ours, rateOf)), "MB/s"}, Peer: Figure{median(over(d.Peer, rateOf)), "MB/s"},
		Notes: []string{
			fmt.Sprintf("%d objects of 10 KB in packs of %d MB, verified and compared, from two siblings over HTTP, nobody reading; peer: cp of the packs, each synced", n, bytes/1e6),
			fmt.Sprintf("copying one object at a time: %.1f MB/s", single/1e6),
		},
	})
	more, err := r.whileRead(ctx, label, median(over(d.Ours, rateOf)))
	return append(rows, more...), err
}

// whileRead measures how long reads take while a storage is rebuilt, and how fast that goes then.
func (r *recovery) whileRead(ctx context.Context, label string, alone float64) ([]Result, error) {
	idle := func(ctx context.Context, span time.Duration) (time.Duration, error) {
		ctx, stop := context.WithTimeout(ctx, span)
		defer stop()
		return r.gets(ctx)
	}
	if _, err := idle(ctx, 2*quietSpan); err != nil { // so that the worker knows how it is in quiet times
		return nil, err
	}
	during := func(ctx context.Context, _ int) (reading, error) {
		reads, stop := context.WithCancel(ctx)
		var took time.Duration
		var failed error
		go func() {
			defer stop()
			took, failed = r.rebuild(ctx)
		}()
		p99, err := r.gets(reads)
		return reading{Rate: float64(r.packBytes()) / 1e6 / took.Seconds(), P99: micros(p99)}, errors.Join(err, failed)
	}
	gets, err := alternate(ctx, min(r.l.opt.rounds, mostYielding), during, func(ctx context.Context, _ int) (reading, error) {
		p99, err := idle(ctx, quietSpan)
		return reading{P99: micros(p99)}, err
	})
	if err != nil {
		return nil, err
	}
	if err := r.cat.SetSetting(ctx, store.SettingYield, "0"); err != nil {
		return nil, err
	}
	off, err := during(ctx, 0)
	if err = errors.Join(err, r.cat.SetSetting(ctx, store.SettingYield, "")); err != nil {
		return nil, err
	}
	return []Result{{
		Name: "rebuild-200k get p99" + label, Target: atLeast(1 / getsTarget), Ratio: gets.ratio(func(r reading) float64 { return 1 / r.P99 }), Rounds: gets,
		Ours: Figure{median(over(gets.Ours, p99Of)) / 1e3, "ms"}, Peer: Figure{median(over(gets.Peer, p99Of)) / 1e3, "ms"},
		Notes: []string{
			"500 reads a second of 10 KB from the siblings, over HTTP, while storage 3 is rebuilt; peer: the same reads alone; the ratio is that of speeds",
			fmt.Sprintf("the rebuild made room for them: it went at %.0f MB/s, and at %.0f without readers", median(over(gets.Ours, rateOf)), alone),
			fmt.Sprintf("told not to (background.yield 0), once: p99 %.2f ms, the rebuild at %.0f MB/s", off.P99/1e3, off.Rate),
		},
	}}, nil
}
