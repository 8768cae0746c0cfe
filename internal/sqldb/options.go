package sqldb

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Options are the choices of [Open]. The zero value is a good server.
type Options struct {
	// Readers is how many connections read. Default 4. A call that finds all of them busy waits.
	Readers int
	// ReaderCache is the page cache of each reader in bytes. Default 4 MiB.
	ReaderCache int64
	// WriterCache is the page cache of the writer in bytes. Default 16 MiB.
	WriterCache int64
	// MapBytes is how much of the file each connection maps into memory, in bytes. Default 0: nothing (see the package
	// comment).
	MapBytes int64
	// BusyTimeout is how long to wait while another process holds the file. Default 10 s.
	BusyTimeout time.Duration
	// MaxBatch is how many closures share one transaction at most. Default 512.
	MaxBatch int
	// WALPages is the size of the write-ahead log, in pages of 4 KiB, from which its pages are copied into the
	// database in the background. Default 8192 (32 MiB): with random names a page is written to again and again, and the
	// longer the log, the fewer pages are copied. At twice that the writer itself finishes the copying and
	// starts the log again from its beginning; under full load its file grows to some times that, and is not shortened
	// before Close.
	WALPages int
	// ApplicationID is written into the header of a new file and required of an existing one. Default [ApplicationID].
	ApplicationID int32
	// Adopt takes a file of a program that does not mark its files, too, and leaves it unmarked: it is given tables, and
	// a write-ahead log, and goes on being that program's. Default: ErrForeign.
	Adopt bool
	// Logger takes what only an operator can use: checkpoints that fail. Default: nothing is logged.
	Logger *slog.Logger
}

// ApplicationID marks the files of this program (`file` and `PRAGMA application_id` show it): "WHSE".
const ApplicationID = 0x57485345

func (o Options) withDefaults() Options {
	o.Readers = cmp.Or(o.Readers, 4)
	o.ReaderCache = cmp.Or(o.ReaderCache, 4<<20)
	o.WriterCache = cmp.Or(o.WriterCache, 16<<20)
	o.BusyTimeout = cmp.Or(o.BusyTimeout, 10*time.Second)
	o.MaxBatch = cmp.Or(o.MaxBatch, 512)
	o.WALPages = cmp.Or(o.WALPages, 8192)
	o.ApplicationID = cmp.Or(o.ApplicationID, ApplicationID)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate reports all fields that make no sense.
func (o Options) Validate() error {
	var errs []error
	check := func(name string, v int64) {
		if v < 0 {
			errs = append(errs, fmt.Errorf("sqldb: %s is %d: want 0 (the default) or more", name, v))
		}
	}
	check("Readers", int64(o.Readers))
	check("ReaderCache", o.ReaderCache)
	check("WriterCache", o.WriterCache)
	check("MapBytes", o.MapBytes)
	check("BusyTimeout", int64(o.BusyTimeout))
	check("MaxBatch", int64(o.MaxBatch))
	check("WALPages", int64(o.WALPages))
	return errors.Join(errs...)
}
