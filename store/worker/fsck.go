package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"wheelhouse/store"
)

// FsckOptions are the options of an operation of kind [store.OpFsck].
type FsckOptions struct {
	Fix bool `json:"fix,omitempty"`
}

// fsckCursor is where a comparison stands: the next block of each storage, and the next name where a bucket is compared.
type fsckCursor struct {
	Block map[store.StorageID]uint64 `json:"block,omitempty"`
	Name  string                     `json:"name,omitempty"`
}

// fsckAnswer is how long a storage may take to answer before it counts as unreachable. Nobody waits for it longer.
const fsckAnswer = time.Minute

// checking is one comparison.
type checking struct {
	w   *Worker
	r   *Running
	fix bool
	top *store.Topology

	mu   sync.Mutex // guards what follows
	cur  fsckCursor
	lost map[store.ObjectID]bool // reported already
}

// fsck compares the catalog with what storages hold.
func (w *Worker) fsck(ctx context.Context, r *Running) error {
	op := r.Operation()
	var opt FsckOptions
	c := &checking{w: w, r: r, lost: map[store.ObjectID]bool{}}
	if err := errors.Join(r.Options(&opt), r.Cursor(&c.cur)); err != nil {
		return err
	}
	c.fix = opt.Fix
	if c.cur.Block == nil {
		c.cur.Block = map[store.StorageID]uint64{}
	}
	var err error
	if c.top, err = w.cat.Topology(ctx); err != nil {
		return err
	}
	if op.Bucket != "" {
		return c.bucket(ctx, op.Bucket)
	}
	storages := c.storages(op)
	return together(ctx, len(storages), func(ctx context.Context, i int) error { return c.storage(ctx, storages[i]) })
}

// storages are those that are to be compared.
func (c *checking) storages(op store.Operation) (list []*store.Storage) {
	for i := range c.top.Storages {
		s := &c.top.Storages[i]
		if op.Storage != 0 && s.ID != op.Storage || op.Cluster != 0 && s.Cluster != op.Cluster {
			continue
		}
		switch s.Mode {
		case store.ModeDead, store.ModeFilling: // nothing is expected of them
		case store.ModeDown:
			c.unreachable(s, errors.New("it is down"))
		default:
			list = append(list, s)
			c.r.WorksWith(s.ID)
		}
	}
	return list
}

func (c *checking) unreachable(s *store.Storage, err error) {
	c.r.Problem(store.OperationProblem{Kind: store.ProblemUnreachable, Storage: s.ID, Reason: err.Error()})
}

// storage compares one storage with the catalog, and its checksums with those of a sibling.
func (c *checking) storage(ctx context.Context, s *store.Storage) error {
	expected, err := c.w.cat.IDDigests(ctx, s.Cluster)
	if err != nil {
		return err
	}
	held, err := c.digests(ctx, s)
	if err != nil {
		if ctx.Err() == nil {
			c.unreachable(s, err)
		}
		return ctx.Err()
	}
	var sum int64
	for _, d := range expected {
		sum += d.Count
	}
	c.r.AddTotal(sum, 0)
	c.mu.Lock()
	from := c.cur.Block[s.ID]
	c.mu.Unlock()
	var differ []uint64
	var same int64
	pairBlocks(expected, held, func(n uint64, x, y *store.BlockDigest) {
		switch {
		case n < from: // compared before
		case x.Same(y):
			same += x.Count
		default:
			differ = append(differ, n)
		}
	})
	c.r.Done(same, 0)
	for _, n := range differ {
		if err := c.block(ctx, s, n); err != nil {
			if ctx.Err() != nil || !errors.Is(err, errAnswer) {
				return err
			}
			c.unreachable(s, err)
			return nil
		}
		c.passed(s.ID, n+1)
	}
	if err := c.checksums(ctx, s, held); err != nil {
		return err
	}
	c.passed(s.ID, 1<<63)
	return nil
}

// errAnswer marks what a storage failed to answer, as opposed to the catalog.
var errAnswer = errors.New("worker: storage does not answer")

func answerError(s *store.Storage, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: storage %d: %w", errAnswer, s.ID, err)
}

func (c *checking) digests(ctx context.Context, s *store.Storage) ([]store.BlockDigest, error) {
	ctx, cancel := context.WithTimeout(ctx, fsckAnswer)
	defer cancel()
	b, err := c.w.opt.Bulk(s)
	if err != nil {
		return nil, err
	}
	return b.BlockDigests(ctx, 0, 1<<64-1)
}

func (c *checking) passed(id store.StorageID, block uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cur.Block[id] = block
	c.r.Checkpoint(c.cur)
}

// block finds out what differs between a storage and the catalog in one block of ids.
func (c *checking) block(ctx context.Context, s *store.Storage, n uint64) error {
	first := store.ObjectID(n * store.DigestBlock)
	objects, err := c.w.cat.ObjectsByID(ctx, s.Cluster, first, first+store.DigestBlock, store.DigestBlock)
	if err != nil {
		return err
	}
	deleted, err := c.w.cat.DeletedByID(ctx, s.Cluster, first, first+store.DigestBlock, store.DigestBlock)
	if err != nil {
		return err
	}
	answer, cancel := context.WithTimeout(ctx, fsckAnswer)
	held, err := c.w.manifest(answer, s, n)
	cancel()
	if err != nil {
		return answerError(s, err)
	}
	expected := make([]store.ManifestEntry, len(objects))
	for i, o := range objects {
		expected[i] = store.ManifestEntry{ID: o.ID, Size: o.Size}
	}
	var missing, wrong, extra []store.ObjectID
	pairEntries(expected, held, func(x, y *store.ManifestEntry) {
		switch {
		case y == nil:
			missing = append(missing, x.ID)
		case x == nil:
			_, gone := slices.BinarySearchFunc(deleted, y.ID, func(o store.Object, id store.ObjectID) int { return int(int64(o.ID) - int64(id)) })
			if !gone {
				extra = append(extra, y.ID)
			}
		case x.Size != y.Size:
			wrong = append(wrong, x.ID)
		}
	})
	if err := errors.Join(c.missing(ctx, s, missing, objects), c.wrong(ctx, s, wrong), c.extra(ctx, s, extra)); err != nil {
		return err
	}
	return c.r.Pace(ctx, int64(len(objects)), 0)
}

// again asks a storage what it has of ids now: much may have happened since the lists were made.
func (c *checking) again(ctx context.Context, s *store.Storage, ids []store.ObjectID) (map[store.ObjectID]store.ManifestEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, fsckAnswer)
	defer cancel()
	b, err := c.w.opt.Bulk(s)
	if err != nil {
		return nil, answerError(s, err)
	}
	have := map[store.ObjectID]store.ManifestEntry{}
	for part := range slices.Chunk(ids, store.MaxEntities) {
		list, err := b.Entities(ctx, part)
		if err != nil {
			return nil, answerError(s, err)
		}
		for _, e := range list {
			have[e.ID] = e
		}
	}
	return have, nil
}

// missing deals with objects that a storage should hold and does not. What the catalog knows to be owed is none of them.
func (c *checking) missing(ctx context.Context, s *store.Storage, ids []store.ObjectID, objects []store.Object) error {
	owed := map[store.ObjectID]bool{}
	for _, o := range objects {
		if slices.Contains(o.Missing, s.ID) {
			owed[o.ID] = true
		}
	}
	ids = slices.DeleteFunc(ids, func(id store.ObjectID) bool { return owed[id] })
	if len(ids) == 0 {
		return nil
	}
	have, err := c.again(ctx, s, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, ok := have[id]; ok {
			continue
		}
		o, err := c.w.cat.ObjectByID(ctx, id)
		if errors.Is(err, store.ErrNoObject) || err == nil && (o.Cluster != s.Cluster || slices.Contains(o.Missing, s.ID)) {
			continue
		}
		if err != nil {
			return err
		}
		p := c.describe(ctx, store.OperationProblem{Kind: store.ProblemMissing, Object: id, Storage: s.ID}, &o)
		left, err := c.siblingsWith(ctx, &o, s.ID)
		switch {
		case err != nil:
			p.Reason = "whether a sibling has it is not known: " + err.Error()
		case left == 0:
			if !c.firstLoss(id) {
				continue
			}
			p.Kind, p.Storage, p.Reason = store.ProblemLost, 0, "no storage of its cluster holds it"
		case c.fix:
			if err := c.w.cat.AddMissing(ctx, id, []store.StorageID{s.ID}); err != nil && !errors.Is(err, store.ErrNoObject) {
				return err
			}
			p.Fixed = true
		}
		c.r.Problem(p)
	}
	return nil
}

func (c *checking) firstLoss(id store.ObjectID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !c.lost[id]
	c.lost[id] = true
	return first
}

// siblingsWith counts the other storages that hold an object in its size. With an error, one that could not be asked may.
func (c *checking) siblingsWith(ctx context.Context, o *store.Object, except store.StorageID) (n int, err error) {
	for i := range c.top.Storages {
		s := &c.top.Storages[i]
		if s.Cluster != o.Cluster || s.ID == except || s.Mode == store.ModeDead {
			continue
		}
		have, askErr := c.again(ctx, s, []store.ObjectID{o.ID})
		if askErr != nil {
			err = askErr
		} else if e, ok := have[o.ID]; ok && e.Size == o.Size {
			n++
		}
	}
	if n > 0 {
		err = nil
	}
	return n, err
}

func (c *checking) describe(ctx context.Context, p store.OperationProblem, o *store.Object) store.OperationProblem {
	p.Name = o.Name
	if b, err := c.w.cat.BucketByID(ctx, o.Bucket); err == nil {
		p.Bucket = b.Name
	}
	return p
}

// wrong deals with entities that are of another size than the catalog says.
func (c *checking) wrong(ctx context.Context, s *store.Storage, ids []store.ObjectID) error {
	if len(ids) == 0 {
		return nil
	}
	have, err := c.again(ctx, s, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		o, err := c.w.cat.ObjectByID(ctx, id)
		e, there := have[id]
		if errors.Is(err, store.ErrNoObject) || err == nil && (o.Cluster != s.Cluster || there && e.Size == o.Size) {
			continue
		}
		if err != nil {
			return err
		}
		if err := c.repair(ctx, s, &o, fmt.Sprintf("%d bytes instead of %d", e.Size, o.Size)); err != nil {
			return err
		}
	}
	return nil
}

// repair reports a bad entity, and has it replaced.
func (c *checking) repair(ctx context.Context, s *store.Storage, o *store.Object, reason string) error {
	p := c.describe(ctx, store.OperationProblem{Kind: store.ProblemCorrupt, Object: o.ID, Storage: s.ID, Reason: reason}, o)
	if c.fix {
		// Whose bytes are the right ones only all of them tell.
		if err := c.w.mended(ctx, &p, func() error { return c.w.repair(ctx, o.ID) }); err != nil {
			return err
		}
	}
	c.r.Problem(p)
	return nil
}

// extra deals with entities that belong to no object of the storage's cluster. Uploads under way are left alone, for as long as
// the ids of their process are leased.
func (c *checking) extra(ctx context.Context, s *store.Storage, ids []store.ObjectID) error {
	if len(ids) == 0 {
		return nil
	}
	orphans, err := c.w.orphans(ctx, ids)
	if err != nil {
		return err
	}
	reason := map[store.ObjectID]string{}
	for _, id := range orphans {
		reason[id] = "no object has this id"
	}
	for _, id := range ids {
		o, err := c.w.cat.ObjectByID(ctx, id)
		if errors.Is(err, store.ErrNoObject) || err == nil && o.Cluster == s.Cluster {
			continue
		}
		if err != nil {
			return err
		}
		if n, err := c.siblingsWith(ctx, &o, 0); err == nil && n > 0 {
			reason[id] = fmt.Sprintf("the object is in cluster %d", o.Cluster)
		}
	}
	have, err := c.again(ctx, s, ids)
	if err != nil {
		return err
	}
	var gone []store.ObjectID
	var found []store.OperationProblem
	for _, id := range ids {
		if _, there := have[id]; there && reason[id] != "" {
			gone = append(gone, id)
			found = append(found, store.OperationProblem{Kind: store.ProblemExtra, Object: id, Storage: s.ID, Reason: reason[id], Fixed: c.fix})
		}
	}
	if c.fix && len(gone) > 0 {
		if err := c.w.devices.Device(s).Delete(ctx, gone); err != nil {
			return answerError(s, err)
		}
		c.w.metrics.Orphans.Add(int64(len(gone)))
	}
	for _, p := range found {
		c.r.Problem(p)
	}
	return nil
}

// checksums compares a storage with the first other one of its cluster that answers: both may take their own bytes for good.
func (c *checking) checksums(ctx context.Context, s *store.Storage, held []store.BlockDigest) error {
	for i := range c.top.Storages {
		o := &c.top.Storages[i]
		if o.Cluster != s.Cluster || o.ID >= s.ID || !o.Mode.Readable() { // each pair once
			continue
		}
		others, err := c.digests(ctx, o)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue // it reports itself
		}
		var differ []uint64
		pairBlocks(held, others, func(n uint64, x, y *store.BlockDigest) {
			if x.CRC != y.CRC {
				differ = append(differ, n)
			}
		})
		for _, n := range differ {
			if err := c.crcs(ctx, s, o, n); err != nil {
				return err
			}
		}
		return nil
	}
	return nil
}

func (c *checking) crcs(ctx context.Context, s, o *store.Storage, n uint64) error {
	a, err1 := c.w.manifest(ctx, s, n)
	b, err2 := c.w.manifest(ctx, o, n)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	var ids []store.ObjectID
	pairEntries(a, b, func(x, y *store.ManifestEntry) {
		if x != nil && y != nil && x.Size == y.Size && x.CRC != y.CRC && x.CRC != 0 && y.CRC != 0 {
			ids = append(ids, x.ID)
		}
	})
	for _, id := range ids {
		obj, err := c.w.cat.ObjectByID(ctx, id)
		if errors.Is(err, store.ErrNoObject) {
			continue
		}
		if err != nil {
			return err
		}
		if err := c.repair(ctx, s, &obj, fmt.Sprintf("its checksum differs from that on storage %d", o.ID)); err != nil {
			return err
		}
	}
	return nil
}

// bucket compares the objects of one bucket, by name. What is on storages and in no bucket is not to be found this way.
func (c *checking) bucket(ctx context.Context, name string) error {
	b, err := c.w.cat.Bucket(ctx, name)
	if errors.Is(err, store.ErrNoBucket) {
		return Impossible(err)
	}
	if err != nil {
		return err
	}
	const page = 1024
	away := map[store.StorageID]bool{}
	for {
		byCluster := map[store.ClusterID][]store.Object{}
		n, last := 0, ""
		err := c.w.cat.Scan(ctx, b.ID, c.cur.Name, page, func(o *store.Object) bool {
			byCluster[o.Cluster] = append(byCluster[o.Cluster], *o)
			n, last = n+1, o.Name
			return true
		})
		if err != nil {
			return err
		}
		for cluster, objects := range byCluster {
			for i := range c.top.Storages {
				s := &c.top.Storages[i]
				if s.Cluster != cluster || s.Mode == store.ModeDead || s.Mode == store.ModeFilling || away[s.ID] {
					continue
				}
				err := c.objects(ctx, s, objects)
				if errors.Is(err, errAnswer) && ctx.Err() == nil {
					away[s.ID] = true
					c.unreachable(s, err)
				} else if err != nil {
					return err
				}
			}
		}
		if err := c.r.Pace(ctx, int64(n), 0); err != nil {
			return err
		}
		if n < page {
			return nil
		}
		c.cur.Name = last + "\x00" // the next name in byte order
		c.r.Checkpoint(c.cur)
	}
}

// objects compares some objects with what a storage has of them.
func (c *checking) objects(ctx context.Context, s *store.Storage, objects []store.Object) error {
	ids := make([]store.ObjectID, len(objects))
	for i, o := range objects {
		ids[i] = o.ID
	}
	have, err := c.again(ctx, s, ids)
	if err != nil {
		return err
	}
	var missing, wrong []store.ObjectID
	for _, o := range objects {
		if e, ok := have[o.ID]; !ok {
			missing = append(missing, o.ID)
		} else if e.Size != o.Size {
			wrong = append(wrong, o.ID)
		}
	}
	return errors.Join(c.missing(ctx, s, missing, objects), c.wrong(ctx, s, wrong))
}
