package dispatcher

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"wheelhouse/store"
)

// idBlock is how many ids are leased at once: one row of the catalog for so many objects.
const idBlock = 4096

type leaser interface {
	LeaseIDs(ctx context.Context, owner string, n int) (store.ObjectID, error)
	RenewLeases(ctx context.Context, owner string, firsts []store.ObjectID) error
}

// idSource hands out object ids from leased blocks. A block stays leased while an id of it is in use by an upload.
type idSource struct {
	cat   leaser
	owner string

	mu    sync.Mutex // guards what follows
	next  store.ObjectID
	left  int
	first store.ObjectID         // of the current block
	inUse map[store.ObjectID]int // uploads under way, by the first id of their block
}

func newIDSource(cat leaser, owner string) *idSource {
	return &idSource{cat: cat, owner: owner, inUse: map[store.ObjectID]int{}}
}

// take returns an id and a function to call when the upload has been committed or given up.
func (s *idSource) take(ctx context.Context) (store.ObjectID, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		// Under the lock: whoever else needs an id needs this block too.
		first, err := s.cat.LeaseIDs(ctx, s.owner, idBlock)
		if err != nil {
			return 0, nil, err
		}
		s.first, s.next, s.left = first, first, idBlock
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

// run renews the blocks in use, at intervals, until ctx ends. A current block that nothing is being written into is given back: its
// remaining ids are never used, so that the worker can settle the block.
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
	if s.inUse[s.first] == 0 {
		s.left = 0
	}
	var firsts []store.ObjectID
	for first := range s.inUse {
		firsts = append(firsts, first)
	}
	return firsts
}
