package dispatcher

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"wheelhouse/store"
)

// A block of ids is leased for what is stored between two renewals, so that a catalog that was put back from a copy, however young, has
// not leased what was used since. This is how many ids are leased at once: one row of the catalog for so many objects.
const (
	smallBlock = 256
	largeBlock = 4096 // after smaller ones were used up
)

// leaser is who gives ids that no storage holds yet.
type leaser interface {
	LeaseIDs(ctx context.Context, owner string, n int) (store.ObjectID, error)
}

type renewer interface {
	RenewLeases(ctx context.Context, owner string, firsts []store.ObjectID) error
}

// idSource hands out object ids from leased blocks. A block stays leased while an id of it is in use by an upload.
type idSource struct {
	from  leaser
	cat   renewer
	owner string

	mu    sync.Mutex // guards what follows
	next  store.ObjectID
	left  int
	size  int                    // of the next block
	first store.ObjectID         // of the current block
	inUse map[store.ObjectID]int // uploads under way, by the first id of their block
}

func newIDSource(from leaser, cat renewer, owner string) *idSource {
	return &idSource{from: from, cat: cat, owner: owner, size: smallBlock, inUse: map[store.ObjectID]int{}}
}

// take returns an id and a function to call when the upload has been committed or given up.
func (s *idSource) take(ctx context.Context) (store.ObjectID, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		// Under the lock: whoever else needs an id needs this block too.
		first, err := s.from.LeaseIDs(ctx, s.owner, s.size)
		if err != nil {
			return 0, nil, err
		}
		s.first, s.next, s.left = first, first, s.size
		s.size = min(2*s.size, largeBlock)
	}
	id, block := s.next, s.first
	s.next++
	s.left--
	s.inUse[block]++
	return id, func() { s.release(block) }, nil
}

func (s *idSource) release(block store.ObjectID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inUse[block]--; s.inUse[block] == 0 {
		delete(s.inUse, block)
	}
}

// discard gives up the current block, after the catalog has taken it for abandoned: this process was stopped for too long.
func (s *idSource) discard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = 0
}

// run renews the blocks in use, at intervals, until ctx ends. The current block is left behind each time: its remaining ids are never
// used, so that the worker can settle the block as soon as nothing is being written into it.
func (s *idSource) run(ctx context.Context, every time.Duration, log *slog.Logger) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if firsts := s.blocks(); len(firsts) > 0 {
			if err := s.cat.RenewLeases(ctx, s.owner, firsts); err != nil && ctx.Err() == nil {
				log.Warn("object ids could not be renewed", "err", err)
			}
		}
	}
}

func (s *idSource) blocks() []store.ObjectID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left > 0 {
		s.left, s.size = 0, max(s.size/2, smallBlock)
	}
	var firsts []store.ObjectID
	for first := range s.inUse {
		firsts = append(firsts, first)
	}
	return firsts
}
