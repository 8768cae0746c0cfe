package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/catalog"
	"wheelhouse/store/idguard"
)

// Report says what Readopt found and did.
type Report struct {
	Entities  int64 `json:"entities"`  // ids of which storages hold an entity
	Adopted   int64 `json:"adopted"`   // objects made visible
	Replaced  int64 `json:"replaced"`  // of these, such that took the place of an older version
	Older     int64 `json:"older"`     // versions that are to be deleted: a newer one is visible, or a storage says that they were deleted
	Gone      int64 `json:"gone"`      // objects taken out: no storage holds them any more
	Lost      int64 `json:"lost"`      // objects left in although no storage that was asked holds them; fsck tells more
	Moved     int64 `json:"moved"`     // objects that another cluster holds than the catalog said
	Nameless  int64 `json:"nameless"`  // entities that do not say, or cannot say, which object they are of
	Strangers int64 `json:"strangers"` // entities that the catalog should know and does not: remains of unfinished uploads
	// Released says that nothing is fenced any more: all storages were asked, and all answered.
	Released bool    `json:"released"`
	Failed   []error `json:"-"` // storages that failed, or were not there to be asked
}

// Options of Readopt.
type Options struct {
	DryRun bool // change nothing
	// Progress, if set, is told now and then how many entities were looked at.
	Progress func(entities int64)
}

// Readopt brings a catalog that is older than what storages hold up to them. Entities with ids that are fenced become objects again, of
// each name the version that was created last; what the catalog knows and no storage holds any more was deleted later and is taken out, where that can
// be told from loss. It may be repeated, and goes on where it was broken off. Memory: some bytes for each object that is gone.
func Readopt(ctx context.Context, c *catalog.SQLite, list []Storage, o Options) (Report, error) {
	r := &readopter{c: c, list: list, o: o}
	if err := r.prepare(ctx); err != nil {
		return r.report, err
	}
	failed, err := walk(ctx, list, 1, idguard.Beyond, false, func(h held) (bool, error) { return true, r.entity(ctx, h) })
	if err == nil {
		err = r.finish(ctx, failed)
	}
	return r.report, err
}

// adoptBatch is how many objects share a transaction.
const adoptBatch = 2048

type readopter struct {
	c      *catalog.SQLite
	list   []Storage
	o      Options
	report Report

	top     *store.Topology
	cluster []store.ClusterID // of each of list
	whole   map[store.ClusterID]bool
	fenced  []store.Lease
	known   knownCursor
	batch   []catalog.Found
	moved   []catalog.Known
	gone    []catalog.Known           // not held by any storage
	held    map[store.ClusterID]int64 // ids of which a storage of the cluster holds an entity
}

func (r *readopter) prepare(ctx context.Context) (err error) {
	if r.top, err = r.c.Topology(ctx); err != nil {
		return err
	}
	if r.fenced, err = r.fence(ctx); err != nil {
		return err
	}
	r.known.c = r.c
	r.whole, r.held = map[store.ClusterID]bool{}, map[store.ClusterID]int64{}
	for _, k := range r.top.Clusters {
		r.whole[k.ID] = true
	}
	asked := map[store.StorageID]bool{}
	for _, s := range r.list {
		i := slices.IndexFunc(r.top.Storages, func(t store.Storage) bool { return t.ID == s.ID })
		if i < 0 {
			return fmt.Errorf("%w: id %d", store.ErrNoStorage, s.ID)
		}
		r.cluster = append(r.cluster, r.top.Storages[i].Cluster)
		asked[s.ID] = true
	}
	for _, s := range r.top.Storages {
		if !asked[s.ID] && s.Mode != store.ModeDead {
			r.whole[s.Cluster] = false
			r.report.Failed = append(r.report.Failed, fmt.Errorf("storage %d was not asked", s.ID))
		}
	}
	return nil
}

// fence gives the ids of which objects may be adopted. A catalog that was put back from a copy, and of which nobody knows that yet, is
// found out here.
func (r *readopter) fence(ctx context.Context) ([]store.Lease, error) {
	if !r.o.DryRun {
		_, err := idguard.New(r.c, devices(r.list), slog.New(slog.DiscardHandler)).Settled(ctx)
		if err != nil && !errors.Is(err, store.ErrNoWritable) {
			return nil, err
		}
		return r.c.Fenced(ctx)
	}
	next, err := r.c.NextID(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range r.list {
		if last, err := Largest(ctx, s); err != nil || last < next {
			continue // of one that fails more is said later
		}
		all, err := r.c.Leases(ctx, time.Now().AddDate(1, 0, 0), math.MaxInt32)
		slices.SortFunc(all, func(a, b store.Lease) int { return cmp.Compare(a.First, b.First) })
		return append(all, store.Lease{First: next, N: int(idguard.Beyond - next)}), err
	}
	return r.c.Fenced(ctx)
}

// devices are storages as a Guard wants them.
type devices []Storage

// Device gives a storage that was not found as one that does not answer.
func (d devices) Device(s *store.Storage) store.Device {
	for _, k := range d {
		if k.ID == s.ID {
			return k.Device
		}
	}
	return absent{}
}

type absent struct{ store.Device }

func (absent) Manifest(context.Context, store.ObjectID, store.ObjectID, int) ([]store.ManifestEntry, error) {
	return nil, store.ErrAbsent
}

// entity looks at one id that storages hold.
func (r *readopter) entity(ctx context.Context, h held) error {
	r.report.Entities++
	if r.o.Progress != nil && r.report.Entities%page == 0 {
		r.o.Progress(r.report.Entities)
	}
	if err := r.unheld(ctx, h.id); err != nil {
		return err
	}
	r.held[r.clusterOf(h)]++
	k, ok, err := r.known.at(ctx, h.id)
	if err != nil {
		return err
	}
	if ok {
		if !k.Deleted {
			r.heldVisible(h, k)
		}
		return nil
	}
	if !r.isFenced(h.id) {
		r.report.Strangers++
		return nil
	}
	return r.adopt(ctx, h)
}

// heldVisible looks at a visible object that storages hold: those of its cluster, or of another.
func (r *readopter) heldVisible(h held, k catalog.Known) {
	for _, i := range h.by {
		if r.cluster[i] == k.Cluster {
			return
		}
	}
	r.moved = append(r.moved, catalog.Known{ID: k.ID, Cluster: r.clusterOf(h)})
}

// clusterOf is the cluster of which most storages hold an entity.
func (r *readopter) clusterOf(h held) (most store.ClusterID) {
	if first := r.cluster[h.by[0]]; !slices.ContainsFunc(h.by, func(i int) bool { return r.cluster[i] != first }) {
		return first // as a rule
	}
	n := map[store.ClusterID]int{}
	for _, i := range h.by {
		k := r.cluster[i]
		if n[k]++; n[k] > n[most] || n[k] == n[most] && k < most {
			most = k
		}
	}
	return most
}

func (r *readopter) isFenced(id store.ObjectID) bool {
	i, ok := slices.BinarySearchFunc(r.fenced, id, func(l store.Lease, id store.ObjectID) int {
		switch {
		case id < l.First:
			return 1
		case id >= l.First+store.ObjectID(l.N):
			return -1
		}
		return 0
	})
	return ok && i < len(r.fenced)
}

// unheld collects the visible objects below an id that the cursor has not passed: no storage holds them.
func (r *readopter) unheld(ctx context.Context, below store.ObjectID) error {
	for {
		k, ok, err := r.known.head(ctx)
		if err != nil || !ok || k.ID >= below {
			return err
		}
		if !k.Deleted {
			r.gone = append(r.gone, k)
		}
		r.known.pass()
	}
}

// adopt puts an entity's object into the batch.
func (r *readopter) adopt(ctx context.Context, h held) error {
	info, err := describe(ctx, r.list, h)
	if errors.Is(err, store.ErrNoEntity) {
		r.report.Nameless++
		return nil
	}
	if err != nil {
		return err
	}
	f := catalog.Found{Bucket: info.Bucket, Object: store.Object{
		ID: h.id, Name: info.Name, Cluster: r.clusterOf(h), Size: info.Size, ETag: info.ETag, ContentType: info.ContentType, Created: info.Created,
	}}
	for i, s := range r.list {
		if r.cluster[i] != f.Object.Cluster || slices.Contains(h.by, i) {
			continue
		}
		if d, ok := s.Device.(deletions); ok && d.WasDeleted(h.id) {
			f.Deleted = true
		}
		f.Object.Missing = append(f.Object.Missing, s.ID)
	}
	if r.batch = append(r.batch, f); len(r.batch) < adoptBatch {
		return nil
	}
	return r.flush(ctx)
}

// flush adopts the batch.
func (r *readopter) flush(ctx context.Context) error {
	if len(r.batch) == 0 {
		return nil
	}
	defer func() { r.batch = r.batch[:0] }()
	if r.o.DryRun {
		r.report.Adopted += int64(len(r.batch))
		return nil
	}
	did, err := r.c.Adopt(ctx, r.batch, func(a, b store.ObjectID) bool { return r.later(ctx, a, b) })
	if err != nil {
		return err
	}
	for _, d := range did {
		switch d {
		case catalog.AdoptReplaced:
			r.report.Replaced++
			r.report.Adopted++
		case catalog.AdoptVisible:
			r.report.Adopted++
		case catalog.AdoptDeleted:
			r.report.Older++
		}
	}
	return nil
}

// later reports whether a version was stored after another that was created in the same second. A storage that holds both knows best: its own
// clock never goes back.
func (r *readopter) later(ctx context.Context, a, b store.ObjectID) bool {
	for _, s := range r.list {
		x, err1 := s.Device.Stat(ctx, a)
		y, err2 := s.Device.Stat(ctx, b)
		if err1 == nil && err2 == nil && !x.Stored.Equal(y.Stored) {
			return x.Stored.After(y.Stored)
		}
	}
	return a > b
}

// finish does what can be done only when all entities have been seen.
func (r *readopter) finish(ctx context.Context, failed []error) error {
	if err := r.unheld(ctx, idguard.Beyond); err != nil {
		return err
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	for i, err := range failed {
		if err != nil {
			r.whole[r.cluster[i]] = false
			r.report.Failed = append(r.report.Failed, fmt.Errorf("storage %d: %w", r.list[i].ID, err))
		}
	}
	r.report.Moved = int64(len(r.moved))
	if !r.o.DryRun {
		if err := inBatches(r.moved, func(list []catalog.Known) error { return r.c.Relocate(ctx, list) }); err != nil {
			return err
		}
	}
	if err := r.takeOut(ctx); err != nil {
		return err
	}
	r.report.Released = len(r.report.Failed) == 0 && !r.o.DryRun
	if !r.report.Released {
		return nil
	}
	return r.c.Unfence(ctx)
}

// takeOut removes the objects that were deleted since: those that a storage says it has deleted, and those that are on no storage of a cluster
// that was asked as a whole and holds at least as many others. The others may come back with a storage.
func (r *readopter) takeOut(ctx context.Context) error {
	candidates := map[store.ClusterID]int64{}
	visible := r.gone[:0]
	for _, k := range r.gone {
		_, err := r.c.ObjectByID(ctx, k.ID)
		if errors.Is(err, store.ErrNoObject) {
			continue // a newer version has been adopted
		}
		if err != nil {
			return err
		}
		candidates[k.Cluster]++
		visible = append(visible, k)
	}
	out := visible[:0]
	for _, k := range visible {
		if r.whole[k.Cluster] && candidates[k.Cluster] <= r.held[k.Cluster] || r.wasDeleted(k) {
			out = append(out, k)
		} else {
			r.report.Lost++
		}
	}
	if r.o.DryRun {
		r.report.Gone = int64(len(out))
		return nil
	}
	return inBatches(out, func(list []catalog.Known) error {
		ids := make([]store.ObjectID, len(list))
		for i, k := range list {
			ids[i] = k.ID
		}
		n, err := r.c.Forget(ctx, ids)
		r.report.Gone += int64(n)
		return err
	})
}

func (r *readopter) wasDeleted(k catalog.Known) bool {
	for i, s := range r.list {
		if d, ok := s.Device.(deletions); ok && r.cluster[i] == k.Cluster && d.WasDeleted(k.ID) {
			return true
		}
	}
	return false
}

func inBatches(list []catalog.Known, f func([]catalog.Known) error) error {
	for part := range slices.Chunk(list, adoptBatch) {
		if err := f(part); err != nil {
			return err
		}
	}
	return nil
}

// knownCursor walks through the ids that a catalog knows.
type knownCursor struct {
	c    *catalog.SQLite
	next store.ObjectID
	buf  []catalog.Known
	done bool
}

func (k *knownCursor) head(ctx context.Context) (catalog.Known, bool, error) {
	if len(k.buf) == 0 && !k.done {
		var err error
		if k.buf, err = k.c.KnownIDs(ctx, k.next, page); err != nil {
			return catalog.Known{}, false, err
		}
		if k.done = len(k.buf) == 0; !k.done {
			k.next = k.buf[len(k.buf)-1].ID + 1
		}
	}
	if len(k.buf) == 0 {
		return catalog.Known{}, false, nil
	}
	return k.buf[0], true, nil
}

func (k *knownCursor) pass() { k.buf = k.buf[1:] }

// at gives an id if it is known, and passes it. Ids below must have been passed.
func (k *knownCursor) at(ctx context.Context, id store.ObjectID) (catalog.Known, bool, error) {
	h, ok, err := k.head(ctx)
	if err != nil || !ok || h.ID != id {
		return catalog.Known{}, false, err
	}
	k.pass()
	return h, true, nil
}
