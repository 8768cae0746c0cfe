package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"wheelhouse/store"
)

// PackInfo describes a pack to those who copy packs in bulk.
type PackInfo struct {
	Name         string // of the archive, without a directory
	UID          uint64 // of this version of it
	Size         int64  // bytes that hold members
	Sealed       bool   // it is not appended to any more; it may still be rewritten
	MinID, MaxID store.ObjectID
	Entities     int64 // that are alive
	Live         int64 // bytes of their members
}

// Packs lists the packs, the oldest first.
func (d *Disk) Packs() []PackInfo {
	var all []PackInfo
	for _, p := range d.packs.list() {
		lo, hi, _ := p.bounds()
		p.mu.RLock()
		all = append(all, PackInfo{Name: packName(p.number) + packExt, UID: p.uid, Live: p.live.length, Size: p.end, Sealed: p.sealed, MinID: lo, MaxID: hi, Entities: p.live.n})
		p.mu.RUnlock()
	}
	return all
}

// OpenPack opens a pack by the name that Packs gave. What is read of it is not verified: each member carries what is
// needed for that.
func (d *Disk) OpenPack(name string) (*PackReader, error) {
	for _, p := range d.packs.list() {
		if packName(p.number)+packExt != name {
			continue
		}
		h, end, err := p.acquire()
		if err != nil {
			return nil, err
		}
		return &PackReader{h: h, size: end}, nil
	}
	return nil, fmt.Errorf("disk: no pack %q", strings.ToValidUTF8(name, "?"))
}

// PackReader reads one version of a pack, also when it is rewritten meanwhile.
type PackReader struct {
	h    *handle
	size int64
}

// Size is how many bytes hold members; what was appended since is not counted.
func (r *PackReader) Size() int64 { return r.size }

// ReadAt implements io.ReaderAt.
func (r *PackReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= r.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > r.size-off
	if short {
		p = p[:r.size-off]
	}
	n, err := r.h.ReadAt(p, off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// Close implements io.Closer. It must be called once.
func (r *PackReader) Close() error {
	r.h.release()
	return nil
}

// Member is one entity of a pack, as [Members] gives it.
type Member struct {
	Info store.EntityInfo
	CRC  uint32 // crc32c of the content
	Off  int64  // of the content in the pack
}

// Members calls yield for each entity of a pack of size bytes, of this storage or of another, in the order in which
// they lie; an id may come more than once, the last one counts, and some may have been deleted since. Contents have
// been verified; what is damaged is passed over. It fails when r or yield does.
func Members(ctx context.Context, r io.ReaderAt, size int64, yield func(Member) error) error {
	res, err := scanPack(r, size, packHeaderLen, 0, func(m scanned) error {
		if m.bad {
			return ctx.Err()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return yield(Member{Info: m.info, CRC: m.crc, Off: m.at + m.hdrLen})
	})
	return errors.Join(err, res.readErr)
}

// Files lists the entities that are files, with ids ≥ from, up to limit.
func (d *Disk) Files(ctx context.Context, from store.ObjectID, limit int) ([]store.ManifestEntry, error) {
	var c fileCursor
	c.reset(d.files, from, maxID)
	defer c.stop()
	var all []store.ManifestEntry
	for c.ok && len(all) < limit {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		all = append(all, c.entry())
		c.next()
	}
	return all, c.err
}
