package disk

import (
	"encoding/binary"
	"time"

	"wheelhouse/store"
)

// entry is where an entity lies in a pack, and what is needed to verify it.
type entry struct {
	id     store.ObjectID
	off    int64  // of the member's first header
	size   uint32 // bytes of content
	crc    uint32 // crc32c of the content
	stored uint32 // seconds since 1970, until 2106
	blocks uint16 // of 512 bytes, before the content
	flags  uint16
}

// entrySize is an entry's in an index file, in bytes.
const entrySize = 32

// flagCorrupt marks a member whose content was found damaged when its pack was last scanned.
const flagCorrupt = 1

func (e entry) dataOff() int64 { return e.off + int64(e.blocks)*blockSize }

// length is the member's, with headers and padding.
func (e entry) length() int64 { return int64(e.blocks)*blockSize + padded(int64(e.size)) }

func (e entry) encode(b []byte) {
	_ = b[entrySize-1]
	binary.LittleEndian.PutUint64(b, uint64(e.id))
	binary.LittleEndian.PutUint64(b[8:], uint64(e.off))
	binary.LittleEndian.PutUint32(b[16:], e.size)
	binary.LittleEndian.PutUint32(b[20:], e.crc)
	binary.LittleEndian.PutUint32(b[24:], e.stored)
	binary.LittleEndian.PutUint16(b[28:], e.blocks)
	binary.LittleEndian.PutUint16(b[30:], e.flags)
}

func decodeEntry(b []byte) entry {
	_ = b[entrySize-1]
	return entry{
		id:     store.ObjectID(binary.LittleEndian.Uint64(b)),
		off:    int64(binary.LittleEndian.Uint64(b[8:])),
		size:   binary.LittleEndian.Uint32(b[16:]),
		crc:    binary.LittleEndian.Uint32(b[20:]),
		stored: binary.LittleEndian.Uint32(b[24:]),
		blocks: binary.LittleEndian.Uint16(b[28:]),
		flags:  binary.LittleEndian.Uint16(b[30:]),
	}
}

// entryOf is the index's view of a member.
func entryOf(m *member) entry {
	return entry{
		id:     m.info.ID,
		off:    m.at,
		size:   uint32(m.info.Size),
		crc:    m.crc,
		stored: uint32(max(0, m.info.Stored.Unix())),
		blocks: uint16(m.hdrLen / blockSize),
	}
}

// bitmap is a set of positions. The zero value is empty; it grows as needed.
type bitmap []uint64

func (b bitmap) has(i int) bool { return i>>6 < len(b) && b[i>>6]&(1<<(i&63)) != 0 }

// set adds position i of n.
func (b *bitmap) set(i, n int) {
	if need := (max(n, i+1) + 63) / 64; len(*b) < need {
		*b = append(*b, make([]uint64, need-len(*b))...)
	}
	(*b)[i>>6] |= 1 << (i & 63)
}

// unixSeconds is the time that an entry was stored at.
func unixSeconds(s uint32) time.Time { return time.Unix(int64(s), 0) }
