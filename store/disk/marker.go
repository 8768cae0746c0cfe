package disk

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

const (
	markerName    = "wheelhouse.storage"
	markerVersion = 1
)

// marker says what a directory is. It is a text file of "key value" lines.
type marker struct {
	version int
	id      store.StorageID
	layout  string
	created time.Time
}

func (m marker) text() []byte {
	return fmt.Appendf(nil, "# This directory is a storage of Wheelhouse. Do not remove this file.\nversion %d\nstorage %d\nlayout %s\ncreated %s\n",
		m.version, m.id, m.layout, m.created.UTC().Format(time.RFC3339))
}

func parseMarker(b []byte) (marker, error) {
	var m marker
	sc := bufio.NewScanner(bytes.NewReader(b))
	for sc.Scan() {
		key, val, _ := strings.Cut(sc.Text(), " ")
		var err error
		switch key {
		case "version":
			m.version, err = strconv.Atoi(val)
		case "storage":
			var n uint64
			n, err = strconv.ParseUint(val, 10, 32)
			m.id = store.StorageID(n)
		case "layout":
			m.layout = val
		case "created":
			m.created, err = time.Parse(time.RFC3339, val)
		}
		if err != nil {
			return m, fmt.Errorf("%s: %w", key, err)
		}
	}
	if err := sc.Err(); err != nil {
		return m, err
	}
	switch {
	case m.version == 0 || m.id == 0 || m.layout == "":
		return m, errors.New("incomplete")
	case m.version > markerVersion:
		return m, fmt.Errorf("format version %d is newer than this program's, %d", m.version, markerVersion)
	}
	return m, nil
}

// readMarker reports whether the directory is this storage already. It refuses one that is another's, or that may not
// become one, and writes nothing.
func readMarker(dir string, o Options) (ours bool, err error) {
	path := filepath.Join(dir, markerName)
	b, err := faultfs.ReadFile(o.FS, path, 4<<10)
	if errors.Is(err, fs.ErrNotExist) {
		if o.MustExist {
			return false, fmt.Errorf("%w: %s is not there: is the disk of storage %d mounted?", store.ErrAbsent, path, o.StorageID)
		}
		return false, checkVirgin(dir, o)
	}
	if err != nil {
		return false, err
	}
	m, err := parseMarker(b)
	switch {
	case err != nil:
		return false, fmt.Errorf("%s: %w", path, err)
	case m.id != o.StorageID:
		return false, fmt.Errorf("%s: the directory belongs to storage %d, not to storage %d", dir, m.id, o.StorageID)
	case m.layout != o.Layout:
		return false, fmt.Errorf("%s: the directory has layout %q, not %q", dir, m.layout, o.Layout)
	}
	return true, nil
}

// writeMarker makes a directory a storage.
func writeMarker(dir string, o Options) error {
	m := marker{version: markerVersion, id: o.StorageID, layout: o.Layout, created: o.Now()}
	return atomicfile.Write(o.FS, filepath.Join(dir, markerName), 0o644, m.text())
}

// checkVirgin refuses a directory without a marker that holds something: with packs it must be empty, with files it may
// be a mogstored device.
func checkVirgin(dir string, o Options) error {
	if o.Layout == LayoutFiles {
		return nil
	}
	names, err := o.FS.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		if n := e.Name(); n != "lost+found" && n != lockName && !atomicfile.IsTemp(n) {
			return fmt.Errorf("%s: not empty (it holds %q) and without %s: not a storage, and will not be made one", dir, n, markerName)
		}
	}
	return nil
}
