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
	marks      segcache.Marks // of an item that is made

	// after sees the item before the access ends; old is the expiry time that it had, 0 if it is new.
	after func(t *segcache.Txn, old uint32, created bool)
}

// numberDigits is how long a value may be that is changed in place.
const numberDigits = 32

// add is incr and decr.
func (c *conn) add(key []byte, delta uint64, up bool, o *addOptions) (v uint64, err error) {
	for {
		v, err = c.tryAdd(key, delta, up, o)
		if !errors.Is(err, segcache.ErrNoRoom) {
			return v, err
		}
		if err := c.roomFor(&c.w.txn); err != nil {
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
		return c.addMiss(t, key, up, o)
	}
	if _, size := t.Size(); size > c.s.opts.ChunkMax || t.Len() == 0 { // memcached has the first in several chunks, and looks at versions after this
		return 0, errNotNumeric
	}
	if o.compare && o.version != t.Version() {
		return 0, errExists
	}
	v, ok := parseStored(t.Value())
	if !ok {
		return 0, errNotNumeric
	}
	if up {
		v += delta
	} else {
		v -= min(v, delta)
	}
	old := t.Exp()
	if err := c.storeNumber(t, v, o); err != nil {
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
		o.after(t, old, false)
	}
	return v, nil
}

// storeNumber writes v in place of the item's value. As memcached's, it does not become shorter: blanks fill the rest.
func (c *conn) storeNumber(t *segcache.Txn, v uint64, o *addOptions) error {
	var text [numberDigits]byte
	n := t.Len()
	digits := text[:0]
	if n > numberDigits {
		digits = make([]byte, 0, n)
	}
	digits = strconv.AppendUint(digits, v, 10)
	marks := segcache.BinaryKey
	if len(digits) <= n {
		marks = t.Marks()
	}
	for len(digits) < n {
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
	if len(digits) == n && n <= numberDigits { // nobody reads a small value without the lock
		t.Overwrite(digits)
		t.SetVersion(version)
		t.SetExp(exp)
		return nil
	}
	return t.Store(&segcache.Put{
		A: digits, Flags: t.Flags(), Exp: exp, Version: version, Marks: marks & t.Marks(), Tags: t.Tags(), Joined: true,
	})
}

func (c *conn) addMiss(t *segcache.Txn, key []byte, up bool, o *addOptions) (uint64, error) {
	c.countGone(t.Miss)
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
	if c.s.watch.wants(watchMutate) {
		class, _ := t.Size()
		c.s.watch.stored(c, &putRequest{mode: modeAdd, key: key, exp: o.createExp}, "stored", class, len(p.A))
	}
	if o.after != nil {
		o.after(t, 0, true)
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
