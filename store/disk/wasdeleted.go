package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"wheelhouse/store"
)

// WasDeleted reports whether an entity was stored in a pack, is not there any more, and was deleted or replaced. It forgets: a pack that
// was rewritten knows nothing of what it lost, and files leave no trace.
func (d *Disk) WasDeleted(id store.ObjectID) bool {
	was := false
	for _, p := range d.packs.list() {
		if p.has(id) {
			return false
		}
		was = was || p.holds(id)
	}
	return was && !d.files.has(id)
}

// IsStorage reports whether a directory is a storage's already, of whatever id: where its disk is not mounted, it is not.
func IsStorage(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, markerName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
