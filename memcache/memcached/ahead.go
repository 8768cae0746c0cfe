package memcached

import (
	"bytes"
	"encoding/binary"

	"wheelhouse/memcache/segcache"
)

// aheadKeys is for how many keys a connection asks ahead.
const aheadKeys = 24

// ahead are keys that will be looked up soon.
type ahead struct {
	list [aheadKeys]segcache.Ahead
	n    int
}

func (a *ahead) add(c *segcache.Cache, key []byte) {
	a.list[a.n] = c.Foresee(key)
	a.n++
}

// foresee asks for the index's memory for the keys of the requests that have been read. What it takes for a request need not be one: it answers
// nothing, and changes no item.
func (c *conn) foresee() outcome {
	w := c.w
	w.ahead.n = 0
	if c.skipping > 0 || c.scanned > 0 {
		return goesOn
	}
	c.negotiate()
	peek := peekText
	if c.protocol == Binary {
		peek = peekBinary
	}
	most := min(aheadKeys, c.s.opts.Batch)
	for b := w.in[w.r:w.n]; w.ahead.n < most && len(b) > 0; {
		var key []byte
		key, b = peek(b)
		if len(key) > 0 && len(key) <= maxKey {
			w.ahead.add(c.s.cache, key)
		}
	}
	return goesOn
}

// fetchAhead asks for the items' memory.
func (c *conn) fetchAhead() outcome {
	a := &c.w.ahead
	for i := range a.n {
		c.s.cache.FetchAhead(a.list[i])
	}
	return goesOn
}

// peekText returns the first key of a line of text, and what follows the line and the data that belongs to it.
func peekText(b []byte) (key, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return nil, nil
	}
	line, rest := b[:i], b[i+1:]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	name, args := cutBlank(line)
	key, args = cutBlank(args)
	size := 0 // in which argument behind the key the length of the data is
	switch string(name) {
	case "set", "add", "cas", "append", "prepend", "replace":
		size = 3
	case "ms":
		size = 1
	default:
		return key, rest
	}
	var word []byte
	for range size {
		word, args = cutBlank(args)
	}
	n, ok := parseI32(word)
	if !ok || n < 0 || int(n)+len(crlf) > len(rest) {
		return key, nil
	}
	return key, rest[int(n)+len(crlf):]
}

func cutBlank(b []byte) (word, rest []byte) {
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// peekBinary is peekText for a binary request.
func peekBinary(b []byte) (key, rest []byte) {
	if len(b) < binHeader {
		return nil, nil
	}
	from := binHeader + int(b[4])
	to := from + int(binary.BigEndian.Uint16(b[2:]))
	if to > len(b) {
		return nil, nil
	}
	if end := binHeader + int64(binary.BigEndian.Uint32(b[8:])); end <= int64(len(b)) {
		rest = b[end:]
	}
	return b[from:to], rest
}

// multiAhead asks for the memory of the next keys of a multiget.
func (c *conn) multiAhead(keys []byte) {
	a := &c.w.ahead
	a.n = 0
	for a.n < aheadKeys && len(keys) > 0 {
		var key []byte
		if key, keys = cutBlank(keys); len(key) > 0 {
			a.add(c.s.cache, key)
		}
	}
	c.fetchAhead()
}
