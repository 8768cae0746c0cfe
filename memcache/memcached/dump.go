package memcached

import (
	"encoding/base64"
	"strconv"

	"wheelhouse/memcache/segcache"
)

// dumper gathers lines while the cache is walked. They are written between two steps of the walk, so that no lock is held while the client
// takes its time.
type dumper struct{ buf []byte }

func (d *dumper) full() bool { return len(d.buf) >= flushAt }

// line is one of metadump.
func (d *dumper) line(t *segcache.Txn, key []byte, class, size int) {
	b := appendURI(append(d.buf, "key="...), key)
	b = append(b, " exp="...)
	if e := t.Exp(); e == 0 {
		b = append(b, "-1"...)
	} else {
		b = strconv.AppendUint(b, uint64(e), 10)
	}
	b = strconv.AppendUint(append(b, " la="...), uint64(t.Access()), 10)
	b = strconv.AppendUint(append(b, " cas="...), t.Version(), 10)
	b = append(append(b, " fetch="...), yesNo(t.Marks()&segcache.Fetched != 0)...)
	b = strconv.AppendInt(append(b, " cls="...), int64(class+1), 10)
	b = strconv.AppendInt(append(b, " size="...), int64(size), 10)
	d.buf = append(b, '\n')
}

// metaLine is one of mgdump: a command that fetches the item.
func (d *dumper) metaLine(t *segcache.Txn, key []byte) {
	b := append(d.buf, "mg "...)
	if t.Marks()&segcache.BinaryKey != 0 {
		b = append(base64.StdEncoding.AppendEncode(b, key), " b"...)
	} else {
		b = append(b, key...)
	}
	d.buf = append(b, '\r', '\n')
}

// appendURI appends a key with all but RFC 3986's unreserved characters escaped.
func appendURI(b, key []byte) []byte {
	const hex = "0123456789ABCDEF"
	for _, k := range key {
		switch {
		case k|0x20 >= 'a' && k|0x20 <= 'z', k >= '0' && k <= '9', k == '-', k == '.', k == '_', k == '~':
			b = append(b, k)
		default:
			b = append(b, '%', hex[k>>4], hex[k&15])
		}
	}
	return b
}

// printable is a key as it stands in a list of words: those that came in base64 may have blanks and line ends, which are escaped.
func printable(key string) string {
	for i := range len(key) {
		if key[i] <= ' ' || key[i] == 0x7f {
			return string(appendURI(nil, []byte(key)))
		}
	}
	return key
}
