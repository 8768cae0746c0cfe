package disk

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"wheelhouse/store"
)

// find gives the place of an entity in the packs; p is nil when it is not in one.
func (d *Disk) find(id store.ObjectID) (p *pack, e entry, h *handle, err error) {
	p, e, h, err = d.packs.view().find(id)
	if err != nil {
		return nil, e, nil, fmt.Errorf("%w: object %d: %w", store.ErrCorrupt, id, err)
	}
	return p, e, h, nil
}

func noEntity(id store.ObjectID) error { return fmt.Errorf("%w: object %d", store.ErrNoEntity, id) }

// Get implements [store.Device]; a negative size means that it is not known. It allocates nothing when buf is large enough and the entity is in a pack.
func (d *Disk) Get(ctx context.Context, id store.ObjectID, size int64, buf []byte) ([]byte, error) {
	d.reads.Add(1)
	p, e, h, err := d.find(id)
	if err != nil {
		return nil, &store.ReadError{Err: err}
	}
	if p == nil {
		return d.getFile(id, size, buf)
	}
	defer h.release()
	if size < 0 {
		size = int64(e.size)
	}
	if int64(e.size) != size {
		return nil, sizeError(id, int64(e.size), size)
	}
	buf = slices.Grow(buf[:0], int(size))[:size]
	if n, err := h.ReadAt(buf, e.dataOff()); n < len(buf) {
		return nil, packReadError(p, e, err)
	}
	if !d.o.NoVerify {
		if crc := crc32.Checksum(buf, castagnoli); crc != e.crc {
			return nil, packReadError(p, e, fmt.Errorf("crc32c %08x, not %08x", crc, e.crc))
		}
	}
	return buf, nil
}

// sizeError is that of an entity which is not the one that the caller knows.
func sizeError(id store.ObjectID, have, want int64) error {
	return &store.ReadError{Err: fmt.Errorf("%w: object %d has %d bytes, not %d", store.ErrCorrupt, id, have, want)}
}

func packReadError(p *pack, e entry, err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return &store.ReadError{Err: fmt.Errorf("%w: object %d: pack %s at %d: %w", store.ErrCorrupt, e.id, p.base, e.off, err)}
}

// getFile is Get for an entity that is a file.
func (d *Disk) getFile(id store.ObjectID, size int64, buf []byte) ([]byte, error) {
	r, err := d.files.open(id, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size < 0 {
		size = r.Size()
	}
	if r.Size() != size {
		return nil, sizeError(id, r.Size(), size)
	}
	buf = slices.Grow(buf[:0], int(size))[:size]
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, err
	}
	return buf, nil
}

// Open implements [store.Device]. What it returns is a [*Reader].
func (d *Disk) Open(ctx context.Context, id store.ObjectID, off, n int64) (store.EntityReader, error) {
	r, err := d.OpenReader(id, off, n)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// OpenReader is Open with the concrete type.
func (d *Disk) OpenReader(id store.ObjectID, off, n int64) (*Reader, error) {
	d.reads.Add(1)
	p, e, h, err := d.find(id)
	if err != nil {
		return nil, &store.ReadError{Err: err}
	}
	if p == nil {
		return d.files.open(id, off, n)
	}
	return newReader(packSource(p, e, h), !d.o.NoVerify, off, n)
}

// packSource describes an entity in a pack. It takes over h.
func packSource(p *pack, e entry, h *handle) source {
	return source{
		h: h, id: e.id, base: e.dataOff(), size: int64(e.size),
		block: max(1, int64(e.size)), crcs: []uint32{e.crc},
		what:   p.base + packExt,
		header: func() (store.EntityInfo, error) { return readHeader(p, e, h) },
	}
}

// readHeader reads what a pack says of an entity.
func readHeader(p *pack, e entry, h *handle) (store.EntityInfo, error) {
	b := make([]byte, int(e.blocks)*blockSize)
	if n, err := h.ReadAt(b, e.off); n < len(b) {
		return store.EntityInfo{}, packReadError(p, e, err)
	}
	m, err := parseMember(b)
	if err == nil && (m.filler || m.info.ID != e.id || m.info.Size != int64(e.size)) {
		err = errors.New("header is another entity's")
	}
	if err != nil {
		return store.EntityInfo{}, packReadError(p, e, err)
	}
	return m.info, nil
}

// Stat implements [store.Device].
func (d *Disk) Stat(ctx context.Context, id store.ObjectID) (store.EntityInfo, error) {
	p, e, h, err := d.find(id)
	if err != nil {
		return store.EntityInfo{}, &store.ReadError{Err: err}
	}
	if p == nil {
		return d.files.stat(id)
	}
	defer h.release()
	return readHeader(p, e, h)
}
