package disk

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"wheelhouse/store"
)

// blockBytes is what one checksum of a large entity covers.
const blockBytes = 1 << 20

// sendThreshold is the size in bytes from which sendfile pays: below, one write of verified memory is cheaper.
const sendThreshold = 64 << 10

// verifyChunk is how much is read at a time only to be verified; it stays in the processor's cache.
const verifyChunk = 256 << 10

var chunks = sync.Pool{New: func() any { b := make([]byte, verifyChunk); return &b }}

var blocks = sync.Pool{New: func() any { b := make([]byte, blockBytes); return &b }}

// source is an entity's bytes in a file.
type source struct {
	h      *handle // is owned
	base   int64   // offset in the file of the entity's first byte
	size   int64
	block  int64    // bytes that one checksum covers
	crcs   []uint32 // one per block; nil: none are known
	what   string   // for errors: where the entity lies
	id     store.ObjectID
	header func() (store.EntityInfo, error)
}

// Reader gives an entity's bytes, each block verified before it is handed out. Not safe for concurrent use.
type Reader struct {
	src    source
	verify bool
	pos    int64 // in the entity, of the next byte
	end    int64 // of the range asked for

	buf      *[]byte // from blocks, or its own; holds the block bufBlock
	bufBlock int64   // -1: none
	bufLen   int64

	verified int64 // 1 + the block that Verify has looked at
}

var _ store.EntityReader = (*Reader)(nil)

// newReader takes over src. off and n are clipped to the entity.
func newReader(src source, verify bool, off, n int64) (*Reader, error) {
	if off < 0 || off > src.size {
		src.h.release()
		return nil, &store.ReadError{Err: fmt.Errorf("disk: open %d: offset %d of %d bytes", src.id, off, src.size)}
	}
	end := src.size
	if n >= 0 && n < src.size-off {
		end = off + n
	}
	return &Reader{src: src, verify: verify && src.crcs != nil, pos: off, end: end, bufBlock: -1}, nil
}

// Size is that of the whole entity, in bytes.
func (r *Reader) Size() int64 { return r.src.size }

// Info reads what is known of the entity, as [Disk.Stat] does, of the very copy that is being read.
func (r *Reader) Info() (store.EntityInfo, error) {
	if r.src.h == nil {
		return store.EntityInfo{}, &store.ReadError{Err: errClosed}
	}
	return r.src.header()
}

// blockSpan is the place of block i in the entity.
func (r *Reader) blockSpan(i int64) (from, n int64) {
	from = i * r.src.block
	return from, min(r.src.block, r.src.size-from)
}

func (r *Reader) fail(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &store.ReadError{Err: fmt.Errorf("%w: object %d: %s: %w", store.ErrCorrupt, r.src.id, r.src.what, err)}
}

// check compares the checksum of block i.
func (r *Reader) check(i int64, crc uint32) error {
	if want := r.src.crcs[i]; crc != want {
		from, n := r.blockSpan(i)
		return &store.ReadError{Err: fmt.Errorf("%w: object %d: %s: bytes %d to %d: crc32c %08x, not %08x",
			store.ErrCorrupt, r.src.id, r.src.what, from, from+n, crc, want)}
	}
	return nil
}

// load brings block i into the buffer, verified.
func (r *Reader) load(i int64) error {
	if r.bufBlock == i {
		return nil
	}
	from, n := r.blockSpan(i)
	if r.buf == nil {
		if n <= blockBytes {
			r.buf = blocks.Get().(*[]byte)
		} else {
			b := make([]byte, n)
			r.buf = &b
		}
	}
	r.bufBlock = -1
	b := (*r.buf)[:n]
	if m, err := r.src.h.ReadAt(b, r.src.base+from); int64(m) < n {
		return r.fail(err)
	}
	if r.verify {
		if err := r.check(i, crc32.Checksum(b, castagnoli)); err != nil {
			return err
		}
	}
	r.bufBlock, r.bufLen = i, n
	return nil
}

// rest gives the verified bytes of the current block that are still to be handed out; none at the end.
func (r *Reader) rest() ([]byte, error) {
	if r.src.h == nil {
		return nil, &store.ReadError{Err: errClosed}
	}
	if r.pos >= r.end {
		return nil, nil
	}
	i := r.pos / r.src.block
	if err := r.load(i); err != nil {
		return nil, err
	}
	from := i * r.src.block
	return (*r.buf)[r.pos-from : min(r.bufLen, r.end-from)], nil
}

// Verify looks at the block that is handed out next, and says what Read and WriteTo would say of it. Who has to promise something
// before the first byte, as HTTP does with its status, asks beforehand.
func (r *Reader) Verify() error {
	if !r.verify || r.src.h == nil || r.end-r.pos <= sendThreshold {
		_, err := r.rest() // it is kept
		return err
	}
	i := r.pos / r.src.block
	if err := r.verifyBlock(i); err != nil {
		return err
	}
	r.verified = i + 1
	return nil
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := r.rest()
	if err != nil {
		return 0, err
	}
	if len(b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b)
	r.pos += int64(n)
	return n, nil
}

// WriteTo implements io.WriterTo. A *store.ReadError is this side's; any other error is w's. The count is exact.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	fs, ok := w.(store.FileSender)
	if ok && r.end-r.pos > sendThreshold {
		return r.send(fs)
	}
	var total int64
	for {
		b, err := r.rest()
		if err != nil || len(b) == 0 {
			return total, err
		}
		n, err := w.Write(b)
		total += int64(n)
		r.pos += int64(n)
		if err == nil && n < len(b) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
	}
}

// send hands the rest out by sendfile, block by block.
func (r *Reader) send(w store.FileSender) (int64, error) {
	if r.src.h == nil {
		return 0, &store.ReadError{Err: errClosed}
	}
	var total int64
	for r.pos < r.end {
		end := r.end
		if r.verify {
			i := r.pos / r.src.block
			if r.bufBlock != i && r.verified != i+1 {
				if err := r.verifyBlock(i); err != nil {
					return total, err
				}
			}
			from, n := r.blockSpan(i)
			end = min(r.end, from+n)
		}
		n, err := w.SendFile(r.src.h.OSFile(), r.src.base+r.pos, end-r.pos)
		total += n
		r.pos += n
		switch {
		case errors.Is(err, unix.EIO):
			return total, r.fail(err) // a socket never gives this
		case err != nil:
			return total, err
		case r.pos < end:
			return total, r.fail(io.ErrUnexpectedEOF) // the file has become shorter
		}
	}
	return total, nil
}

// verifyBlock reads block i only to check it.
func (r *Reader) verifyBlock(i int64) error {
	from, n := r.blockSpan(i)
	bp := chunks.Get().(*[]byte)
	defer chunks.Put(bp)
	var crc uint32
	for done := int64(0); done < n; {
		b := (*bp)[:min(verifyChunk, n-done)]
		if m, err := r.src.h.ReadAt(b, r.src.base+from+done); m < len(b) {
			return r.fail(err)
		}
		crc = crc32.Update(crc, castagnoli, b)
		done += int64(len(b))
	}
	return r.check(i, crc)
}

// Close implements io.Closer.
func (r *Reader) Close() error {
	if r.src.h == nil {
		return nil
	}
	r.src.h.release()
	r.src.h = nil
	if r.buf != nil && len(*r.buf) == blockBytes {
		blocks.Put(r.buf)
	}
	r.buf = nil
	return nil
}
