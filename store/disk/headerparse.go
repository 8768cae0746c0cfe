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

var (
	errZero      = errors.New("zero block") // where a tar ends
	errShort     = errors.New("header continues beyond the bytes given")
	errNotMember = errors.New("not a member of a pack")
)

// parseMember reads the header at the beginning of b. With errShort, more bytes are needed: maxHeader are always enough.
// What it returns without error has passed all checksums of the header; the content has not been looked at.
func parseMember(b []byte) (member, error) {
	if len(b) < blockSize {
		return member{}, errShort
	}
	if isZero(b[:blockSize]) {
		return member{}, errZero
	}
	x, err := parseUstar(b)
	if err != nil {
		return member{}, err
	}
	switch x.kind {
	case 'x':
	case 'g':
		if x.size > maxPax {
			return member{}, errNotMember
		}
		return member{filler: true, hdrLen: blockSize + padded(x.size)}, nil
	case '0':
		if !strings.HasPrefix(x.name, fillerPrefix) {
			return member{}, errNotMember
		}
		return member{filler: true, hdrLen: blockSize, info: store.EntityInfo{Size: x.size}}, nil
	default:
		return member{}, errNotMember
	}
	if x.size > maxPax || x.size < 1 {
		return member{}, errNotMember
	}
	second := blockSize + padded(x.size)
	if int64(len(b)) < second+blockSize {
		return member{}, errShort
	}
	u, err := parseUstar(b[second:])
	if err != nil {
		return member{}, err
	}
	if u.kind != '0' {
		return member{}, errNotMember
	}
	return parseOwn(b[blockSize:blockSize+x.size], b[second:second+blockSize], u)
}

// ustar is what is read of a header block.
type ustar struct {
	name  string
	kind  byte
	size  int64
	mtime int64
}

func parseUstar(h []byte) (ustar, error) {
	var u ustar
	if string(h[257:262]) != "ustar" {
		return u, errNotMember
	}
	sum, ok1 := parseOct(h[148:155])
	size, ok2 := parseOct(h[124:135])
	mtime, ok3 := parseOct(h[136:147])
	if !ok1 || !ok2 || !ok3 || sum != ustarSum(h[:blockSize]) {
		return u, errNotMember
	}
	u = ustar{name: cstring(h[:100]), kind: h[156], size: size, mtime: mtime}
	if prefix := cstring(h[345:500]); prefix != "" {
		u.name = prefix + "/" + u.name
	}
	return u, nil
}

func cstring(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func parseOct(b []byte) (int64, bool) {
	var v int64
	for i, c := range b {
		if c == 0 && i > 0 {
			break
		}
		if c < '0' || c > '7' {
			return 0, false
		}
		v = v<<3 | int64(c-'0')
	}
	return v, true
}

// parseOwn reads the records of a member, and checks them.
func parseOwn(records, head []byte, u ustar) (member, error) {
	m := member{hdrLen: 2*blockSize + padded(int64(len(records)))}
	m.info.Size, m.info.Created = u.size, time.Unix(u.mtime, 0)
	path, named, checked := u.name, false, false
	for rest := string(records); len(rest) > 0; {
		if checked {
			return m, errNotMember // the check is the last one
		}
		key, value, after, err := cutRecord(rest)
		if err != nil {
			return m, err
		}
		switch key {
		case paxPath:
			path = value
		case keyBucket:
			m.info.Bucket, named = value, true
		case keyName:
			m.info.Name, named = value, true
		case keyCheck:
			upTo := len(records) - len(after) - 1 - 8
			sum, err := strconv.ParseUint(value, 16, 32)
			if err != nil || len(value) != 8 || uint32(sum) != headerSum(records[:upTo], head) {
				return m, errNotMember
			}
			checked = true
		default:
			if err := m.take(key, value); err != nil {
				return m, err
			}
		}
		rest = after
	}
	if !checked || m.info.ID == 0 {
		return m, errNotMember
	}
	if !named {
		m.info.Bucket, m.info.Name = splitPath(path)
	}
	return m, nil
}

// take stores the value of one record. Keys that are not known are skipped: they come from a later version.
func (m *member) take(key, value string) error {
	var err error
	switch key {
	case paxMime:
		m.info.ContentType = value
	case keyID:
		var n uint64
		n, err = strconv.ParseUint(value, 10, 64)
		m.info.ID = store.ObjectID(n)
	case keyCreated:
		var n int64
		n, err = strconv.ParseInt(value, 10, 64)
		m.info.Created = time.Unix(n, 0)
	case keyMD5:
		var b []byte
		b, err = hex.DecodeString(value)
		copy(m.info.ETag[:], b)
	case keyCRC:
		var n uint64
		n, err = strconv.ParseUint(value, 16, 32)
		m.crc = uint32(n)
	case keyStored:
		m.info.Stored, err = parseStored(value)
	case keyPack:
		uid, rest, _ := strings.Cut(value, " ")
		at, batch, _ := strings.Cut(rest, " ")
		var err1, err2, err3 error
		m.pack, err1 = strconv.ParseUint(uid, 16, 64)
		m.at, err2 = strconv.ParseInt(at, 10, 64)
		m.batch, err3 = strconv.ParseInt(batch, 10, 64)
		err = errors.Join(err1, err2, err3)
	}
	if err != nil {
		return fmt.Errorf("%w: record %s", errNotMember, key)
	}
	return nil
}

// cutRecord takes the first pax record off s.
func cutRecord(s string) (key, value, rest string, err error) {
	sp := strings.IndexByte(s[:min(len(s), 8)], ' ')
	if sp < 1 {
		return "", "", "", errNotMember
	}
	n, err := strconv.ParseUint(s[:sp], 10, 31)
	if err != nil || int(n) < sp+3 || int(n) > len(s) || s[n-1] != '\n' {
		return "", "", "", errNotMember
	}
	key, value, ok := strings.Cut(s[sp+1:n-1], "=")
	if !ok {
		return "", "", "", errNotMember
	}
	return key, value, s[n:], nil
}

func parseStored(s string) (time.Time, error) {
	sec, frac, _ := strings.Cut(s, ".")
	n, err1 := strconv.ParseInt(sec, 10, 64)
	ns, err2 := strconv.ParseInt(frac, 10, 64)
	return time.Unix(n, ns), errors.Join(err1, err2)
}

// parsePackHeader reads the head of a pack; ok is false when it is damaged.
func parsePackHeader(b []byte) (id store.StorageID, number, uid uint64, ok bool) {
	if len(b) < packHeaderLen {
		return 0, 0, 0, false
	}
	x, err := parseUstar(b)
	if err != nil || x.kind != 'g' || x.size < 1 || x.size > blockSize {
		return 0, 0, 0, false
	}
	key, text, _, err := cutRecord(string(b[blockSize : blockSize+x.size]))
	text, sum, found := cutLast(text, " check ")
	if err != nil || key != paxComment || !found || !strings.HasPrefix(text, packComment) {
		return 0, 0, 0, false
	}
	var sid, check uint64
	if _, err := fmt.Sscanf(text[len(packComment):], "%d number %d uid %x", &sid, &number, &uid); err != nil || sid > 1<<32-1 {
		return 0, 0, 0, false
	}
	if check, err = strconv.ParseUint(sum, 16, 32); err != nil || uint32(check) != crc32.Checksum([]byte(text), castagnoli) {
		return 0, 0, 0, false
	}
	return store.StorageID(sid), number, uid, uid != 0
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func isZero(b []byte) bool {
	for len(b) >= blockSize {
		if [blockSize]byte(b) != zeroBlock {
			return false
		}
		b = b[blockSize:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// fillerPrefix begins the names of the members that recovery puts over damaged places.
const fillerPrefix = reservedDir + "/damaged/"
