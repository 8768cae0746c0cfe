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

// metaFlags are the flags of a meta command, and their tokens.
type metaFlags struct {
	list  [maxMeta][]byte // in the order given
	n     int
	seen  uint64 // a bit for each letter
	mode  byte   // of M
	flags uint32
	exp   uint32 // of T, a time
	exp0  int32  // of T, as given
	viv   uint32 // of N, a time
	recT  int32  // of R
	cas   uint64 // of C
	newV  uint64 // of E
	delta uint64
	init  uint64
}

func letterBit(b byte) uint64 {
	if b >= 'a' {
		return 1 << (b - 'a')
	}
	return 1 << (b - 'A' + 26)
}

func (f *metaFlags) has(b byte) bool { return f.seen&letterBit(b) != 0 }

// metaLetters are the flags that each command knows. P and L are reserved for proxies, and accepted.
var metaLetters = map[byte]string{
	'g': "bcCfhklOqstuvENRTPL", 's': "bcCEFIkOqsTMNPL", 'd': "bCEIkOqTxPL", 'a': "bCENJDTMOqtcvkPL",
}

var metaMasks = func() (m [256]uint64) {
	for cmd, letters := range metaLetters {
		for _, b := range []byte(letters) {
			m[cmd] |= letterBit(b)
		}
	}
	return m
}()

// parseMeta reads the flags of a command. The text is the error's answer, or "".
func (f *metaFlags) parse(cmd byte, tok [][]byte, clock *clock) string {
	f.n, f.seen, f.mode, f.flags, f.exp, f.exp0, f.delta, f.init, f.newV, f.cas = 0, 0, 0, 0, 0, 0, 1, 0, 0, 0
	for _, t := range tok {
		b := t[0]
		if b|0x20 < 'a' || b|0x20 > 'z' {
			return badFormat
		}
		if bit := letterBit(b); f.seen&bit != 0 {
			if cmd == 'a' {
				return invalidOrDup
			}
			return duplicateFlag
		}
		if metaMasks[cmd]&letterBit(b) == 0 {
			if cmd == 'a' {
				return invalidOrDup
			}
			return invalidFlag
		}
		f.seen |= letterBit(b)
		f.list[f.n] = t
		f.n++
		if text := f.token(cmd, b, t[1:], clock); text != "" {
			return text
		}
	}
	return ""
}

// token reads what follows a flag's letter.
func (f *metaFlags) token(cmd, b byte, v []byte, clock *clock) string {
	ok := true
	switch b {
	case 'O':
		if len(v)+1 > maxOpaque {
			return opaqueTooLong
		}
	case 'F':
		f.flags, ok = parseFlags(v)
	case 'T':
		f.exp0, ok = parseI32(v)
		f.exp = clock.expiry(f.exp0)
	case 'N':
		var n int32
		n, ok = parseI32(v)
		f.viv = clock.expiry(n)
	case 'R':
		f.recT, ok = parseI32(v)
	case 'C':
		f.cas, ok = parseU64(v)
	case 'E':
		f.newV, ok = parseU64(v)
	case 'M':
		if len(v) == 0 {
			return "CLIENT_ERROR incorrect length for M token"
		}
		f.mode = v[0]
	case 'D':
		if f.delta, ok = parseU64(v); !ok {
			return "CLIENT_ERROR invalid numeric delta value"
		}
	case 'J':
		if f.init, ok = parseU64(v); !ok {
			return "CLIENT_ERROR invalid numeric initial value"
		}
	}
	if !ok {
		return badToken
	}
	return ""
}

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
	case 'g', 's', 'd', 'a', 'e':
	default:
		c.answer(plainError)
		return nil
	}
	if n == 0 {
		c.answer(badFormat)
		return nil
	}
	c.stripe.add(cmdMeta)
	tok := w.tok[:n]
	if cmd == 'e' {
		c.metaDebug(tok)
		return nil
	}
	skip, first := 0, 1
	if cmd == 's' {
		if n < 2 {
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
	text := ""
	f := &w.meta
	var key []byte
	if n+1 > maxMeta || len(rest) > 0 {
		text = flagsTooLong
	}
	if len(tok[0]) > maxKey {
		text = badFormat
	}
	if text == "" {
		text = f.parse(cmd, tok[first:], &c.s.clock)
	}
	if text == "" {
		key, text = c.metaKey(tok[0], f)
	}
	if text == "" && c.s.acl.Load() != nil && !c.may(key, metaPerm(cmd)) {
		text = denied
	}
	if text != "" {
		c.answer(text)
		if skip > 0 {
			return c.skip(skip)
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
	}
	return nil
}

// metaPerm is what a command does.
func metaPerm(cmd byte) perm {
	switch cmd {
	case 'g':
		return permRead
	case 'a':
		return permRead | permWrite
	}
	return permWrite
}

// appendMetaKey appends the key as it was given: in base64 with " b" behind it.
func appendMetaKey(out, key []byte, binary bool) []byte {
	out = append(out, " k"...)
	if !binary {
		return append(out, key...)
	}
	return append(base64.StdEncoding.AppendEncode(out, key), " b"...)
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

// ttl is what is left of an item's life, in seconds; -1: all.
func (c *conn) ttl(exp uint32) int64 {
	if exp == 0 {
		return -1
	}
	return int64(exp) - int64(c.s.cache.Now())
}

// metaGet is mg.
func (c *conn) metaGet(key []byte, f *metaFlags) error {
	t := &c.w.txn
	cache := c.s.cache
	touching := f.has('T')
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
			c.metaMiss(touching, why)
			c.observeGet(key, false)
			return c.metaHit(key, f, true)
		}
		t.End()
		if err == segcache.ErrNoRoom {
			err = cache.Room(t)
		}
		if err != nil {
			c.stripe.add(storeNoMemory)
			c.answer(noMemory)
			return nil
		}
	}
	if !t.Found() {
		c.metaMiss(touching, t.Miss)
		c.observeGet(key, false)
		t.End()
		if !f.has('q') {
			c.metaStatus("EN", key, f)
		}
		return nil
	}
	if touching {
		c.stripe.add(cmdTouch)
		c.stripe.add(touchHits)
		t.Class().TouchHits++
	} else {
		c.countHit(t)
	}
	c.stripe.add(cmdGet)
	c.stripe.add(getHits)
	c.observeGet(key, true)
	return c.metaHit(key, f, false)
}

func (c *conn) metaMiss(touching bool, why segcache.Miss) {
	if touching {
		c.stripe.add(cmdTouch)
		c.stripe.add(touchMisses)
	}
	c.stripe.add(cmdGet)
	c.countMiss(why)
}

// metaHit answers with the item, and ends the access.
func (c *conn) metaHit(key []byte, f *metaFlags, created bool) error {
	t := &c.w.txn
	won := created
	marks := t.Marks()
	exp := t.Exp()
	if f.has('R') && !created && marks&segcache.TokenSent == 0 && exp != 0 && c.ttl(exp) < int64(f.recT) {
		won = true
	}
	if f.has('T') {
		exp = f.exp
		t.SetExp(exp)
	}
	withValue := f.has('v') && !(f.has('C') && f.cas == t.Version())
	out := c.w.out
	if withValue {
		out = strconv.AppendUint(append(out, "VA "...), uint64(t.Len()), 10)
	} else {
		out = append(out, "HD"...)
	}
	out = c.metaGetFlags(out, key, f, exp)
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
	if !f.has('u') && !created {
		t.Bump()
	}
	if withValue {
		return c.appendValue(t)
	}
	t.End()
	return nil
}

// metaGetFlags appends what is asked for, as it was before the command.
func (c *conn) metaGetFlags(out, key []byte, f *metaFlags, exp uint32) []byte {
	t := &c.w.txn
	for _, tok := range f.list[:f.n] {
		switch tok[0] {
		case 'c':
			out = strconv.AppendUint(append(out, " c"...), t.Version(), 10)
		case 'f':
			out = strconv.AppendUint(append(out, " f"...), uint64(t.Flags()), 10)
		case 'h':
			out = append(out, " h0"...)
			if t.Marks()&segcache.Fetched != 0 {
				out[len(out)-1] = '1'
			}
		case 'k':
			out = appendMetaKey(out, key, t.Marks()&segcache.BinaryKey != 0)
		case 'l':
			out = strconv.AppendUint(append(out, " l"...), uint64(c.s.cache.Now()-t.Access()), 10)
		case 'O':
			out = append(append(out, ' '), tok...)
		case 's':
			out = strconv.AppendUint(append(out, " s"...), uint64(t.Len()), 10)
		case 't':
			out = strconv.AppendInt(append(out, " t"...), c.ttl(exp), 10)
		}
	}
	return out
}

// metaSet is ms.
func (c *conn) metaSet(key []byte, size int, f *metaFlags) error {
	r := putRequest{key: key, flags: f.flags, exp: f.exp, newVersion: f.newV, stale: f.has('I')}
	if f.has('b') {
		r.marks = segcache.BinaryKey
	}
	if f.has('C') {
		r.compare, r.version = true, f.cas
	}
	switch f.mode | 0x20 {
	case 0x20, 's': // 0x20: there is no M
	case 'e':
		r.mode, r.compare = modeAdd, false
	case 'a':
		r.mode = modeAppend
	case 'p':
		r.mode = modePrepend
	case 'r':
		r.mode = modeReplace
	default:
		c.answer("CLIENT_ERROR invalid mode for ms M token")
		return c.skip(size + 2)
	}
	if f.has('N') && (r.mode == modeAppend || r.mode == modePrepend) {
		r.create, r.createExp = true, f.viv
	}
	// The line will be gone when a large value has been read: what of it stands in the answer is made before.
	echo := c.metaSetEcho(key, size, f)
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
		if e == "c" {
			if err == nil {
				out = strconv.AppendUint(append(out, " c"...), r.newVersion, 10)
			}
			continue
		}
		out = append(out, e...)
	}
	c.w.out = append(out, crlf...)
	return nil
}

// setEcho is what stands in an answer to ms.
type setEcho struct {
	list [4]string
	n    int
}

func (c *conn) metaSetEcho(key []byte, size int, f *metaFlags) (e setEcho) {
	for _, t := range f.list[:f.n] {
		text := ""
		switch t[0] {
		case 'O':
			text = " " + string(t)
		case 'k':
			text = string(appendMetaKey(nil, key, f.has('b')))
		case 's':
			text = " s" + strconv.Itoa(size)
		case 'c':
			text = "c"
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
		return c.deleteKey(key, f.cas, f.has('C'))
	}
	t := &c.w.txn
	for {
		c.s.cache.Begin(t, key)
		err := c.metaInvalidate(t, f)
		t.End()
		if err != segcache.ErrNoRoom {
			return err
		}
		if err := c.s.cache.Room(t); err != nil {
			return err
		}
	}
}

// metaInvalidate marks an item stale (I), or empties it (x).
func (c *conn) metaInvalidate(t *segcache.Txn, f *metaFlags) error {
	if !t.Found() {
		c.stripe.add(deleteMisses)
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
		if err := t.Store(&segcache.Put{Exp: t.Exp(), Version: version, Marks: marks}); err != nil {
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
	case 0, 'I', 'i', '+':
	case 'D', 'd', '-':
		up = false
	default:
		c.answer("CLIENT_ERROR invalid mode for ma M token")
		return
	}
	o := addOptions{newVersion: f.newV, create: f.has('N'), createExp: f.viv, initial: f.init, touch: f.has('T'), exp: f.exp}
	o.compare, o.version = f.cas != 0, f.cas // as memcached: here, C0 is none
	var version uint64
	var exp uint32
	o.after = func(t *segcache.Txn) { version, exp = t.Version(), t.Exp() }
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
	if f.has('q') {
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
	out := append(append(c.w.out, "ME "...), tok[0]...)
	out = strconv.AppendInt(append(out, " exp="...), c.ttl(t.Exp()), 10)
	out = strconv.AppendUint(append(out, " la="...), uint64(c.s.cache.Now()-t.Access()), 10)
	out = strconv.AppendUint(append(out, " cas="...), t.Version(), 10)
	out = append(append(out, " fetch="...), yesNo(t.Marks()&segcache.Fetched != 0)...)
	out = strconv.AppendInt(append(out, " cls="...), int64(class+1), 10)
	out = strconv.AppendInt(append(out, " size="...), int64(size), 10)
	c.w.out = append(out, crlf...)
}
