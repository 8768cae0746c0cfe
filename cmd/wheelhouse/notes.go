package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
	"wheelhouse/store/disk"
	"wheelhouse/store/storaged"
)

// storageNotes is what a process with storages remembers of them outside of their directories: that they have been there. An empty
// directory is then known for a disk that is not mounted. A storage node has no catalog; and where there is one, it may be new, or
// rebuilt while the disk was away.
type storageNotes struct {
	dir   string
	log   *slog.Logger
	noted map[store.StorageID]bool
}

func (a *app) storageNotes() *storageNotes { return &storageNotes{dir: a.cfg.notesDir(), log: a.log} }

// takeNotes notes the storages that are there, and goes on with those that come.
func (a *app) takeNotes(n *storageNotes) {
	n.keep(a.disks)
	a.background = append(a.background, func(ctx context.Context) error { return n.run(ctx, a.disks) })
}

// notesDir is where a process keeps its notes: DATA where that is there, else the secret's directory.
func (c *Config) notesDir() string {
	if st, err := os.Stat(c.Data); err == nil && st.IsDir() {
		return c.Data
	}
	return filepath.Dir(c.secretFile())
}

func (n *storageNotes) file(id store.StorageID) string {
	return filepath.Join(n.dir, fmt.Sprintf("storage-%d.known", id))
}

func (n *storageNotes) known(id store.StorageID) bool {
	_, err := os.Stat(n.file(id))
	return err == nil
}

// keep notes the storages that are there.
func (n *storageNotes) keep(disks []storaged.Disk) {
	if n.noted == nil {
		n.noted = map[store.StorageID]bool{}
	}
	for _, d := range disks {
		b, ok := d.Device.(*disk.Bay)
		if !ok || n.noted[d.ID] {
			continue
		}
		if _, err := b.Disk(); err != nil {
			continue
		}
		n.noted[d.ID] = true
		if n.known(d.ID) {
			continue
		}
		text := fmt.Sprintf("Storage %d has been in use at %s. Without this file an empty directory there is taken for a new disk.\n", d.ID, b.Dir())
		if err := atomicfile.Write(faultfs.OS{}, n.file(d.ID), 0o644, []byte(text)); err != nil {
			n.log.Warn("it cannot be remembered that a storage was there: should its disk not be mounted at the next start, its empty mount point is used",
				"storage", uint32(d.ID), "err", err)
		}
	}
}

// run notes those that come later.
func (n *storageNotes) run(ctx context.Context, disks []storaged.Disk) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for len(n.noted) < len(disks) {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			n.keep(disks)
		}
	}
	<-ctx.Done()
	return nil
}
