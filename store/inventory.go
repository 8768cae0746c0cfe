package store

import "context"

// DigestBlock is how many ids a [BlockDigest] covers: block n is the ids from n*DigestBlock on.
const DigestBlock = 4096

// BlockDigest summarises the entities, or the objects, with ids in one block. Equal digests mean equal sets, but for chance.
type BlockDigest struct {
	Block uint64
	Count int64
	Bytes int64
	Size  uint64 // exclusive or of SizeHash
	// CRC is the exclusive or of EntryHash. It is of entities in packs alone: for others the checksum counts as 0, and the
	// catalog knows none.
	CRC uint64
}

// Same reports whether both summarise the same set of (id, size).
func (d *BlockDigest) Same(o *BlockDigest) bool {
	return d.Block == o.Block && d.Count == o.Count && d.Bytes == o.Bytes && d.Size == o.Size
}

// Add counts an entry in (sign 1) or out (sign -1).
func (d *BlockDigest) Add(id ObjectID, size int64, crc uint32, sign int64) {
	d.Count += sign
	d.Bytes += sign * size
	d.Size ^= SizeHash(id, size)
	d.CRC ^= EntryHash(id, size, crc)
}

// SizeHash is what [BlockDigest.Size] combines.
func SizeHash(id ObjectID, size int64) uint64 { return EntryHash(id, size, 0) }

// Inventory is the part of a [Catalog] that is compared with what storages hold.
type Inventory interface {
	// IDDigests summarises what a cluster's storages hold if all is well: its visible objects, and its deleted ones that are
	// not forgotten. Blocks without any are left out; the others come in order.
	IDDigests(ctx context.Context, cluster ClusterID) ([]BlockDigest, error)
	// ObjectsByID lists a cluster's visible objects with ids in [from, to), in order of id, up to limit, with Missing.
	ObjectsByID(ctx context.Context, cluster ClusterID, from, to ObjectID, limit int) ([]Object, error)
	// DeletedByID lists a cluster's deleted objects that are not forgotten, in the same way; Missing is not known.
	DeletedByID(ctx context.Context, cluster ClusterID, from, to ObjectID, limit int) ([]Object, error)
	// ClearMissingOn records that a storage holds objects now. It is ClearMissing for many.
	ClearMissingOn(ctx context.Context, storage StorageID, ids []ObjectID) error
	// MoveObject gives a visible object the ID, the Cluster and the Missing of to, and leaves the deletion of its entities
	// under the old id to be done after the grace time, as by an overwrite. Everything else of to is ignored, the row
	// keeps it. written, unless nil, says who holds it, instead of Missing, as in [Commit]. ErrNoObject when the object is no longer the visible version; ErrLease as by Commit.
	MoveObject(ctx context.Context, old ObjectID, to Object, written *Written) error
}
