package disk

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strconv"
	"time"

	"wheelhouse/store"
)

// A member of a pack is, in blocks of 512 bytes: a header of type 'x' (POSIX.1-2001 pax), its records, an ordinary
// ustar header, the content. What the archive format has no place for is in records that tar programs take for extended
// attributes, and restore as such; they read all of it without a warning.

const blockSize = 512

// The keys of the pax records.
const (
	paxPath    = "path"
	paxComment = "comment"
	paxMime    = "SCHILY.xattr.user.mime_type"
	paxOwn     = "SCHILY.xattr.user.wheelhouse."
	keyID      = paxOwn + "id"
	keyBucket  = paxOwn + "bucket"  // only when it is not in the path
	keyName    = paxOwn + "name"    // only when it is not in the path
	keyCreated = paxOwn + "created" // only when the header's mtime cannot hold it
	keyMD5     = paxOwn + "md5"
	keyCRC     = paxOwn + "crc32c"
	keyStored  = paxOwn + "stored"
	keyPack    = paxOwn + "pack"  // which pack this was written to, where in it, where its batch began
	keyCheck   = paxOwn + "check" // crc32c of the records before it and of the ustar header; the last record
)

// maxPax bounds the records of one member, in bytes: two names of 1 KiB, a content type, and the fixed ones.
const maxPax = 8 << 10

// maxHeader bounds what precedes a member's content.
const maxHeader = blockSize + maxPax + blockSize

// maxMtime is the greatest time that 11 octal digits hold: the year 2242.
const maxMtime = 1<<33 - 1

// offsetDigits is the width of an offset in the pack record, so that it can be filled in once it is known.
const offsetDigits = 12

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// member is what a header says of an entity, and where it says it.
type member struct {
	info   store.EntityInfo
	crc    uint32 // crc32c of the content
	pack   uint64 // uid of the pack that it was written to
	at     int64  // offset in the pack of the first header
	batch  int64  // everything before this offset was durable when the member was written
	hdrLen int64  // bytes from at to the content
	filler bool   // not an entity, but what recovery put over a damaged place
}

// padded is n rounded up to whole blocks.
func padded(n int64) int64 { return (n + blockSize - 1) &^ (blockSize - 1) }

// length is the member's, with headers and padding.
func (m *member) length() int64 { return m.hdrLen + padded(m.info.Size) }

// header is an encoded header with the places that are filled in last.
type header struct {
	b       []byte
	packPos int // where "uid at batch" begins
	sumPos  int // where the check's digits begin
	paxEnd  int // end of the records, without padding
}

// appendHeader encodes m's header to h.b. place must follow.
func appendHeader(h *header, m *member) {
	b := h.b[:0]
	b = append(b, zeroBlock[:]...) // the 'x' header, filled in below
	path, plain := memberPath(m.info.ID, m.info.Bucket, m.info.Name)
	prefix, fits := splitUstar(path)
	if !fits {
		b = appendRecord(b, paxPath, path)
	}
	if m.info.ContentType != "" {
		b = appendRecord(b, paxMime, m.info.ContentType)
	}
	var num [32]byte
	b = appendRecord(b, keyID, strconv.AppendUint(num[:0], uint64(m.info.ID), 10))
	if !plain {
		b = appendRecord(b, keyBucket, m.info.Bucket)
		b = appendRecord(b, keyName, m.info.Name)
	}
	mtime := m.info.Created.Unix()
	if mtime < 0 || mtime > maxMtime {
		b = appendRecord(b, keyCreated, strconv.FormatInt(mtime, 10))
		mtime = 0
	}
	if m.info.ETag != [16]byte{} {
		b = appendRecord(b, keyMD5, hex.AppendEncode(num[:0], m.info.ETag[:]))
	}
	b = appendRecord(b, keyCRC, appendHex(num[:0], uint64(m.crc), 8))
	b = appendRecord(b, keyStored, appendStored(num[:0], m.info.Stored))
	const packLen = 16 + 1 + offsetDigits + 1 + offsetDigits
	b = appendRecord(b, keyPack, zeroDigits[:packLen])
	h.packPos = len(b) - 1 - packLen
	b = appendRecord(b, keyCheck, "00000000")
	h.sumPos = len(b) - 1 - 8
	h.paxEnd = len(b)
	b = append(b, zeroBlock[:int(padded(int64(len(b))))-len(b)]...)

	n := len(b)
	b = append(b, zeroBlock[:]...)
	var name [32]byte
	xname := strconv.AppendUint(append(name[:0], "PaxHeaders/"...), uint64(m.info.ID), 10)
	fillUstar(b[:blockSize], xname, "", 'x', int64(h.paxEnd-blockSize), mtime)
	if !fits {
		path, prefix = path[:cutUTF8(path, 100)], ""
	} else if prefix != "" {
		path = path[len(prefix)+1:]
	}
	fillUstar(b[n:], []byte(path), prefix, '0', m.info.Size, mtime)
	h.b = b
}

// place fills in where the member lies: the part of a header that is not known before its batch is written.
func (h *header) place(pack uint64, at, batch int64) {
	p := appendHex(h.b[:h.packPos], pack, 16)
	p = appendDec(append(p, ' '), at, offsetDigits)
	appendDec(append(p, ' '), batch, offsetDigits)
	appendHex(h.b[:h.sumPos], uint64(h.sum()), 8)
}

// sum is the check: everything from the first record up to the check's own, and the ustar header.
func (h *header) sum() uint32 {
	return headerSum(h.b[blockSize:h.sumPos], h.b[len(h.b)-blockSize:])
}

func headerSum(records, ustar []byte) uint32 {
	return crc32.Update(crc32.Checksum(records, castagnoli), castagnoli, ustar)
}

// appendRecord appends one pax record, "length key=value\n", where length counts its own digits too.
func appendRecord[V string | []byte](b []byte, key string, value V) []byte {
	n := len(key) + len(value) + 3
	length := n + digits(n)
	length = n + digits(length)
	b = strconv.AppendInt(b, int64(length), 10)
	b = append(b, ' ')
	b = append(b, key...)
	b = append(b, '=')
	b = append(b, value...)
	return append(b, '\n')
}

func digits(n int) int {
	d := 1
	for n >= 10 {
		n /= 10
		d++
	}
	return d
}

// splitUstar finds the prefix by which path fits a ustar header (POSIX: 155 and 100 bytes, divided at a slash).
func splitUstar(path string) (prefix string, ok bool) {
	if len(path) <= 100 {
		return "", true
	}
	for i := min(155, len(path)-1); i >= len(path)-101 && i > 0; i-- {
		if path[i] == '/' {
			return path[:i], true
		}
	}
	return "", false
}

// cutUTF8 is the greatest length ≤ n at which s can be cut without breaking a character.
func cutUTF8(s string, n int) int {
	if len(s) <= n {
		return len(s)
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return n
}

// fillUstar writes a header block. h must be zero.
func fillUstar(h []byte, name []byte, prefix string, kind byte, size, mtime int64) {
	copy(h[0:100], name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	appendOct(h[:124], size, 11)
	appendOct(h[:136], mtime, 11)
	copy(h[148:156], "        ")
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	copy(h[345:500], prefix)
	appendOct(h[:148], ustarSum(h), 6)
	h[154] = 0
}

// ustarSum is the sum of the header's bytes, the checksum's own counted as spaces.
func ustarSum(h []byte) int64 {
	// Eight bytes at once, in four sums of 16 bits: each is of 128 bytes, for which that is enough.
	const even = 0x00ff00ff00ff00ff
	var sums uint64
	for rest := h[:blockSize]; len(rest) >= 8; rest = rest[8:] {
		v := binary.LittleEndian.Uint64(rest)
		sums += v&even + v>>8&even
	}
	sum := int64(sums&0xffff + sums>>16&0xffff + sums>>32&0xffff + sums>>48)
	for _, c := range h[148:156] {
		sum += ' ' - int64(c)
	}
	return sum
}

func appendOct(b []byte, v int64, width int) []byte {
	for i := width - 1; i >= 0; i-- {
		b = append(b, byte('0'+v>>(3*i)&7))
	}
	return b
}

func appendHex(b []byte, v uint64, width int) []byte {
	for i := width - 1; i >= 0; i-- {
		b = append(b, "0123456789abcdef"[v>>(4*i)&15])
	}
	return b
}

func appendDec(b []byte, v int64, width int) []byte {
	n := len(b)
	b = append(b, zeroDigits[:width]...)
	for i := n + width - 1; i >= n; i-- {
		b[i] = byte('0' + v%10)
		v /= 10
	}
	return b
}

// appendStored writes a time as seconds and nanoseconds since 1970, as pax does in its own records.
func appendStored(b []byte, t time.Time) []byte {
	b = strconv.AppendInt(b, t.Unix(), 10)
	return appendDec(append(b, '.'), int64(t.Nanosecond()), 9)
}

var (
	zeroBlock  [blockSize]byte
	zeroDigits = [64]byte([]byte("0000000000000000000000000000000000000000000000000000000000000000"))
)

// The first member of each pack is a pax global header with one record, a comment, which every tar program skips:
// "wheelhouse pack 1 storage 7 number 12 uid 89abcdef01234567 check 01234567".

const packHeaderLen = 2 * blockSize

const packComment = "wheelhouse pack 1 storage "

// encodePackHeader makes the head of a pack. created is in seconds since 1970.
func encodePackHeader(id store.StorageID, number, uid uint64, created int64) []byte {
	text := strconv.AppendUint([]byte(packComment), uint64(id), 10)
	text = strconv.AppendUint(append(text, " number "...), number, 10)
	text = appendHex(append(text, " uid "...), uid, 16)
	sum := crc32.Checksum(text, castagnoli)
	text = appendHex(append(text, " check "...), uint64(sum), 8)
	b := appendRecord(make([]byte, blockSize, packHeaderLen), paxComment, text)
	fillUstar(b[:blockSize], []byte("pax_global_header"), "", 'g', int64(len(b)-blockSize), created)
	return b[:packHeaderLen]
}

// newUID makes a pack's uid: never zero, which stands for "not known".
func newUID(random [8]byte) uint64 { return binary.LittleEndian.Uint64(random[:]) | 1<<63 }
