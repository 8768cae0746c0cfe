package memcached

import (
	"strconv"

	"wheelhouse/memcache/segcache"
)

// metaGet is mg.
func (c *conn) metaGet(key []byte, f *metaFlags) error {
	t := &c.w.txn
	cache := c.s.cache
	for {
		cache.Begin(t, key)
		if t.Found() || !f.has('N') {
			break
		}
		p := segcache.Put{Exp: f.viv, Version: f.newV}
		if p.Version == 0 {
			p.Version = c.version()
		}
		if f.has('b') {
			p.Marks = segcache.BinaryKey
		}
		why := t.Miss
		err := t.Store(&p)
		if err == nil {
			c.stripe.add(totalItems)
			c.stripe.add(cmdGet)
			c.countMiss(why)
			c.observeGet(key, false, getHits)
			return c.metaHit(key, f, true)
		}
		t.End()
		if err == segcache.ErrNoRoom {
			err = c.roomFor(t)
		}
		if err != nil {
			c.stripe.add(storeNoMemory)
			c.answer(noMemory)
			return nil
		}
	}
	if !t.Found() {
		c.stripe.add(cmdGet)
		c.countMiss(t.Miss)
		c.observeGet(key, false, getHits)
		t.End()
		if !f.has('q') {
			c.metaStatus("EN", key, f)
		}
		return nil
	}
	hits := getHits
	if f.has('T') { // as memcached: it is a touch then, and no get, if there is the item
		hits = touchHits
		c.stripe.add(cmdTouch)
		t.Class().TouchHits++
	} else {
		c.stripe.add(cmdGet)
		c.countHit(t)
	}
	c.stripe.add(hits)
	c.observeGet(key, true, hits)
	return c.metaHit(key, f, false)
}

// metaHit answers with the item, and ends the access.
func (c *conn) metaHit(key []byte, f *metaFlags, created bool) error {
	t := &c.w.txn
	marks := t.Marks()
	withValue := f.has('v') && !(f.has('C') && f.cas == t.Version())
	out := c.w.out
	if withValue {
		out = strconv.AppendUint(append(out, "VA "...), uint64(t.Len()), 10)
	} else {
		out = append(out, "HD"...)
	}
	out, won := c.metaGetFlags(out, key, f, created)
	if marks&segcache.TokenSent != 0 {
		out = append(out, " Z"...)
	}
	if marks&segcache.Stale != 0 {
		out = append(out, " X"...)
		won = won || marks&segcache.TokenSent == 0
	}
	if won {
		out = append(out, " W"...)
		t.SetMarks(segcache.TokenSent, 0)
	}
	c.w.out = append(out, crlf...)
	if !f.has('u') { // who makes an item by N has fetched it, too
		t.Bump()
	}
	if withValue {
		return c.appendValue(t)
	}
	t.End()
	return nil
}

// metaGetFlags appends what is asked for, as it was before the command but for the expiry time: as with memcached, T, N, R and t act in the
// order in which they stand. won: the client is to make the value anew.
func (c *conn) metaGetFlags(out, key []byte, f *metaFlags, created bool) (_ []byte, won bool) {
	t := &c.w.txn
	old := t.Exp()
	exp := old
	if created { // until N gives it one
		exp = 0
	}
	for _, tok := range f.list[:f.n] {
		exp = f.expiryAfter(tok[0], exp, created)
		switch tok[0] {
		case 'R':
			won = won || t.Marks()&segcache.TokenSent == 0 && exp != 0 && exp < f.rec
		case 'c':
			out = strconv.AppendUint(append(out, " c"...), t.Version(), 10)
		case 'f':
			out = strconv.AppendUint(append(out, " f"...), uint64(t.Flags()), 10)
		case 'g':
			out = append(append(out, " g"...), t.Tags()...)
		case 'h':
			out = append(out, " h0"...)
			if t.Marks()&segcache.Fetched != 0 {
				out[len(out)-1] = '1'
			}
		case 'k':
			out = appendMetaKey(out, key, t.Marks()&segcache.BinaryKey != 0)
		case 'l':
			out = strconv.AppendUint(append(out, " l"...), uint64(c.s.cache.Since(t.Access())), 10)
		case 'O':
			out = append(append(out, ' '), tok...)
		case 's':
			out = strconv.AppendUint(append(out, " s"...), uint64(t.Len()), 10)
		case 't':
			out = strconv.AppendInt(append(out, " t"...), c.ttl(exp), 10)
		}
	}
	if exp != old {
		t.SetExp(exp)
	}
	return out, won || created
}
