package segcache

import (
	"encoding/binary"
	"unsafe"
)

// An item in memory, in the processor's byte order:
//
//	 0  head: length of the key (8 bits), mark bits (8), low 16 bits of the value's length
//	 4  expiry time, 0: never
//	 8  time of the last access
//	12  version (8 bytes)
//	20  the value's length, if markLong (4)
//	    flags, if markFlags (4)
//	    generation, if markGen (4): of the flushes of its prefixes and tags; its highest bit is genTagged
//	    key, value; with genTagged, which the value's length includes, the tags with commas between and their length (1)
//	    zeros up to a multiple of 4
const (
	headerSize = 20
	unit       = 4 // items begin at multiples of it

	// MaxKey is the length of the longest key, in bytes.
	MaxKey = 255
	// MaxValue is the length of the longest value, in bytes.
	MaxValue = 1<<31 - 1
	// MaxTags is the length of an item's tags, with the commas between them, in bytes.
	MaxTags = 255

	genTagged = 1 << 31
)

const (
	markFlags uint32 = 1 << (8 + iota)
	markLong
	markGen
	markStale
	markToken
	markFetched
	markBinary
	markDead
)

// Marks are what a cache's user may note of an item.
type Marks uint8

// The marks of the meta protocol's items.
const (
	Stale     Marks = Marks(markStale >> 8)   // is to be replaced
	TokenSent Marks = Marks(markToken >> 8)   // somebody has been told to replace it
	Fetched   Marks = Marks(markFetched >> 8) // was read since it was stored
	BinaryKey Marks = Marks(markBinary >> 8)  // the key came in base64

	allMarks = Stale | TokenSent | Fetched | BinaryKey
)

func (c *Cache) word(addr uint64) *uint32 { return (*uint32)(unsafe.Add(c.base, addr)) }
func (c *Cache) bytes(addr uint64, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(c.base, addr)), n)
}

func (c *Cache) loadCAS(addr uint64) uint64 { return binary.NativeEndian.Uint64(c.bytes(addr+12, 8)) }

func (c *Cache) storeCAS(addr uint64, version uint64) {
	binary.NativeEndian.PutUint64(c.bytes(addr+12, 8), version)
}

// extra is the number of bytes between the fixed header and the key.
func extra(head uint32) int {
	return unit * int(head>>8&1+head>>9&1+head>>10&1)
}

// valueLen is the length of the value of the item at addr, with its tags.
func (c *Cache) valueLen(addr uint64, head uint32) int {
	if head&markLong != 0 {
		return int(*c.word(addr + headerSize))
	}
	return int(head >> 16)
}

// itemSize is the memory that an item takes.
func itemSize(head uint32, valueLen int) int {
	return (headerSize + extra(head) + int(head&0xff) + valueLen + unit - 1) &^ (unit - 1)
}

func (c *Cache) keyAt(addr uint64, head uint32) []byte {
	return c.bytes(addr+headerSize+uint64(extra(head)), int(head&0xff))
}

// payloadAt is the value of the item at addr, and its tags.
func (c *Cache) payloadAt(addr uint64, head uint32) []byte {
	return c.bytes(addr+headerSize+uint64(extra(head))+uint64(head&0xff), c.valueLen(addr, head))
}

// tagBytes is how much of an item's value are its tags.
func (c *Cache) tagBytes(addr uint64, head uint32) int {
	if head&markGen == 0 || *c.genWord(addr, head)&genTagged == 0 {
		return 0
	}
	end := addr + headerSize + uint64(extra(head)) + uint64(head&0xff) + uint64(c.valueLen(addr, head))
	return int(*(*byte)(unsafe.Add(c.base, end-1))) + 1
}

func (c *Cache) valueAt(addr uint64, head uint32) []byte {
	p := c.payloadAt(addr, head)
	return p[:len(p)-c.tagBytes(addr, head)]
}

// tagsAt is what the item at addr is tagged with, commas between; nil: nothing.
func (c *Cache) tagsAt(addr uint64, head uint32) []byte {
	n := c.tagBytes(addr, head)
	if n == 0 {
		return nil
	}
	p := c.payloadAt(addr, head)
	return p[len(p)-n : len(p)-1]
}

// flagsAt returns the flags of the item at addr.
func (c *Cache) flagsAt(addr uint64, head uint32) uint32 {
	if head&markFlags == 0 {
		return 0
	}
	return *c.word(addr + headerSize + unit*uint64(head>>9&1))
}

// genWord is where an item with markGen has its generation.
func (c *Cache) genWord(addr uint64, head uint32) *uint32 {
	return c.word(addr + headerSize + unit*uint64(head>>8&1+head>>9&1))
}

// genAt returns the last flush that concerned the item when it was stored.
func (c *Cache) genAt(addr uint64, head uint32) uint32 {
	if head&markGen == 0 {
		return 0
	}
	return *c.genWord(addr, head) &^ genTagged
}

// makeHead is the head of a new item.
func makeHead(keyLen, valueLen int, flags, gen uint32, marks Marks) uint32 {
	head := uint32(keyLen) | uint32(marks&allMarks)<<8
	if flags != 0 {
		head |= markFlags
	}
	if gen != 0 {
		head |= markGen
	}
	if valueLen > 0xffff {
		return head | markLong
	}
	return head | uint32(valueLen)<<16
}

// writeHeader writes all of an item but its key and value.
func (c *Cache) writeHeader(addr uint64, head uint32, valueLen int, exp, now, flags, gen uint32, version uint64) {
	*c.word(addr) = head
	*c.word(addr + 4) = exp
	*c.word(addr + 8) = now
	c.storeCAS(addr, version)
	p := addr + headerSize
	for _, opt := range [...]struct{ mark, value uint32 }{{markLong, uint32(valueLen)}, {markFlags, flags}, {markGen, gen}} {
		if head&opt.mark != 0 {
			*c.word(p) = opt.value
			p += unit
		}
	}
}
