package memcached

import (
	"errors"

	"wheelhouse/memcache/segcache"
)

// storeMode is what a storage command does.
type storeMode uint8

const (
	modeSet storeMode = iota
	modeAdd
	modeReplace
	modeAppend
	modePrepend
	modeCAS
)

func (m storeMode) String() string {
	return [...]string{"set", "add", "replace", "append", "prepend", "cas"}[m]
}

// putRequest is a storage command of any protocol.
type putRequest struct {
	mode       storeMode
	key        []byte
	flags      uint32
	exp        uint32 // a time
	value      []byte
	compare    bool   // only if the item has this version; none has 0, also where items have no versions (-C)
	version    uint64 //
	newVersion uint64 // 0: a fresh one
	stale      bool   // a lower version stores too, and the item stays stale (meta, I)
	create     bool   // append and prepend store where there is nothing (meta, N)
	createExp  uint32
	marks      segcache.Marks
	tags       []byte                // with commas between
	reserved   *segcache.Reservation // has the value already
	size       int                   // of the value, after it has been stored that of the item's
}

// store handles the text protocol's storage commands: KEY FLAGS EXPTIME BYTES [VERSION] [noreply], and a block of data.
func (c *conn) store(args []byte, mode storeMode) error {
	n, _ := split(args, c.w.tok[:])
	tok, quiet := noReply(c.w.tok[:n])
	want := 4
	if mode == modeCAS {
		want = 5
	}
	if len(tok) < want {
		c.reply(quiet && n >= want, badFormat) // as memcached: one of too few words has no noreply
		return nil
	}
	r := putRequest{mode: mode, key: tok[0]}
	flags, okFlags := parseFlags(tok[1])
	exp, okExp := parseI32(tok[2])
	size, okSize := parseI32(tok[3])
	if !okSize || size < 0 || size > maxBinary {
		c.reply(quiet, badFormat)
		return nil
	}
	okVersion := true
	if mode == modeCAS {
		r.compare = true
		r.version, okVersion = parseU64(tok[4])
	}
	if !okFlags || !okExp || !okVersion || len(r.key) > maxKey {
		c.reply(quiet, badFormat)
		c.skip(int(size) + 2)
		return nil
	}
	r.flags, r.exp = flags, c.s.clock.expiry(exp)
	if !c.may(r.key, permWrite) {
		c.reply(quiet, denied)
		c.skip(int(size) + 2)
		return nil
	}
	err := c.receive(&r, int(size), 2)
	if text, fatal := storeAnswer(err); !fatal {
		c.reply(quiet, text)
		return nil
	}
	return err
}

// errBadChunk means that a block of data does not end where it should.
var errBadChunk = errors.New("bad data chunk")

// storeAnswer is the text protocol's answer. fatal: there is none, the connection has failed.
func storeAnswer(err error) (text string, fatal bool) {
	switch {
	case err == nil:
		return "STORED", false
	case err == errNotStored:
		return "NOT_STORED", false
	case err == errExists:
		return "EXISTS", false
	case err == errNotFound:
		return "NOT_FOUND", false
	case err == errBadChunk:
		return badChunk, false
	case errors.Is(err, segcache.ErrTooLarge):
		return tooLarge, false
	case errors.Is(err, segcache.ErrFull):
		return noMemory, false
	}
	return "", true
}

// receive reads a value of size bytes, and end more that must be CRLF, and stores it. The key lies in the read buffer.
func (c *conn) receive(r *putRequest, size, end int) error {
	w := c.w
	if c.s.opts.itemTotal(len(r.key), size, r.flags != 0) > c.s.opts.MaxItem {
		c.refuse(r, storeTooLarge)
		c.skip(size + end)
		c.late = c.skipping > 0 // who sends a value that is as it should be sends all of it before he looks for an answer
		return segcache.ErrTooLarge
	}
	if !c.arrived(size + end) {
		if size <= streamAbove {
			return errPartial
		}
		r.key = w.key[:copy(w.key[:], r.key)]
		r.tags = w.tags[:copy(w.tags[:], r.tags)]
		return c.stream(r, size, end)
	}
	r.value = w.in[w.r : w.r+size]
	tail := w.in[w.r+size : w.r+size+end]
	w.r += size + end
	if string(tail) != crlf[:end] {
		return c.badChunk(r)
	}
	return c.put(r)
}

// badChunk counts a command whose data does not end where it should: it is one that stores, though nothing is stored.
func (c *conn) badChunk(r *putRequest) error {
	c.stripe.add(cmdSet)
	t := &c.w.txn
	c.s.cache.Begin(t, r.key)
	_, k := t.ClassFor(len(r.value), r.flags != 0)
	k.Sets++
	t.End()
	return errBadChunk
}

// stream reads a large value to where it is to be.
func (c *conn) stream(r *putRequest, size, end int) error {
	c.detach() // others may have to be forgotten for it, and the rest of it is not there yet
	v, err := c.s.cache.Reserve(r.key, size, r.flags, r.exp, r.tags)
	if err != nil {
		why := storeNoMemory
		if errors.Is(err, segcache.ErrTooLarge) {
			why = storeTooLarge
		}
		c.refuse(r, why)
		c.skip(size + end)
		c.late = c.skipping > 0
		return err
	}
	tail := c.w.tail[:end]
	if err := c.readFull(v.Value(), tail); err != nil {
		v.Abort()
		return err
	}
	if string(tail) != crlf[:end] {
		r.value = v.Value()
		err := c.badChunk(r)
		v.Abort()
		return err
	}
	r.value, r.reserved = v.Value(), &v
	return c.put(r)
}

// refuse counts a value that cannot be stored. A set removes what it was to replace, lest that be taken for it.
func (c *conn) refuse(r *putRequest, why counter) {
	c.stripe.add(why)
	if why == storeNoMemory {
		c.s.cache.CountOutOfMemory(len(r.key), len(r.value), r.flags != 0)
	}
	if r.mode == modeSet && !r.compare {
		t := &c.w.txn
		c.s.cache.Begin(t, r.key)
		if t.Found() {
			t.Delete()
		}
		t.End()
	}
	if c.s.watch.wants(watchMutate) {
		c.s.watch.stored(c, r, map[counter]string{storeTooLarge: "too_large", storeNoMemory: "no_memory"}[why], 0, 0)
	}
}

// put stores. A reservation is used up.
func (c *conn) put(r *putRequest) error {
	if r.newVersion == 0 {
		r.newVersion = c.version()
	}
	if c.s.detail.on.Load() {
		c.s.detail.set(r.key, c.s.opts.Delimiter)
	}
	for {
		t := &c.w.txn
		c.s.cache.Begin(t, r.key)
		err := c.tryPut(t, r)
		retry := errors.Is(err, segcache.ErrNoRoom)
		if !retry {
			c.stripe.add(cmdSet)
			c.notePut(t, r, err)
			if err == nil {
				r.size = t.Len()
			}
		}
		t.End()
		if !retry {
			if r.reserved != nil {
				r.reserved.Abort()
			}
			if errors.Is(err, segcache.ErrFull) || errors.Is(err, segcache.ErrTooLarge) {
				c.refuse(r, storeNoMemory)
			}
			return err
		}
		if err := c.roomFor(t); err != nil {
			if r.reserved != nil {
				r.reserved.Abort()
			}
			why := storeNoMemory
			if errors.Is(err, segcache.ErrTooLarge) {
				why = storeTooLarge
			}
			c.refuse(r, why)
			return err
		}
	}
}

// roomFor makes room for what t has found none for. The access has been ended.
func (c *conn) roomFor(t *segcache.Txn) error {
	c.detach() // others are forgotten for it, or it waits for whom they are
	return c.s.cache.Room(t)
}

// notePut counts and reports what became of a request. The access is not ended.
func (c *conn) notePut(t *segcache.Txn, r *putRequest, err error) {
	class, k := t.ClassFor(len(r.value), r.flags != 0)
	k.Sets++
	status := "stored"
	switch err {
	case nil:
		c.stripe.add(totalItems)
		if r.compare {
			c.stripe.add(casHits)
			k.CASHits++
		}
	case errExists:
		status = "exists"
		c.stripe.add(casBadval)
		k.CASBadval++
	case errNotFound:
		status = "not_found"
		c.stripe.add(casMisses)
	default:
		status = "not_stored"
	}
	if c.s.watch.wants(watchMutate) {
		size := len(r.value)
		if err == nil {
			size = t.Len()
		}
		c.s.watch.stored(c, r, status, class, size)
	}
}

// tryPut decides whether to store, and does.
func (c *conn) tryPut(t *segcache.Txn, r *putRequest) error {
	p := segcache.Put{A: r.value, Flags: r.flags, Exp: r.exp, Version: r.newVersion, Marks: r.marks, Tags: r.tags}
	if c.s.opts.NoCAS && (r.mode == modeAppend || r.mode == modePrepend) {
		r.compare = false // as memcached: an item without version asks for none, which these then do not want
	}
	if !t.Found() {
		switch {
		case r.create && (r.mode == modeAppend || r.mode == modePrepend):
			p.Exp = r.createExp
		case r.mode == modeReplace, r.mode == modeAppend, r.mode == modePrepend:
			if r.compare && r.mode == modeReplace {
				return errNotFound
			}
			return errNotStored
		case r.compare && r.mode != modeAdd:
			return errNotFound
		}
		return c.commit(t, r, &p)
	}
	if r.mode == modeAdd {
		t.Want()
		return errNotStored
	}
	if r.compare && (r.version == 0 || r.version != t.Version()) {
		if !r.stale || r.version == 0 || r.version >= t.Version() || r.mode == modeAppend || r.mode == modePrepend {
			return errExists
		}
		p.Exp = t.Exp()
		p.Marks |= segcache.Stale | t.Marks()&segcache.TokenSent
		r.exp = p.Exp
	}
	switch r.mode {
	case modeAppend:
		p.A, p.B = t.Value(), r.value
	case modePrepend:
		p.A, p.B = r.value, t.Value()
	default:
		return c.commit(t, r, &p)
	}
	p.Joined, p.Flags, p.Exp, p.Tags = true, t.Flags(), t.Exp(), t.Tags()
	p.Marks |= t.Marks() & segcache.BinaryKey
	if c.s.opts.itemTotal(len(r.key), len(p.A)+len(p.B), p.Flags != 0) > c.s.opts.MaxItem {
		return errNotStored // as memcached: what was sent is not too large
	}
	return t.Store(&p)
}

// commit stores from where the value is.
func (c *conn) commit(t *segcache.Txn, r *putRequest, p *segcache.Put) error {
	if r.reserved == nil {
		return t.Store(p)
	}
	if p.Exp != r.reserved.Exp() {
		return t.Store(p) // the reservation is given up at the end
	}
	if err := t.Commit(r.reserved, p.Version, p.Marks); err != segcache.ErrFlushed {
		return err
	}
	return t.Store(p)
}
