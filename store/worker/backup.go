package worker

import (
	"compress/gzip"
	"context"
	"crypto/md5"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/placement"
)

// Snapshots are copies of the catalog as it was at one moment.
type Snapshots interface {
	// Backup writes a copy of the catalog as it is now to a new file.
	Backup(ctx context.Context, path string) error
}

const (
	// backupLease is how long a worker that makes a backup may take before another one tries. Renewing it is not worth while: two
	// backups at once do no harm.
	backupLease = 15 * time.Minute
	// backupRetry is the time until another try after one that failed.
	backupRetry = time.Minute
	// backupDurable is how many entities of a backup must be durable, where there are so many storages.
	backupDurable = 2
	// backupTemp is what the names of temporary copies begin with.
	backupTemp = "catalog-backup-"
)

// backups makes a backup of the catalog whenever one is due, until ctx ends. It is a loop of its own since a backup of a large
// catalog takes minutes, in which the rounds must go on.
func (w *Worker) backups(ctx context.Context) {
	tick := time.NewTicker(w.opt.Interval)
	defer tick.Stop()
	for {
		if err := w.backupIfDue(ctx); err != nil && ctx.Err() == nil {
			w.metrics.Failures.Add(1)
			w.opt.Log.Error("the catalog was not backed up", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *Worker) backupIfDue(ctx context.Context) error {
	due, err := w.cat.ClaimBackup(ctx, max(0, w.opt.BackupEvery), backupLease)
	if err != nil || !due {
		return err
	}
	begun := w.opt.Now()
	o, err := w.backup(ctx, begun)
	if err != nil {
		// The lease would do, but it is long.
		again := w.cat.ScheduleBackup(context.WithoutCancel(ctx), w.opt.Now().Add(backupRetry))
		return errors.Join(err, again)
	}
	w.metrics.Backups.Add(1)
	w.opt.Log.Info("the catalog was backed up", "object", o.Name, "bytes", o.Size, "dur", w.opt.Now().Sub(begun))
	next := time.Time{}
	if w.opt.BackupEvery > 0 {
		next = begun.Add(w.opt.BackupEvery)
	}
	return errors.Join(w.cat.ScheduleBackup(ctx, next), w.thinBackups(ctx))
}

// backup copies the catalog and stores the copy, compressed, as an object.
func (w *Worker) backup(ctx context.Context, at time.Time) (store.Object, error) {
	w.clearBackupDir(at)
	path := filepath.Join(w.opt.BackupDir, backupTemp+rand.Text())
	defer os.Remove(path)
	if err := w.opt.Snapshots.Backup(ctx, path); err != nil {
		return store.Object{}, err
	}
	b, err := w.cat.Bucket(ctx, store.CatalogBucket)
	if errors.Is(err, store.ErrNoBucket) {
		b, err = w.cat.CreateBucket(ctx, store.Bucket{Name: store.CatalogBucket})
		if errors.Is(err, store.ErrExists) {
			err = nil
		}
	}
	if err != nil {
		return store.Object{}, err
	}
	o, written, err := w.storeBackup(ctx, b, at, path)
	if err != nil {
		return o, err
	}
	_, err = w.cat.Commit(ctx, store.Commit{Object: o, Written: &written})
	return o, err
}

// clearBackupDir removes copies that a crash has left behind.
func (w *Worker) clearBackupDir(now time.Time) {
	names, err := os.ReadDir(w.opt.BackupDir)
	if err != nil {
		return // the copy will fail too, and say why
	}
	for _, e := range names {
		if !strings.HasPrefix(e.Name(), backupTemp) {
			continue
		}
		if st, err := e.Info(); err == nil && now.Sub(st.ModTime()) > 24*time.Hour {
			_ = os.Remove(filepath.Join(w.opt.BackupDir, e.Name())) // the next time, then
		}
	}
}

// storeBackup writes the entities of a backup, to the first cluster that takes it.
func (w *Worker) storeBackup(ctx context.Context, b store.Bucket, at time.Time, path string) (o store.Object, written store.Written, err error) {
	top, err := w.cat.Topology(ctx)
	if err != nil {
		return o, written, err
	}
	written.Topology = top.Version
	st, err := os.Stat(path)
	if err != nil {
		return o, written, err
	}
	const owner = "backup of the catalog"
	// An id for each try: what a failed one leaves behind is unknown to the catalog, and is swept away.
	first, err := w.guard.LeaseIDs(ctx, owner, max(1, len(top.Clusters)))
	if err != nil {
		return o, written, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	defer renewing.Wait()
	defer cancel()
	renewing.Go(func() { w.renew(ctx, owner, first) })

	clusters := placement.Clusters(top, nil, first, placement.Need{Durable: backupDurable, Size: st.Size()})
	for _, k := range placement.Clusters(top, nil, first, placement.Need{Durable: 1, Size: st.Size()}) {
		if !slices.Contains(clusters, k) { // better there than nowhere
			clusters = append(clusters, k)
		}
	}
	problems := []error{store.ErrNoWritable}
	for i, k := range clusters {
		o = store.Object{
			ID: first + store.ObjectID(i), Bucket: b.ID, Name: store.BackupName(at), Cluster: k, ContentType: store.BackupType, Created: at.Truncate(time.Second),
		}
		if written.On, err = w.writeBackup(ctx, top, &o, path); err == nil {
			return o, written, nil
		}
		problems = append(problems, fmt.Errorf("cluster %d: %w", k, err))
	}
	return store.Object{}, written, errors.Join(problems...)
}

// renew keeps a leased id from being taken for abandoned until ctx ends.
func (w *Worker) renew(ctx context.Context, owner string, first store.ObjectID) {
	tick := time.NewTicker(max(w.opt.Grace/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := w.cat.RenewLeases(ctx, owner, []store.ObjectID{first}); err != nil && ctx.Err() == nil {
				w.opt.Log.Warn("object ids could not be renewed", "err", err)
			}
		}
	}
}

// copies are the entities of one object, being written to several storages at once. One that fails is left out.
type copies struct {
	list []*backupCopy
}

type backupCopy struct {
	id  store.StorageID
	w   store.EntityWriter
	err error
}

func (c *copies) Write(p []byte) (int, error) {
	alive := 0
	for _, k := range c.list {
		if k.err == nil {
			_, k.err = k.w.Write(p)
		}
		if k.err == nil {
			alive++
		}
	}
	if alive == 0 {
		return 0, c.failure()
	}
	return len(p), nil
}

func (c *copies) failure() error {
	errs := []error{errors.New("no storage took it")}
	for _, k := range c.list {
		if k.err != nil {
			errs = append(errs, fmt.Errorf("storage %d: %w", k.id, k.err))
		}
	}
	return errors.Join(errs...)
}

// writeBackup compresses a file onto the storages of o's cluster, fills in what is known then, and returns
// who has it.
func (w *Worker) writeBackup(ctx context.Context, top *store.Topology, o *store.Object, path string) (on []store.StorageID, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info := store.EntityInfo{
		ID: o.ID, Size: -1, Bucket: store.CatalogBucket, Name: o.Name, ContentType: o.ContentType, Created: o.Created,
	}
	var out copies
	living := 0
	for i := range top.Storages {
		s := &top.Storages[i]
		if s.Cluster != o.Cluster || s.Mode == store.ModeDead {
			continue
		}
		living++
		k := &backupCopy{id: s.ID, err: store.ErrReadOnly}
		if s.Mode.Writable() {
			if k.w, k.err = w.devices.Device(s).Create(ctx, info); k.err == nil {
				defer k.w.Abort()
			}
		}
		out.list = append(out.list, k)
	}
	sum := md5.New()
	count := &counter{}
	zip, err := gzip.NewWriterLevel(io.MultiWriter(&out, sum, count), gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyBuffer(onlyWriter{zip}, onlyReader{f}, make([]byte, 256<<10)); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	o.Size, o.ETag = count.n, [16]byte(sum.Sum(nil))
	for _, k := range out.list {
		if k.err == nil {
			k.err = k.w.Commit(ctx, o.ETag)
		}
		if k.err == nil {
			on = append(on, k.id)
		}
	}
	if len(on) < min(backupDurable, living) {
		return nil, out.failure()
	}
	return on, nil
}

// counter counts what is written to it.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// thinBackups deletes the oldest backups beyond those that are kept.
func (w *Worker) thinBackups(ctx context.Context) error {
	const most = 100_000
	b, err := w.cat.Bucket(ctx, store.CatalogBucket)
	if err != nil {
		return err
	}
	var names []string // in order of time
	err = w.cat.Scan(ctx, b.ID, "", most, func(o *store.Object) bool {
		if _, ok := store.ParseBackupName(o.Name); ok {
			names = append(names, o.Name)
		}
		return true
	})
	if err != nil {
		return err
	}
	for len(names) > w.opt.BackupKeep {
		if _, err := w.cat.Delete(ctx, b.ID, names[0], store.Condition{}); err != nil && !errors.Is(err, store.ErrNoObject) {
			return err
		}
		names = names[1:]
	}
	return nil
}
