package dispatcher

import (
	"time"

	"wheelhouse/store"
)

// Foreground is how long clients have waited of late for small objects that were read from storages: from when the object was
// known until its last byte was given to the kernel. Work in the background makes room by it.
func (d *Dispatcher) Foreground(now time.Time) store.Foreground { return d.waits.Latest(now) }

// waited notes one such read, when it is over.
func (d *Dispatcher) waited(since time.Time) { d.waits.Note(time.Since(since)) }
