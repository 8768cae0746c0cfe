package memcached

import (
	"bytes"

	"wheelhouse/memcache/segcache"
)

// validTags reports whether a token is a list of tags: at most maxTags of them with commas between, none of them empty, without blanks and
// control characters, together at most maxTagBytes. An empty token is a list of none.
func validTags(list []byte) bool {
	if len(list) == 0 {
		return true
	}
	if len(list) > maxTagBytes || bytes.Count(list, []byte{','}) >= maxTags {
		return false
	}
	empty := true
	for _, b := range list {
		switch {
		case b == ',' && empty, b <= ' ', b == 0x7f:
			return false
		}
		empty = b == ','
	}
	return !empty
}

// metaTag is mt: an item has the tags of G from now on, and no others. Its version stays.
func (c *conn) metaTag(key []byte, f *metaFlags) {
	if !f.has('G') {
		c.answer(badFormat)
		return
	}
	switch err := c.tagKey(key, f); err {
	case nil:
		if !f.has('q') {
			c.metaStatus("HD", key, f)
		}
	case errNotFound:
		c.metaStatus("NF", key, f)
	case errExists:
		c.metaStatus("EX", key, f)
	default:
		c.answer(noMemory)
	}
}

func (c *conn) tagKey(key []byte, f *metaFlags) error {
	return c.change(key, func(t *segcache.Txn) error {
		switch {
		case !t.Found():
			return errNotFound
		case f.has('C') && f.cas != t.Version():
			return errExists
		case bytes.Equal(f.tags, t.Tags()):
			return nil
		}
		return t.Store(&segcache.Put{
			A: t.Value(), Flags: t.Flags(), Exp: t.Exp(), Version: t.Version(), Marks: t.Marks(), Tags: f.tags, Joined: true,
		})
	})
}

// change accesses a key, as often as room must be made for what f stores.
func (c *conn) change(key []byte, f func(t *segcache.Txn) error) error {
	t := &c.w.txn
	for {
		c.s.cache.Begin(t, key)
		err := f(t)
		t.End()
		if err != segcache.ErrNoRoom {
			return err
		}
		if err := c.roomFor(t); err != nil {
			return err
		}
	}
}
