package disk

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"wheelhouse/store"
)

// What is known of an entity that is a file is a text, in an extended attribute or in a file beside it:
//
//	wheelhouse entity 1
//	id 25
//	size 2097152
//	bucket "photos"
//	name "2026/cat.jpg"
//	type "image/jpeg"
//	md5 900150983cd24fb0d6963f7d28e17f72
//	created 1762516800
//	stored 1762516801.123456789
//	crc32c 364b3fb7
//	blocks 00000001 00000002
//	check 01234567
//
// Strings are quoted as in Go. blocks has the crc32c of each MiB of an entity larger than that, on as many lines as
// needed. check is the crc32c of the record's bytes before it. A file may hold two records while its entity is being
// replaced by one with another content: the data is one or the other.

const metaMagic = "wheelhouse entity 1\n"

// maxMetaFile bounds such a text, in bytes: two records of the greatest entity.
const maxMetaFile = 128 << 20

// fileMeta is one record.
type fileMeta struct {
	info   store.EntityInfo
	crc    uint32
	blocks []uint32 // per blockBytes; nil when there is one block only, which crc covers
	bare   bool     // there is no record: the file was adopted, and nothing is known but its size and time
}

// sums gives the checksums of the blocks; nil when none are known.
func (m *fileMeta) sums() []uint32 {
	switch {
	case m.bare:
		return nil
	case m.blocks == nil:
		return []uint32{m.crc}
	}
	return m.blocks
}

// same reports whether both describe the same bytes.
func (m *fileMeta) same(o *fileMeta) bool {
	return m.info.Size == o.info.Size && m.crc == o.crc && !m.bare && !o.bare
}

func (m *fileMeta) appendText(b []byte) []byte {
	n := len(b)
	b = fmt.Appendf(b, metaMagic+"id %d\nsize %d\nbucket %q\nname %q\ntype %q\n", m.info.ID, m.info.Size, m.info.Bucket, m.info.Name, m.info.ContentType)
	b = fmt.Appendf(b, "md5 %x\ncreated %d\nstored ", m.info.ETag, m.info.Created.Unix())
	b = appendStored(b, m.info.Stored)
	b = fmt.Appendf(b, "\ncrc32c %08x\n", m.crc)
	for i, c := range m.blocks {
		if i%8 == 0 {
			b = append(b, "blocks"...)
		}
		b = appendHex(append(b, ' '), uint64(c), 8)
		if i%8 == 7 || i == len(m.blocks)-1 {
			b = append(b, '\n')
		}
	}
	return fmt.Appendf(b, "check %08x\n", crc32.Checksum(b[n:], castagnoli))
}

var errMeta = errors.New("damaged record of an entity")

// parseMetas reads one record or two. The text must hold nothing else.
func parseMetas(b []byte) ([]*fileMeta, error) {
	var all []*fileMeta
	for len(b) > 0 && len(all) < 2 {
		m, rest, err := parseMeta(b)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
		b = rest
	}
	if len(all) == 0 || len(b) > 0 {
		return nil, errMeta
	}
	return all, nil
}

func parseMeta(b []byte) (*fileMeta, []byte, error) {
	if !bytes.HasPrefix(b, []byte(metaMagic)) {
		return nil, nil, errMeta
	}
	m := &fileMeta{}
	for at := len(metaMagic); ; {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			return nil, nil, errMeta
		}
		key, val, _ := strings.Cut(string(b[at:at+n]), " ")
		if key == "check" {
			sum, err := strconv.ParseUint(val, 16, 32)
			if err != nil || uint32(sum) != crc32.Checksum(b[:at], castagnoli) || !m.consistent() {
				return nil, nil, errMeta
			}
			return m, b[at+n+1:], nil
		}
		if err := m.take(key, val); err != nil {
			return nil, nil, fmt.Errorf("%w: %s", errMeta, key)
		}
		at += n + 1
	}
}

// consistent reports whether the number of blocks suits the size.
func (m *fileMeta) consistent() bool {
	if m.info.ID == 0 || m.info.Size < 0 || m.info.Size > store.MaxObjectSize {
		return false
	}
	want := (m.info.Size + blockBytes - 1) / blockBytes
	return want <= 1 && m.blocks == nil || int64(len(m.blocks)) == want
}

// take stores one line. Keys that are not known are skipped: they come from a later version.
func (m *fileMeta) take(key, val string) (err error) {
	var n int64
	switch key {
	case "id":
		var id uint64
		id, err = strconv.ParseUint(val, 10, 64)
		m.info.ID = store.ObjectID(id)
	case "size":
		m.info.Size, err = strconv.ParseInt(val, 10, 64)
	case "bucket":
		m.info.Bucket, err = strconv.Unquote(val)
	case "name":
		m.info.Name, err = strconv.Unquote(val)
	case "type":
		m.info.ContentType, err = strconv.Unquote(val)
	case "md5":
		var b []byte
		b, err = hex.DecodeString(val)
		copy(m.info.ETag[:], b)
	case "created":
		n, err = strconv.ParseInt(val, 10, 64)
		m.info.Created = time.Unix(n, 0)
	case "stored":
		m.info.Stored, err = parseStored(val)
	case "crc32c":
		m.crc, err = parseCRC(val)
	case "blocks":
		for f := range strings.FieldsSeq(val) {
			c, err := parseCRC(f)
			if err != nil {
				return err
			}
			m.blocks = append(m.blocks, c)
		}
	}
	return err
}

func parseCRC(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 16, 32)
	return uint32(n), err
}
