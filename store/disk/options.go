package disk

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

// The layouts of a storage's directory.
const (
	LayoutPacks = "packs" // small entities in tar archives, large ones in files
	LayoutFiles = "files" // one file per entity, as mogstored keeps them
)

// Limits of the options, in bytes.
const (
	minPackSize   = 64 << 10
	maxPackSize   = 64 << 30 // offsets are written with 12 digits, the index holds lengths in 32 bits
	maxSmallLimit = 4 << 20  // a small entity is read and verified as a whole
	autoMinFree   = 1 << 30
)

// Options of a storage. StorageID alone is required.
type Options struct {
	// StorageID is the storage that the directory holds; a directory that belongs to another is refused.
	StorageID store.StorageID
	// MustExist says that the storage was there before: a directory without its marker is a disk that is not mounted, and is
	// refused with store.ErrAbsent instead of being made one.
	MustExist bool
	// Layout is LayoutPacks or LayoutFiles. "": LayoutPacks.
	Layout string
	// PackSize is how far a pack grows before it is sealed, in bytes. 0: 1 GiB.
	PackSize int64
	// PackEntities is how many entities a pack takes before it is sealed, however small it is: it bounds the index in
	// memory of the pack that is being written, some 80 bytes an entity, and the scan after a crash. 0: 131072.
	PackEntities int
	// SmallLimit is the size in bytes up to which entities go to packs. 0: 1 MiB; negative: none does.
	SmallLimit int64
	// NoVerify hands entities out without checking their checksums.
	NoVerify bool
	// MinFree is the free space in bytes of the file system below which writes are refused. 0: 1 GiB or 1 % of the
	// file system, whichever is smaller; negative: no limit.
	MinFree int64
	// GarbageRatio is the part of a sealed pack, 0 to 1, that must be garbage before Run rewrites it. 0: 0.5;
	// negative: never.
	GarbageRatio float64
	// MaxOpenPacks is how many packs are kept open. 0: 4096.
	MaxOpenPacks int
	// FS is the file system. nil: the operating system's.
	FS faultfs.FS
	// Log takes what an operator should know. nil: slog.Default().
	Log *slog.Logger
	// Now is the clock. nil: time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	o.Layout = cmp.Or(o.Layout, LayoutPacks)
	o.PackSize = cmp.Or(o.PackSize, 1<<30)
	o.PackEntities = cmp.Or(o.PackEntities, 1<<17)
	o.SmallLimit = cmp.Or(o.SmallLimit, 1<<20)
	o.GarbageRatio = cmp.Or(o.GarbageRatio, 0.5)
	o.MaxOpenPacks = cmp.Or(o.MaxOpenPacks, 4096)
	if o.FS == nil {
		o.FS = faultfs.OS{}
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Validate reports everything that is wrong with o.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	bad := func(cond bool, format string, args ...any) {
		if cond {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(o.StorageID == 0, "StorageID (id): must be given")
	bad(o.Layout != LayoutPacks && o.Layout != LayoutFiles, "Layout (layout): %q is neither %q nor %q", o.Layout, LayoutPacks, LayoutFiles)
	bad(o.PackSize < minPackSize || o.PackSize > maxPackSize, "PackSize (pack_size): %d is not between %d and %d", o.PackSize, minPackSize, int64(maxPackSize))
	bad(o.PackEntities < 1, "PackEntities (pack_entities): %d is below 1", o.PackEntities)
	bad(o.SmallLimit > maxSmallLimit, "SmallLimit (small_limit): %d is above %d", o.SmallLimit, maxSmallLimit)
	bad(o.GarbageRatio > 1 || math.IsNaN(o.GarbageRatio), "GarbageRatio (garbage_ratio): %v is above 1", o.GarbageRatio)
	bad(o.MaxOpenPacks < 1, "MaxOpenPacks (max_open_packs): %d is below 1", o.MaxOpenPacks)
	return errors.Join(errs...)
}
