package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"wheelhouse/store"
)

// storage finds the storage that a request's path names.
func (a *api) storage(r *http.Request) (*store.Topology, *store.Storage, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, nil, err
	}
	top, err := a.cat.Topology(r.Context())
	if err != nil {
		return nil, nil, err
	}
	for i := range top.Storages {
		if s := &top.Storages[i]; s.ID == store.StorageID(id) {
			return top, s, nil
		}
	}
	return nil, nil, fmt.Errorf("%w: id %d", store.ErrNoStorage, id)
}

// acceptStorage has a storage take the empty directory that it finds for its new disk. From then on it is being filled.
func (a *api) acceptStorage(r *http.Request) (any, error) {
	_, s, err := a.storage(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	if store.Probe(ctx, a.devices.Device(s)) == nil {
		return nil, &inputError{http.StatusConflict, fmt.Sprintf("storage %d has its disk", s.ID)}
	}
	// First of all nobody may take it for a storage that holds what its siblings hold.
	if err := a.cat.SetStorageMode(r.Context(), s.ID, store.ModeFilling); err != nil {
		return nil, err
	}
	if err := store.Accept(ctx, a.devices.Device(s)); err != nil {
		return nil, errors.Join(&inputError{http.StatusConflict, fmt.Sprintf("storage %d: %v", s.ID, err)},
			a.cat.SetStorageMode(r.Context(), s.ID, s.Set))
	}
	return nil, nil
}

// promoteStorage makes a spare a full member of its cluster, if it holds what the others hold.
func (a *api) promoteStorage(r *http.Request) (any, error) {
	var in struct{ Force bool }
	top, s, err := a.storage(r)
	if err != nil {
		return nil, err
	}
	if err := input(r, &in); err != nil {
		return nil, err
	}
	if s.Set != store.ModeSpare {
		return nil, &inputError{http.StatusConflict, fmt.Sprintf("storage %d is %v, not spare", s.ID, s.Set)}
	}
	if !in.Force {
		if err := a.holdsAll(r.Context(), top, s); err != nil {
			return nil, err
		}
	}
	return nil, a.cat.SetStorageMode(r.Context(), s.ID, store.ModeRW)
}

// holdsAll is nil when a storage is owed nothing and holds the same entities as a sibling that is in service.
func (a *api) holdsAll(ctx context.Context, top *store.Topology, s *store.Storage) error {
	const owedShown = 1
	owed, err := a.cat.MissingOn(ctx, s.ID, 0, owedShown)
	if err != nil {
		return err
	}
	if len(owed) > 0 {
		return &inputError{http.StatusConflict, fmt.Sprintf("storage %d is still owed entities: wait until it has been caught up with", s.ID)}
	}
	problem := fmt.Sprintf("storage %d has no sibling in service that it could be compared with", s.ID)
	for i := range top.Storages {
		other := &top.Storages[i]
		if other.Cluster != s.Cluster || other.ID == s.ID || !other.Mode.Readable() {
			continue
		}
		same, detail, err := a.same(ctx, s, other)
		if err != nil {
			return err
		}
		if same {
			return nil
		}
		problem = fmt.Sprintf("storage %d does not hold what storage %d holds (%s): rebuild it first, or promote it with --force", s.ID, other.ID, detail)
	}
	return &inputError{http.StatusConflict, problem}
}

// same compares all that two storages hold. What is written or deleted at the moment may differ: then it looks again.
func (a *api) same(ctx context.Context, s, other *store.Storage) (same bool, detail string, err error) {
	const tries = 5
	for try := range tries {
		if try > 0 {
			select {
			case <-time.After(300 * time.Millisecond):
			case <-ctx.Done():
				return false, "", ctx.Err()
			}
		}
		var sums [2]store.RangeDigest
		for i, of := range []*store.Storage{s, other} {
			if sums[i], err = a.devices.Device(of).Digest(ctx, 0, 1<<63-1); err != nil {
				return false, "", &inputError{http.StatusConflict, fmt.Sprintf("storage %d: %v", of.ID, err)}
			}
		}
		if sums[0] == sums[1] {
			return true, "", nil
		}
		detail = fmt.Sprintf("%d entities with %d bytes, and %d with %d", sums[0].Count, sums[0].Bytes, sums[1].Count, sums[1].Bytes)
	}
	return false, detail, nil
}
