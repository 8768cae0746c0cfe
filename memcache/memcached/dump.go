package memcached

import (
	"strconv"

	"wheelhouse/memcache/segcache"
)

// walkStep is how many items are looked at before others have a turn.
const walkStep = 1000

// walk calls f with all items, and writes what it appends to the answers between two steps, when no lock is held: the client may take its time.
// It ends when f returns false.
func (c *conn) walk(f func(t *segcache.Txn, key []byte) bool) error {
	for pos, more := uint64(0), true; more; {
		c.s.gate.do(func() {
			seen := 0
			pos = c.s.cache.Walk(pos, func(t *segcache.Txn, key []byte) bool {
				seen++
				more = more && f(t, key)
				return more && seen < walkStep && !c.stepFull()
			})
		})
		more = more && pos != 0
		if err := c.flushStep(); err != nil {
			return err
		}
	}
	return nil
}

// dumpLine is one of metadump.
func (c *conn) dumpLine(t *segcache.Txn, key []byte, class, size int) {
	b := appendURI(append(c.w.out, "key="...), key)
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
	c.w.out = append(b, '\n')
}

// dumpCommand is one of mgdump: a command that fetches the item.
func (c *conn) dumpCommand(t *segcache.Txn, key []byte) {
	binary := t.Marks()&segcache.BinaryKey != 0
	b := appendKey(append(c.w.out, "mg "...), key, binary)
	if binary {
		b = append(b, " b"...)
	}
	c.w.out = append(b, crlf...)
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
