package memcached

import (
	"encoding/base64"
	"strconv"

	"wheelhouse/memcache/segcache"
)

// Answers of the meta protocol.
const (
	flagsTooLong  = "CLIENT_ERROR options flags are too long"
	duplicateFlag = "CLIENT_ERROR duplicate flag"
	invalidFlag   = "CLIENT_ERROR invalid flag"
	invalidOrDup  = "CLIENT_ERROR invalid or duplicate flag"
	badToken      = "CLIENT_ERROR bad token in command line format"
	opaqueTooLong = "CLIENT_ERROR opaque token too long"
	badKey        = "CLIENT_ERROR error decoding key"
)

// metaKey returns the key, decoded if it came in base64 (flag b). It lies in the work's memory then.
func (c *conn) metaKey(tok []byte, f *metaFlags) (key []byte, text string) {
	if len(tok) > maxKey {
		return nil, badFormat
	}
	if !f.has('b') {
		return tok, ""
	}
	n, err := base64.StdEncoding.Decode(c.w.bin[:], tok)
	if err != nil || n == 0 {
		return nil, badKey
	}
	return c.w.bin[:n], ""
}

// metaCommand handles m? commands.
func (c *conn) metaCommand(cmd byte, args []byte) error {
	w := c.w
	if cmd == 'n' {
		c.answer("MN")
		return nil
	}
	n, rest := split(args, w.tok[:])
	switch cmd {
	case 'g', 's', 'd', 'a', 't', 'e':
	default:
		c.answer(plainError)
		return nil
	}
	if n == 0 {
		c.answer(badFormat)
		return nil
	}
	if !c.again {
		c.stripe.add(cmdMeta)
	}
	tok := w.tok[:n]
	if cmd == 'e' {
		c.metaDebug(tok)
		return nil
	}
	return c.metaOperation(cmd, tok, n+1 > maxMeta || len(rest) > 0)
}

// metaOperation reads the flags of a command about an item, and does it.
func (c *conn) metaOperation(cmd byte, tok [][]byte, tooLong bool) error {
	skip, first := 0, 1
	if cmd == 's' {
		if len(tok) < 2 {
			c.answer(badFormat)
			return nil
		}
		size, ok := parseI32(tok[1])
		if !ok || size < 0 || size > maxBinary {
			c.answer(badFormat)
			return nil
		}
		skip, first = int(size)+2, 2
	}
	f := &c.w.meta
	key, text := c.metaRead(cmd, tok[0], tok[first:], f, tooLong)
	if text != "" {
		c.answer(text)
		if skip > 0 {
			c.skip(skip)
		}
		return nil
	}
	switch cmd {
	case 'g':
		return c.metaGet(key, f)
	case 's':
		return c.metaSet(key, skip-2, f)
	case 'd':
		c.metaDelete(key, f)
	case 'a':
		c.metaArithmetic(key, f)
	case 't':
		c.metaTag(key, f)
	}
	return nil
}

// metaRead reads key and flags. text is what is wrong with them, or "".
func (c *conn) metaRead(cmd byte, tok []byte, flags [][]byte, f *metaFlags, tooLong bool) (key []byte, text string) {
	switch {
	case len(tok) > maxKey:
		return nil, badFormat
	case tooLong:
		return nil, flagsTooLong
	}
	if text = f.parse(cmd, flags, &c.s.clock); text != "" {
		return nil, text
	}
	if key, text = c.metaKey(tok, f); text == "" && !c.may(key, metaPerm(cmd, f)) {
		text = denied
	}
	return key, text
}

// metaPerm is what a command does. A get that makes an item, changes its expiry time or takes its token is a change, too.
func metaPerm(cmd byte, f *metaFlags) perm {
	switch {
	case cmd == 'g' && !f.has('N') && !f.has('T') && !f.has('R'):
		return permRead
	case cmd == 'g', cmd == 'a':
		return permRead | permWrite
	}
	return permWrite
}

// appendMetaKey appends the key as it was given: in base64 with " b" behind it.
func appendMetaKey(out, key []byte, binary bool) []byte {
	out = appendKey(append(out, " k"...), key, binary)
	if binary {
		out = append(out, " b"...)
	}
	return out
}

// appendKey appends a key as a client of the meta protocol writes it.
func appendKey(out, key []byte, binary bool) []byte {
	if binary {
		return base64.StdEncoding.AppendEncode(out, key)
	}
	return append(out, key...)
}

// metaEcho appends O and k, which stand in all answers.
func (c *conn) metaEcho(out, key []byte, f *metaFlags) []byte {
	for _, t := range f.list[:f.n] {
		switch t[0] {
		case 'O':
			out = append(append(out, ' '), t...)
		case 'k':
			out = appendMetaKey(out, key, f.has('b'))
		}
	}
	return out
}

// metaStatus is an answer without a value.
func (c *conn) metaStatus(status string, key []byte, f *metaFlags) {
	out := append(c.w.out, status...)
	c.w.out = append(c.metaEcho(out, key, f), crlf...)
}

// ttl is what is left of an item's life, in seconds; -1: all. One that ends with this command, as by T-1, has 0 left.
func (c *conn) ttl(exp uint32) int64 {
	if exp == 0 {
		return -1
	}
	return max(int64(exp)-int64(c.s.cache.Now()), 0)
}

// metaSet is ms.
func (c *conn) metaSet(key []byte, size int, f *metaFlags) error {
	r, ok := metaPut(key, f)
	if !ok {
		c.answer("CLIENT_ERROR invalid mode for ms M token")
		c.skip(size + 2)
		return nil
	}
	// The line will be gone when a large value has been read: what of it stands in the answer is made before.
	echo := c.metaSetEcho(key, f)
	r.size = size
	err := c.receive(&r, size, 2)
	status := ""
	switch {
	case err == nil:
		if f.has('q') {
			return nil
		}
		status = "HD"
	case err == errNotStored:
		status = "NS"
	case err == errExists:
		status = "EX"
	case err == errNotFound:
		status = "NF"
	default:
		text, fatal := storeAnswer(err)
		if fatal {
			return err
		}
		c.answer(text)
		return nil
	}
	out := append(c.w.out, status...)
	for _, e := range echo.list[:echo.n] {
		switch {
		case e == "c" && err == nil:
			out = strconv.AppendUint(append(out, " c"...), r.newVersion, 10)
		case e == "c":
			out = append(out, " c0"...)
		case e == "s": // of what append and prepend have made
			out = strconv.AppendInt(append(out, " s"...), int64(r.size), 10)
		default:
			out = append(out, e...)
		}
	}
	c.w.out = append(out, crlf...)
	return nil
}

// metaPut makes a storage request of ms's flags. ok is false where there is no such mode.
func metaPut(key []byte, f *metaFlags) (r putRequest, ok bool) {
	r = putRequest{key: key, flags: f.flags, exp: f.exp, newVersion: f.newV, stale: f.has('I'), tags: f.tags}
	if f.has('b') {
		r.marks = segcache.BinaryKey
	}
	if f.has('C') {
		r.compare, r.version = true, f.cas
	}
	switch f.mode {
	case 0, 'S': // 0: there is no M
	case 'E':
		r.mode, r.compare = modeAdd, false
	case 'A':
		r.mode = modeAppend
	case 'P':
		r.mode = modePrepend
	case 'R':
		r.mode = modeReplace
	default:
		return r, false
	}
	if r.mode == modeAppend || r.mode == modePrepend {
		r.create, r.createExp = f.has('N'), f.viv
		r.compare = f.cas != 0 // as memcached: for these, C0 is none
	}
	return r, true
}

// setEcho is what stands in an answer to ms.
type setEcho struct {
	list [4]string
	n    int
}

func (c *conn) metaSetEcho(key []byte, f *metaFlags) (e setEcho) {
	for _, t := range f.list[:f.n] {
		text := ""
		switch t[0] {
		case 'O':
			text = " " + string(t)
		case 'k':
			text = string(appendMetaKey(nil, key, f.has('b')))
		case 's', 'c': // are known later
			text = string(t[:1])
		default:
			continue
		}
		e.list[e.n] = text
		e.n++
	}
	return e
}

// metaDelete is md.
func (c *conn) metaDelete(key []byte, f *metaFlags) {
	status := "HD"
	err := c.metaDeleteKey(key, f)
	switch err {
	case nil:
		if f.has('q') {
			return
		}
	case errNotFound:
		status = "NF"
	case errExists:
		status = "EX"
	default:
		c.answer(noMemory)
		return
	}
	c.metaStatus(status, key, f)
}

func (c *conn) metaDeleteKey(key []byte, f *metaFlags) error {
	if !f.has('I') && !f.has('x') {
		return c.deleteKey(key, f.cas, f.has('C'), "md")
	}
	return c.change(key, func(t *segcache.Txn) error { return c.metaInvalidate(t, f) })
}

// metaInvalidate marks an item stale (I), or empties it (x).
func (c *conn) metaInvalidate(t *segcache.Txn, f *metaFlags) error {
	if !t.Found() {
		c.stripe.add(deleteMisses)
		c.countGone(t.Miss)
		return errNotFound
	}
	if f.has('C') && f.cas != t.Version() {
		return errExists
	}
	version := f.newV
	if version == 0 {
		version = c.version()
	}
	if f.has('x') {
		marks := t.Marks() & segcache.BinaryKey
		if err := t.Store(&segcache.Put{Exp: t.Exp(), Version: version, Marks: marks, Tags: t.Tags(), Joined: true}); err != nil {
			return err
		}
	}
	if f.has('I') {
		if f.has('T') {
			t.SetExp(f.exp)
		}
		t.SetMarks(segcache.Stale, segcache.TokenSent)
		t.SetVersion(version)
	}
	c.stripe.add(deleteHits)
	t.Class().DeleteHits++
	return nil
}

// metaArithmetic is ma.
func (c *conn) metaArithmetic(key []byte, f *metaFlags) {
	up := true
	switch f.mode {
	case 0, 'I', '+':
	case 'D', '-':
		up = false
	default:
		c.answer("CLIENT_ERROR invalid mode for ma M token")
		return
	}
	o := addOptions{newVersion: f.newV, create: f.has('N'), initial: f.init, touch: f.has('T'), exp: f.exp}
	o.createExp, _ = f.expiries(0, true)
	if f.has('b') {
		o.marks = segcache.BinaryKey
	}
	o.compare, o.version = f.cas != 0, f.cas // as memcached: here, C0 is none
	var version uint64
	var exp uint32
	made := false
	o.after = func(t *segcache.Txn, old uint32, created bool) {
		version, made = t.Version(), created
		_, exp = f.expiries(old, created)
	}
	v, err := c.add(key, f.delta, up, &o)
	switch err {
	case nil:
	case errNotFound:
		c.metaStatus("NF", key, f)
		return
	case errExists:
		c.metaStatus("EX", key, f)
		return
	case errNotNumeric:
		c.answer(notNumeric)
		return
	default:
		c.answer(noMemory)
		return
	}
	if f.has('q') && !made {
		return
	}
	var text [20]byte
	digits := strconv.AppendUint(text[:0], v, 10)
	out := append(c.w.out, "HD"...)
	if f.has('v') {
		out = strconv.AppendInt(append(c.w.out, "VA "...), int64(len(digits)), 10)
	}
	for _, tok := range f.list[:f.n] {
		switch tok[0] {
		case 't':
			out = strconv.AppendInt(append(out, " t"...), c.ttl(exp), 10)
		case 'c':
			out = strconv.AppendUint(append(out, " c"...), version, 10)
		case 'O':
			out = append(append(out, ' '), tok...)
		case 'k':
			out = appendMetaKey(out, key, f.has('b'))
		}
	}
	out = append(out, crlf...)
	if f.has('v') {
		out = append(append(out, digits...), crlf...)
	}
	c.w.out = out
}

// metaDebug is me.
func (c *conn) metaDebug(tok [][]byte) {
	f := &c.w.meta
	f.n, f.seen = 0, 0
	if len(tok) > 1 && string(tok[1]) == "b" {
		f.seen = letterBit('b')
	}
	key, text := c.metaKey(tok[0], f)
	if text == "" && !c.may(key, permRead) {
		text = denied
	}
	if text != "" {
		c.answer(text)
		return
	}
	t := &c.w.txn
	c.s.cache.Begin(t, key)
	defer t.End()
	if !t.Found() {
		c.answer("EN")
		return
	}
	class, size := t.Size()
	out := appendKey(append(c.w.out, "ME "...), key, t.Marks()&segcache.BinaryKey != 0)
	out = strconv.AppendInt(append(out, " exp="...), c.ttl(t.Exp()), 10)
	out = strconv.AppendUint(append(out, " la="...), uint64(c.s.cache.Since(t.Access())), 10)
	out = strconv.AppendUint(append(out, " cas="...), t.Version(), 10)
	out = append(append(out, " fetch="...), yesNo(t.Marks()&segcache.Fetched != 0)...)
	out = strconv.AppendInt(append(out, " cls="...), int64(class+1), 10)
	out = strconv.AppendInt(append(out, " size="...), int64(size), 10)
	c.w.out = append(out, crlf...)
}
