package memcached

import (
	"errors"
	"strconv"

	"wheelhouse/memcache/segcache"
)

// addOptions are what the meta and the binary protocol want besides.
type addOptions struct {
	compare    bool
	version    uint64 // the item's, with compare
	newVersion uint64 // 0: a fresh one
	create     bool
	initial    uint64
	createExp  uint32
	touch      bool
	exp        uint32
	marks      segcache.Marks        // of an item that is made
	after      func(t *segcache.Txn) // sees the item before the access ends
}

// numberDigits is how long a value may be that is a number.
const numberDigits = 32

// add is incr and decr.
func (c *conn) add(key []byte, delta uint64, up bool, o *addOptions) (v uint64, err error) {
	for {
		v, err = c.tryAdd(key, delta, up, o)
		if !errors.Is(err, segcache.ErrNoRoom) {
			return v, err
		}
		if err := c.s.cache.Room(&c.w.txn); err != nil {
			c.stripe.add(storeNoMemory)
			return 0, err
		}
	}
}

func (c *conn) tryAdd(key []byte, delta uint64, up bool, o *addOptions) (uint64, error) {
	t := &c.w.txn
	c.s.cache.Begin(t, key)
	defer t.End()
	if !t.Found() {
		return c.addMiss(t, up, o)
	}
	if o.compare && o.version != t.Version() {
		return 0, errExists
	}
	old := t.Value()
	if len(old) == 0 || len(old) > numberDigits {
		return 0, errNotNumeric
	}
	v, ok := parseU64(old)
	if !ok {
		return 0, errNotNumeric
	}
	if up {
		v += delta
	} else {
		v -= min(v, delta)
	}
	var text [numberDigits]byte
	digits := strconv.AppendUint(text[:0], v, 10)
	for len(digits) < len(old) { // the length stays, as memcached's
		digits = append(digits, ' ')
	}
	version := o.newVersion
	if version == 0 {
		version = c.version()
	}
	exp := t.Exp()
	if o.touch {
		exp = o.exp
	}
	if len(digits) == len(old) {
		t.Overwrite(digits)
		t.SetVersion(version)
		t.SetExp(exp)
	} else if err := t.Store(&segcache.Put{
		A: digits, Flags: t.Flags(), Exp: exp, Version: version, Marks: t.Marks() & segcache.BinaryKey, Tags: t.Tags(), Joined: true,
	}); err != nil {
		return 0, err
	}
	k := t.Class()
	if up {
		c.stripe.add(incrHits)
		k.IncrHits++
	} else {
		c.stripe.add(decrHits)
		k.DecrHits++
	}
	if o.after != nil {
		o.after(t)
	}
	return v, nil
}

func (c *conn) addMiss(t *segcache.Txn, up bool, o *addOptions) (uint64, error) {
	if !o.create {
		if up {
			c.stripe.add(incrMisses)
		} else {
			c.stripe.add(decrMisses)
		}
		return 0, errNotFound
	}
	var text [numberDigits]byte
	version := o.newVersion
	if version == 0 {
		version = c.version()
	}
	p := segcache.Put{A: strconv.AppendUint(text[:0], o.initial, 10), Exp: o.createExp, Version: version, Marks: o.marks}
	if err := t.Store(&p); err != nil {
		return 0, err
	}
	c.stripe.add(totalItems)
	if o.after != nil {
		o.after(t)
	}
	return o.initial, nil
}

// version is a fresh version, or 0 where there are none.
func (c *conn) version() uint64 {
	if c.s.opts.NoCAS {
		return 0
	}
	return c.s.cache.NextVersion()
}
