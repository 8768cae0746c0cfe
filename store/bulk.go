package store

import (
	"context"
	"errors"
	"io"
)

// Bulk is what a storage offers, beside [Device], to those who work on all of it at once: rebuilds, comparisons, scrubs. A
// disk has it, and a storage node's over HTTP. Safe for concurrent use.
type Bulk interface {
	// Packs lists the packs, the oldest first; none where the layout knows none.
	Packs(ctx context.Context) ([]PackInfo, error)
	// OpenPack gives the bytes of one version of a pack from off on, up to the end it has now. ErrNoPack when there is
	// no such version any more. The bytes are not verified: a pack carries what is needed for that.
	OpenPack(ctx context.Context, name string, uid uint64, off int64) (io.ReadCloser, error)
	// DeleteLog gives what the pack's delete log says of this version: what is deleted and still in it. ErrNoPack.
	DeleteLog(ctx context.Context, name string, uid uint64) ([]byte, error)
	// Files lists the entities that are files of their own, with ids >= from, in order of id, up to limit.
	Files(ctx context.Context, from ObjectID, limit int) ([]ManifestEntry, error)

	// Adopting says how far a pack of another storage has been taken over. ErrNoPacks when this storage takes none.
	Adopting(ctx context.Context, uid uint64) (Adoption, error)
	// AppendPack takes bytes of a pack that begin at off, which must be where the last ones ended, and returns how many it
	// has taken. What it has taken before an error stays.
	AppendPack(ctx context.Context, uid uint64, off int64, r io.Reader) (int64, error)
	// FinishPack verifies all that was taken of a pack, which must be size bytes, and puts it among the packs, but for
	// what log says is deleted and what this storage has already. Members that are damaged are left out.
	FinishPack(ctx context.Context, uid uint64, size int64, log []byte) (Adoption, error)

	// BlockDigests summarises the entities with ids in [from, to), in order of block. Blocks without any are left out. from and
	// to are rounded to whole blocks.
	BlockDigests(ctx context.Context, from, to ObjectID) ([]BlockDigest, error)
	// Entities returns those of ids, at most MaxEntities, that there are, in order of id.
	Entities(ctx context.Context, ids []ObjectID) ([]ManifestEntry, error)
	// Scrub reads and verifies the entities from cursor on ("" is the beginning), about most bytes of them.
	Scrub(ctx context.Context, cursor string, most int64) (ScrubPart, error)
}

// MaxEntities is how many ids [Bulk.Entities] takes at once.
const MaxEntities = 4096

// PackInfo describes a pack.
type PackInfo struct {
	Name         string   `json:"name"` // of the archive, without a directory
	UID          uint64   `json:"uid"`  // of this version of it
	Size         int64    `json:"size"` // bytes that hold members
	Sealed       bool     `json:"sealed"`
	MinID, MaxID ObjectID `json:",omitzero"`
	Entities     int64    `json:"entities"` // that are alive
	Live         int64    `json:"live"`     // their bytes in the pack
}

// Adoption is how a pack of another storage is being taken over.
type Adoption struct {
	Size     int64 `json:"size"`     // bytes taken so far
	Done     bool  `json:"done"`     // it is among the packs
	Entities int64 `json:"entities"` // that were new here; once done
	Damaged  int64 `json:"damaged"`  // members that were left out
}

// ScrubPart is what one call of [Bulk.Scrub] did.
type ScrubPart struct {
	Cursor  string         `json:"cursor"` // where to go on; "" at the end
	Objects int64          `json:"objects"`
	Bytes   int64          `json:"bytes"`
	Bad     []ScrubFinding `json:"bad,omitempty"`
}

// ScrubFinding is an entity that is damaged.
type ScrubFinding struct {
	ID     ObjectID `json:"id"`
	Reason string   `json:"reason"`
}

var (
	// ErrNoPack says that a pack, or this version of it, is not there: it was rewritten, or never was.
	ErrNoPack = errors.New("store: no such pack")
	// ErrNoPacks says that a storage keeps no packs: copy entity by entity.
	ErrNoPacks = errors.New("store: this storage keeps no packs")
)
