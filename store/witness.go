package store

import "context"

// Witnesses is the part of a [Catalog] that learns from the storages whether it is older than what they hold: put back from a copy, or
// begun anew. An id is never used again, and an older catalog would hand out ids that are in use; and nothing may be deleted for being
// unknown to it.
type Witnesses interface {
	// NextID is the least id that has never been leased. No storage holds an entity with it, or with a greater one, unless the catalog
	// is older than the storage.
	NextID(ctx context.Context) (ObjectID, error)
	// Witness says that a storage holds an entity with the id held (0: none does), and which storages could not be asked what they hold.
	// Where held has never been leased the catalog is an older one: then all that may have been used since is fenced (see
	// [Housekeeping.Fenced]), and new ids begin beyond it. For what storages may hold that could not be asked, some ids are passed over
	// (see Gaps), unless that has been done for each of them and they have not been asked since.
	Witness(ctx context.Context, held ObjectID, unasked []StorageID) (fenced bool, err error)
	// Gaps lists the blocks of ids that were passed over, in order, as long as a storage of Unasked has not been asked whether it
	// holds any of them. One that does has seen a later catalog.
	Gaps(ctx context.Context) ([]Gap, error)
	// CloseGap says that a storage holds nothing with an id of the gap that begins at first, or that it is no more. A gap of which
	// all have said so is forgotten. One that is not there is no error.
	CloseGap(ctx context.Context, first ObjectID, storage StorageID) error
}

// Gap is a block of ids that was never leased.
type Gap struct {
	First   ObjectID
	N       int
	Unasked []StorageID
}
