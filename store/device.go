package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// EntityInfo is what an entity carries besides its bytes: enough to rebuild the catalog from the storages alone.
type EntityInfo struct {
	ID          ObjectID
	Size        int64 // bytes; -1 in Create when it is not known beforehand
	Bucket      string
	Name        string
	ContentType string
	ETag        [16]byte  // MD5 of the content; zero in Create when it is not known beforehand
	Created     time.Time // the object's, to the second: storages send it as Last-Modified
	Stored      time.Time // when this storage made it durable; set by the storage, ignored on write
}

// Device is one storage's bytes: a disk in this process, or a storage node's over HTTP. storetest.Device is the suite
// that both pass. Safe for concurrent use.
type Device interface {
	// Put stores a small entity; when it returns nil the entity is durable. data is not kept. Storing an id again
	// replaces its entity (the content is the same by construction; this is how a corrupt one is repaired). ErrFull,
	// ErrReadOnly.
	Put(ctx context.Context, info EntityInfo, data []byte) error
	// Create begins an entity that is streamed. The caller must end it with Commit or Abort. ErrFull, ErrReadOnly.
	Create(ctx context.Context, info EntityInfo) (EntityWriter, error)
	// Get reads a whole entity of size bytes into buf (grown when too small) and returns the slice of it that was filled.
	// The bytes have been verified. ErrNoEntity, ErrCorrupt.
	Get(ctx context.Context, id ObjectID, size int64, buf []byte) ([]byte, error)
	// Open returns the bytes [off, off+n) of an entity; they are verified before they are handed out. n < 0: to the end.
	// ErrNoEntity, ErrCorrupt.
	Open(ctx context.Context, id ObjectID, off, n int64) (EntityReader, error)
	// Stat returns what is known of an entity without reading its bytes. ErrNoEntity.
	Stat(ctx context.Context, id ObjectID) (EntityInfo, error)
	// Delete removes entities; one that is not there is no error. When it returns nil the deletions are durable.
	Delete(ctx context.Context, ids []ObjectID) error
	// Manifest lists entities with ids in [from, to), in order of id, up to limit.
	Manifest(ctx context.Context, from, to ObjectID, limit int) ([]ManifestEntry, error)
	// Digest summarises the entities with ids in [from, to).
	Digest(ctx context.Context, from, to ObjectID) (RangeDigest, error)
	// Usage reports space.
	Usage(ctx context.Context) (Usage, error)
}

// EntityWriter takes the bytes of one entity. Not safe for concurrent use.
type EntityWriter interface {
	io.Writer
	// Commit makes the entity durable and visible. etag is the MD5 of what was written.
	Commit(ctx context.Context, etag [16]byte) error
	// Abort leaves nothing behind. After Commit it does nothing.
	Abort()
}

// EntityReader gives verified bytes. Its errors are *ReadError. WriteTo sends by sendfile where w is a [FileSender], and
// by splice where the bytes come from a socket and w is an io.ReaderFrom that knows how.
type EntityReader interface {
	io.Reader
	io.WriterTo
	io.Closer
}

// FileSender is a writer that can send a part of a file without copying it through memory.
type FileSender interface {
	SendFile(f *os.File, off, n int64) (int64, error)
}

// ReadError is a failure of the side that is read from, as opposed to that written to: what [EntityReader.WriteTo] returns
// when another storage can be asked for the rest.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return "read entity: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *ReadError) Unwrap() error { return e.Err }

// IsReadError reports whether err, or what it wraps, is a *ReadError.
func IsReadError(err error) bool {
	var re *ReadError
	return errors.As(err, &re)
}

// ManifestEntry is one entity in a manifest.
type ManifestEntry struct {
	ID     ObjectID
	Size   int64
	CRC    uint32    // crc32c of the whole content
	Stored time.Time // when this storage made it durable, to the second
}

// RangeDigest summarises a range of ids: equal digests mean equal sets of (id, size, crc).
type RangeDigest struct {
	Count int64
	Bytes int64
	Xor   uint64 // of EntryHash over the entries
}

// EntryHash is what [RangeDigest] combines: a hash of id, size and crc.
func EntryHash(id ObjectID, size int64, crc uint32) uint64 {
	h := uint64(id)*0x9e3779b97f4a7c15 ^ uint64(size)*0xc2b2ae3d27d4eb4f ^ uint64(crc)*0x165667b19e3779f9
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}

// Add counts an entry in.
func (d *RangeDigest) Add(id ObjectID, size int64, crc uint32) {
	d.Count++
	d.Bytes += size
	d.Xor ^= EntryHash(id, size, crc)
}

// Usage is a storage's space, in bytes.
type Usage struct {
	Capacity int64 // of the file system
	Free     int64 // of the file system, to us
	Live     int64 // bytes of entities
	Garbage  int64 // bytes of deleted entities that still take space
	Entities int64
	Reads    int64 // of entities, since the storage was opened
	ReadOnly bool  // nearly full, or failed: writes are refused
}

// EntityPath is the path of an entity below its storage's URI, in MogileFS's scheme: 25 is at 0/000/000/0000000025.fid.
func EntityPath(id ObjectID) string {
	s := fmt.Sprintf("%010d", uint64(id))
	return s[0:1] + "/" + s[1:4] + "/" + s[4:7] + "/" + s + ".fid"
}

// ParseEntityPath reads what [EntityPath] writes, and nothing else.
func ParseEntityPath(p string) (ObjectID, bool) {
	const dirs = len("0/000/000/")
	if len(p) < dirs+len("0000000000.fid") || len(p) > dirs+len("18446744073709551615.fid") {
		return 0, false
	}
	digits, ok := strings.CutSuffix(p[dirs:], ".fid")
	if !ok || len(digits) > 10 && digits[0] == '0' {
		return 0, false
	}
	id, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, false
	}
	if id == 0 || EntityPath(ObjectID(id)) != p {
		return 0, false
	}
	return ObjectID(id), true
}
