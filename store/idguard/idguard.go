// Package idguard asks storages which ids they hold, before ids are handed out and before anything is deleted for being unknown to
// the catalog: a catalog that was put back from a copy, or begun anew, is older than what the storages hold, and they alone can tell.
package idguard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"wheelhouse/store"
)

// Catalog is what a Guard asks of the catalog.
type Catalog interface {
	store.Witnesses
	Topology(ctx context.Context) (*store.Topology, error)
	LeaseIDs(ctx context.Context, owner string, n int) (store.ObjectID, error)
}

// Devices are the storages as this process reaches them.
type Devices interface {
	Device(s *store.Storage) store.Device
}

// answerTime is how long a storage is given to answer.
const answerTime = 5 * time.Second

// Guard stands between a process and the ids of a catalog. Safe for concurrent use.
type Guard struct {
	cat     Catalog
	devices Devices
	log     *slog.Logger

	mu   sync.Mutex // guards seen, and is held while storages are asked: nobody can have ids before
	seen map[place]bool
}

// place is a storage where it is reached: one that is somewhere else may be another disk.
type place struct {
	id  store.StorageID
	uri string
}

// New makes a Guard.
func New(cat Catalog, devices Devices, log *slog.Logger) *Guard {
	return &Guard{cat: cat, devices: devices, log: log, seen: map[place]bool{}}
}

// LeaseIDs leases ids that no storage holds. ErrNoWritable when no storage could be asked yet.
func (g *Guard) LeaseIDs(ctx context.Context, owner string, n int) (store.ObjectID, error) {
	if err := g.Meet(ctx); err != nil {
		return 0, err
	}
	return g.cat.LeaseIDs(ctx, owner, n)
}

// Meet asks the storages that this process has not met yet what they hold. For those that do not answer ids are passed over, so that
// whatever they hold is told from what is stored from now on. ErrNoWritable when not one storage has ever answered.
func (g *Guard) Meet(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	top, err := g.cat.Topology(ctx)
	if err != nil {
		return err
	}
	var list []*store.Storage
	for i := range top.Storages {
		if s := &top.Storages[i]; s.Mode != store.ModeDead && !g.seen[place{s.ID, s.URI}] {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return nil
	}
	held, failed, err := g.ask(ctx, list)
	if err != nil {
		return err
	}
	if len(failed) == len(list) && len(g.seen) == 0 {
		return fmt.Errorf("%w: no storage could be asked which ids it holds: %w", store.ErrNoWritable, failed[0].cause)
	}
	var unasked []store.StorageID
	for _, f := range failed {
		unasked = append(unasked, f.storage)
	}
	if err := g.witness(ctx, held, unasked); err != nil {
		return err
	}
	for _, s := range list {
		g.seen[place{s.ID, s.URI}] = true
	}
	return nil
}

// Settled reports whether what the catalog does not know may be deleted: all storages have been asked, and none has seen a later
// catalog. As long as one cannot be asked for which ids were passed over, it may.
func (g *Guard) Settled(ctx context.Context) (bool, error) {
	if err := g.Meet(ctx); err != nil {
		return false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	gaps, err := g.cat.Gaps(ctx)
	if err != nil || len(gaps) == 0 {
		return err == nil, err
	}
	top, err := g.cat.Topology(ctx)
	if err != nil {
		return false, err
	}
	closed := true
	for _, gap := range gaps {
		for _, id := range gap.Unasked {
			none, err := g.holdsNone(ctx, top, id, gap)
			if err == nil && none {
				err = g.cat.CloseGap(ctx, gap.First, id)
			}
			if err != nil {
				return false, err
			}
			closed = closed && none
		}
	}
	return closed, nil
}

// holdsNone reports whether a storage is known to hold nothing with an id of a gap. If it does hold some, everything is fenced.
func (g *Guard) holdsNone(ctx context.Context, top *store.Topology, id store.StorageID, gap store.Gap) (bool, error) {
	i := slices.IndexFunc(top.Storages, func(s store.Storage) bool { return s.ID == id && s.Mode != store.ModeDead })
	if i < 0 {
		return true, nil // it is no more
	}
	if top.Storages[i].Mode == store.ModeDown {
		return false, nil
	}
	dev := g.devices.Device(&top.Storages[i])
	held, err := above(ctx, dev, gap.First)
	if err != nil {
		return false, nil // it is not there yet
	}
	list, err := manifest(ctx, dev, gap.First, gap.First+store.ObjectID(gap.N))
	if err != nil {
		return false, nil
	}
	if len(list) > 0 {
		return false, g.witness(ctx, list[0].ID, nil)
	}
	next, err := g.cat.NextID(ctx)
	if err == nil && held >= next {
		return false, g.witness(ctx, held, nil)
	}
	return err == nil, err
}

// Saw is to be called with an id that a storage was found to hold and that the catalog does not know.
func (g *Guard) Saw(ctx context.Context, id store.ObjectID) error {
	next, err := g.cat.NextID(ctx)
	if err != nil || id < next {
		return err
	}
	return g.witness(ctx, id, nil)
}

func (g *Guard) witness(ctx context.Context, held store.ObjectID, unasked []store.StorageID) error {
	if held == 0 && len(unasked) == 0 {
		return nil
	}
	fenced, err := g.cat.Witness(ctx, held, unasked)
	if fenced {
		g.log.Error("the catalog is older than what the storages hold: nothing that it does not know is deleted until they have been compared (wheelhouse catalog readopt)",
			"object", uint64(held))
	}
	return err
}

// unanswered is a storage that could not be asked.
type unanswered struct {
	storage store.StorageID
	cause   error
}

// ask asks storages whether they hold an id that was never leased, and returns the greatest such id, or 0.
func (g *Guard) ask(ctx context.Context, list []*store.Storage) (held store.ObjectID, failed []unanswered, err error) {
	next, err := g.cat.NextID(ctx)
	if err != nil {
		return 0, nil, err
	}
	type answer struct {
		id  store.ObjectID
		err error
	}
	answers := make([]answer, len(list))
	var all sync.WaitGroup
	for i, s := range list {
		all.Go(func() {
			answers[i].err = errors.New("it is down")
			if s.Mode != store.ModeDown {
				answers[i].id, answers[i].err = above(ctx, g.devices.Device(s), next)
			}
		})
	}
	all.Wait()
	for i, a := range answers {
		if a.err != nil {
			failed = append(failed, unanswered{list[i].ID, fmt.Errorf("storage %d: %w", list[i].ID, a.err)})
		}
		held = max(held, a.id)
	}
	if held > 0 {
		// Others lease ids and use them all the time.
		if next, err = g.cat.NextID(ctx); err == nil && held < next {
			held = 0
		}
	}
	return held, failed, errors.Join(err, ctx.Err())
}

// above finds the greatest id from next on that a device holds, or 0.
func above(ctx context.Context, dev store.Device, next store.ObjectID) (store.ObjectID, error) {
	list, err := manifest(ctx, dev, next, Beyond)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	id, _, err := LastBelow(ctx, dev, Beyond)
	return id, err
}

func manifest(ctx context.Context, dev store.Device, from, to store.ObjectID) ([]store.ManifestEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if from < ShortIDs && to > ShortIDs { // see ShortIDs
		list, err := dev.Manifest(ctx, from, ShortIDs, 1)
		if err != nil || len(list) > 0 {
			return list, err
		}
		from = ShortIDs
	}
	return dev.Manifest(ctx, from, to, 1)
}

// Holds reports whether a device holds any entity.
func Holds(ctx context.Context, dev store.Device) (bool, error) {
	list, err := manifest(ctx, dev, 1, Beyond)
	return len(list) > 0, err
}

const (
	// ShortIDs is where the names of entities become longer: storages that keep plain files find greater ids only by a walk through
	// all directories, so that they are not asked for them more often than needed.
	ShortIDs = store.ObjectID(10_000_000_000)
	// Beyond is greater than every id in use.
	Beyond = store.ObjectID(math.MaxInt64)
)

// LastBelow finds the greatest id below hi of which a device holds an entity.
func LastBelow(ctx context.Context, dev store.Device, hi store.ObjectID) (id store.ObjectID, found bool, err error) {
	any := func(from store.ObjectID) (bool, error) {
		list, err := dev.Manifest(ctx, from, hi, 1)
		return len(list) > 0, err
	}
	if hi > ShortIDs {
		if found, err = any(ShortIDs); err != nil {
			return 0, false, err
		}
		if !found {
			hi = ShortIDs
		}
	}
	if found, err = any(1); err != nil || !found {
		return 0, false, err
	}
	lo, end := store.ObjectID(1), hi // there is one in [lo, hi), and none in [end, hi)
	for end-lo > 1 {
		mid := lo + (end-lo)/2
		if found, err = any(mid); err != nil {
			return 0, false, err
		}
		if found {
			lo = mid
		} else {
			end = mid
		}
	}
	return lo, true, nil
}
