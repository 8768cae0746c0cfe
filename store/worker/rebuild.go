package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"wheelhouse/store"
)

// RebuildOptions are the options of an operation of kind [store.OpRebuild].
type RebuildOptions struct {
	From store.StorageID `json:"from,omitempty"` // the only sibling to read from; 0: all that can be read
}

// rebuildCursor is where a rebuild stands. Within the packs it need not say: the storage knows what it has of each.
type rebuildCursor struct {
	Phase int            `json:"phase"`
	From  store.ObjectID `json:"from,omitempty"` // files: the next id
}

// The phases of a rebuild, in order.
const (
	phasePacks   = iota // packs of the siblings, taken over whole
	phaseFiles          // entities that are files
	phaseCompare        // what differs now
	phaseSettle         // what is owed is cleared; the storage is read again
)

const (
	// appendPart is how much of a pack goes into one request, in bytes.
	appendPart = 64 << 20
	// copiers is how many entities are copied at once where they go one by one.
	copiers = 8
	// topologyLag is how long after a change of the topology there may be a dispatcher that does not know of it.
	topologyLag = 3 * time.Second
	// returnsWithin is how long a storage that is down is looked at, every returnsEvery, before that is called a hindrance.
	returnsWithin = 30 * time.Second
	returnsEvery  = 250 * time.Millisecond
)

// rebuilding is one rebuild.
type rebuilding struct {
	w       *Worker
	r       *Running
	target  *store.Storage
	sources []*store.Storage
	dst     store.Bulk
	cur     rebuildCursor
}

// rebuild fills a storage with what its siblings hold, and makes it readable.
func (w *Worker) rebuild(ctx context.Context, r *Running) error {
	b, err := w.newRebuild(ctx, r)
	if b == nil || err != nil {
		return err
	}
	for _, phase := range []func(context.Context) error{b.packs, b.files, b.compare, b.settle}[b.cur.Phase:] {
		if err := phase(ctx); err != nil {
			return err
		}
		b.cur = rebuildCursor{Phase: b.cur.Phase + 1}
		r.Checkpoint(b.cur)
	}
	return nil
}

// newRebuild finds out who takes part. nil: it is done already.
func (w *Worker) newRebuild(ctx context.Context, r *Running) (*rebuilding, error) {
	op := r.Operation()
	var opt RebuildOptions
	b := &rebuilding{w: w, r: r}
	if err := errors.Join(r.Options(&opt), r.Cursor(&b.cur)); err != nil {
		return nil, err
	}
	top, err := w.cat.Topology(ctx)
	if err != nil {
		return nil, err
	}
	if b.target, err = locate(top, op.Storage); err == nil && b.target.Set == store.ModeFilling {
		top, b.target, err = w.takeNewDisk(ctx, top, b.target)
	}
	if err != nil {
		return nil, err
	}
	if b.target.Mode != store.ModeFilling {
		if b.cur.Phase > phaseSettle || b.cur.Phase == phaseSettle && b.target.Mode == store.ModeRW {
			return nil, nil // only the record of the end is missing
		}
		err := fmt.Errorf("storage %d is %s; a storage that is rebuilt is %s", op.Storage, b.target.Mode, store.ModeFilling)
		if time.Since(r.begun) < w.opt.TopologyLag {
			return nil, err // this process may not have heard of it yet: it is tried again
		}
		return nil, Impossible(err)
	}
	for i := range top.Storages {
		s := &top.Storages[i]
		if s.Cluster == b.target.Cluster && s.ID != op.Storage && s.Mode.Readable() && (opt.From == 0 || opt.From == s.ID) {
			b.sources = append(b.sources, s)
			r.WorksWith(s.ID)
		}
	}
	if len(b.sources) == 0 {
		if opt.From != 0 {
			return nil, fmt.Errorf("storage %d, which is to be read from, is no sibling of storage %d that can be read", opt.From, op.Storage)
		}
		return nil, fmt.Errorf("storage %d has no sibling that can be read", op.Storage)
	}
	b.dst, err = w.opt.Bulk(b.target)
	return b, err
}

// takeNewDisk has a storage take the empty directory that it finds: its new disk is blank, and would be taken for one that is not
// mounted. One that was down meanwhile is waited for until it is found to be well. It returns both as they are at that moment.
func (w *Worker) takeNewDisk(ctx context.Context, top *store.Topology, s *store.Storage) (*store.Topology, *store.Storage, error) {
	for deadline := time.Now().Add(returnsWithin); ; {
		if err := store.Accept(ctx, w.devices.Device(s)); err != nil {
			return nil, nil, fmt.Errorf("storage %d does not take its new disk: %w", s.ID, err)
		}
		if s.Mode != store.ModeDown {
			return top, s, nil
		}
		if time.Now().After(deadline) {
			return nil, nil, fmt.Errorf("storage %d does not answer: %s", s.ID, s.Down.Reason)
		}
		err := sleep(ctx, returnsEvery)
		if err == nil {
			top, err = w.cat.Topology(ctx)
		}
		if err == nil {
			s, err = locate(top, s.ID)
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

// part is a pack that is to be taken from a source.
type part struct {
	from *store.Storage
	src  store.Bulk
	info store.PackInfo
}

// packs takes over packs, from all sources at once.
func (b *rebuilding) packs(ctx context.Context) error {
	if _, err := b.dst.Adopting(ctx, 0); errors.Is(err, store.ErrNoPacks) {
		return nil
	} else if err != nil {
		return err
	}
	lists := make([][]part, len(b.sources))
	for i, s := range b.sources {
		src, err := b.w.opt.Bulk(s)
		if err != nil {
			return err
		}
		packs, err := src.Packs(ctx)
		if err != nil {
			return fmt.Errorf("storage %d: %w", s.ID, err)
		}
		for _, p := range packs {
			if p.Entities > 0 {
				lists[i] = append(lists[i], part{s, src, p})
			}
		}
	}
	lists = share(lists)
	var objects, bytes int64
	for _, list := range lists {
		for _, p := range list {
			objects += p.info.Entities
			bytes += p.info.Size
		}
	}
	b.r.Total(objects, bytes)
	return together(ctx, len(lists), func(ctx context.Context, i int) error {
		for _, p := range lists[i] {
			if err := b.takePack(ctx, p); err != nil {
				return fmt.Errorf("pack %s of storage %d: %w", p.info.Name, p.from.ID, err)
			}
		}
		return nil
	})
}

// share divides the ids among the sources, by bytes, and leaves each the packs that have ids of its range. Packs of different
// storages hold different sets, so that at the borders something is taken twice: the storage keeps one.
func share(lists [][]part) [][]part {
	var most []part
	var total int64
	for _, l := range lists {
		var sum int64
		for _, p := range l {
			sum += p.info.Size
		}
		if sum > total {
			most, total = l, sum
		}
	}
	most = slices.Clone(most)
	slices.SortFunc(most, func(x, y part) int { return cmp.Compare(x.info.MinID, y.info.MinID) })
	borders := make([]store.ObjectID, len(lists)+1)
	borders[len(lists)] = 1<<64 - 1
	var sum int64
	next := 1
	for _, p := range most {
		for next < len(lists) && sum >= total*int64(next)/int64(len(lists)) {
			borders[next] = p.info.MinID
			next++
		}
		sum += p.info.Size
	}
	for ; next < len(lists); next++ {
		borders[next] = 1<<64 - 1
	}
	out := make([][]part, len(lists))
	for i, l := range lists {
		for _, p := range l {
			if p.info.MinID < borders[i+1] && p.info.MaxID >= borders[i] {
				out[i] = append(out[i], p)
			}
		}
	}
	return out
}

// files copies what lies in files of its own, which is everything where the layout is that.
func (b *rebuilding) files(ctx context.Context) error {
	const page = 1024
	for _, s := range b.sources[:1] { // what only others have comes with the comparison
		src, err := b.w.opt.Bulk(s)
		if err != nil {
			return err
		}
		for {
			list, err := src.Files(ctx, b.cur.From, page)
			if err != nil {
				return fmt.Errorf("storage %d: %w", s.ID, err)
			}
			if len(list) == 0 {
				break
			}
			ids := idsOf(list)
			have, err := b.dst.Entities(ctx, ids)
			if err != nil {
				return err
			}
			missing := slices.DeleteFunc(list, func(e store.ManifestEntry) bool {
				_, found := slices.BinarySearchFunc(have, e.ID, func(h store.ManifestEntry, id store.ObjectID) int { return cmp.Compare(h.ID, id) })
				return found
			})
			if err := b.w.copyMany(ctx, b.r, missing, b.sources, b.target); err != nil {
				return err
			}
			b.cur.From = ids[len(ids)-1] + 1
			b.r.Checkpoint(b.cur)
		}
	}
	return nil
}

func idsOf(list []store.ManifestEntry) []store.ObjectID {
	ids := make([]store.ObjectID, len(list))
	for i, e := range list {
		ids[i] = e.ID
	}
	return ids
}

// compare copies and removes what differs now. From here on the storage has all that is written: dispatchers know that it
// takes part.
func (b *rebuilding) compare(ctx context.Context) error {
	if err := sleep(ctx, b.w.opt.TopologyLag-time.Since(b.r.begun)); err != nil {
		return err
	}
	extra := map[store.ObjectID]int{}
	for i := range b.sources {
		from := slices.Concat(b.sources[i:], b.sources[:i])
		if err := b.w.equalise(ctx, b.r, from, b.target, extra); err != nil {
			return err
		}
	}
	var alone []store.ObjectID
	for id, n := range extra {
		if n == len(b.sources) {
			alone = append(alone, id)
		}
	}
	return b.w.dropUnknown(ctx, b.target, alone)
}

// settle clears what the storage is owed and holds, and lets it be read.
func (b *rebuilding) settle(ctx context.Context) error {
	if err := b.w.settleOwed(ctx, b.target); err != nil {
		return err
	}
	if err := b.w.cat.SetStorageMode(ctx, b.target.ID, store.ModeRW); err != nil {
		return err
	}
	b.w.opt.Log.Info("storage is rebuilt and read again", "storage", uint32(b.target.ID))
	return nil
}

// settleOwed clears from the catalog what a storage is owed and holds by now.
func (w *Worker) settleOwed(ctx context.Context, s *store.Storage) error {
	bulk, err := w.opt.Bulk(s)
	if err != nil {
		return err
	}
	for after := store.ObjectID(0); ; {
		owed, err := w.cat.MissingOn(ctx, s.ID, after, store.MaxEntities)
		if err != nil || len(owed) == 0 {
			return err
		}
		have, err := bulk.Entities(ctx, owed)
		if err != nil {
			return err
		}
		if err := w.cat.ClearMissingOn(ctx, s.ID, idsOf(have)); err != nil {
			return err
		}
		after = owed[len(owed)-1]
	}
}

// together runs f for 0 to n-1 at the same time; the first error ends the others.
func together(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := f(ctx, i); err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return nil
}
