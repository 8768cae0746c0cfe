package memcached

import (
	"encoding/binary"
	"errors"

	"wheelhouse/memcache/segcache"
)

// The binary protocol (protocol_binary.txt). Numbers are big endian.
const (
	binRequest  = 0x80
	binResponse = 0x81
	binHeader   = 24
	binSmall    = 16 << 10 // bytes of the body of a request that is not to store something
)

const (
	opGet = iota
	opSet
	opAdd
	opReplace
	opDelete
	opIncr
	opDecr
	opQuit
	opFlush
	opGetQ
	opNoop
	opVersion
	opGetK
	opGetKQ
	opAppend
	opPrepend
	opStat
	opSetQ
	opAddQ
	opReplaceQ
	opDeleteQ
	opIncrQ
	opDecrQ
	opQuitQ
	opFlushQ
	opAppendQ
	opPrependQ
	opVerbosity // as memcached: it has a number, and is not known
	opTouch
	opGAT
	opGATQ
	_
	opSASLList
	opSASLAuth
	opSASLStep
	opGATK
	opGATKQ
)

type binStatus uint16

const (
	binOK          binStatus = 0
	binNotFound    binStatus = 1
	binExists      binStatus = 2
	binTooLarge    binStatus = 3
	binInvalid     binStatus = 4
	binNotStored   binStatus = 5
	binNotNumeric  binStatus = 6
	binAuthFailure binStatus = 0x20
	binAuthMore    binStatus = 0x21
	binUnknown     binStatus = 0x81
	binNoMemory    binStatus = 0x82
)

var binTexts = map[binStatus]string{
	binNotFound: "Not found", binExists: "Data exists for key.", binTooLarge: "Too large.", binInvalid: "Invalid arguments",
	binNotStored: "Not stored.", binNotNumeric: "Non-numeric server-side value for incr or decr", binAuthFailure: "Auth failure.",
	binUnknown: "Unknown command", binNoMemory: "Out of memory",
}

// binHead is a request's header.
type binHead struct {
	op      uint8
	extras  int
	keyLen  int
	bodyLen int
	opaque  uint32
	version uint64
}

// parseBinHead reads a header. ok is false where its lengths contradict each other or the key is too long.
func parseBinHead(b []byte) (h binHead, ok bool) {
	h = binHead{
		op: b[1], keyLen: int(binary.BigEndian.Uint16(b[2:])), extras: int(b[4]), bodyLen: int(binary.BigEndian.Uint32(b[8:])),
		opaque: binary.BigEndian.Uint32(b[12:]), version: binary.BigEndian.Uint64(b[16:]),
	}
	return h, b[0] == binRequest && h.keyLen <= maxKey && h.keyLen+h.extras <= h.bodyLen && h.bodyLen <= maxBinary
}

// binRule says what a request looks like.
type binRule struct {
	known      bool
	key        bool // has one; otherwise must not, unless
	mayKey     bool // it may
	extras     int  // bytes; -1: 0 or 4
	value      bool // may have one
	quiet      bool
	mode       storeMode
	isStorage  bool
	isGet      bool
	withKey    bool // the answer to a get has the key
	touches    bool
	up, number bool
}

var binRules = func() (r [256]binRule) {
	for op, mode := range map[int]storeMode{opSet: modeSet, opAdd: modeAdd, opReplace: modeReplace, opAppend: modeAppend, opPrepend: modePrepend} {
		extras := 8
		if mode == modeAppend || mode == modePrepend {
			extras = 0
		}
		r[op] = binRule{known: true, key: true, extras: extras, value: true, mode: mode, isStorage: true}
	}
	r[opGet] = binRule{known: true, key: true, isGet: true}
	r[opGetK] = binRule{known: true, key: true, isGet: true, withKey: true}
	r[opTouch] = binRule{known: true, key: true, extras: 4, isGet: true, touches: true}
	r[opGAT] = binRule{known: true, key: true, extras: 4, isGet: true, touches: true}
	r[opGATK] = binRule{known: true, key: true, extras: 4, isGet: true, touches: true, withKey: true}
	r[opDelete] = binRule{known: true, key: true}
	r[opIncr] = binRule{known: true, key: true, extras: 20, number: true, up: true}
	r[opDecr] = binRule{known: true, key: true, extras: 20, number: true}
	r[opQuit] = binRule{known: true}
	r[opFlush] = binRule{known: true, extras: -1}
	r[opNoop] = binRule{known: true}
	r[opVersion] = binRule{known: true}
	r[opStat] = binRule{known: true, mayKey: true}
	r[opSASLList] = binRule{known: true}
	r[opSASLAuth] = binRule{known: true, key: true, value: true}
	r[opSASLStep] = r[opSASLAuth]
	for op, quiet := range map[int]int{
		opGet: opGetQ, opGetK: opGetKQ, opSet: opSetQ, opAdd: opAddQ, opReplace: opReplaceQ, opDelete: opDeleteQ, opIncr: opIncrQ,
		opDecr: opDecrQ, opQuit: opQuitQ, opFlush: opFlushQ, opAppend: opAppendQ, opPrepend: opPrependQ, opGAT: opGATQ, opGATK: opGATKQ,
	} {
		r[quiet] = r[op]
		r[quiet].quiet = true
	}
	return r
}()

// fits reports whether the lengths of a request's parts are those of its command.
func (r *binRule) fits(h *binHead, value int) bool {
	switch {
	case !r.mayKey && r.key != (h.keyLen > 0), !r.value && value > 0:
		return false
	case r.extras < 0:
		return h.extras == 0 || h.extras == 4
	}
	return h.extras == r.extras
}

// binReply appends an answer without extras and key but with a body of text.
func (c *conn) binReply(h *binHead, status binStatus, body string, version uint64) {
	c.binHeader(h, status, 0, 0, len(body), version)
	c.w.out = append(c.w.out, body...)
}

func (c *conn) binHeader(h *binHead, status binStatus, extras, keyLen, bodyLen int, version uint64) {
	out := append(c.w.out, binResponse, h.op)
	out = binary.BigEndian.AppendUint16(out, uint16(keyLen))
	out = append(out, byte(extras), 0)
	out = binary.BigEndian.AppendUint16(out, uint16(status))
	out = binary.BigEndian.AppendUint32(out, uint32(bodyLen))
	out = binary.BigEndian.AppendUint32(out, h.opaque)
	c.w.out = binary.BigEndian.AppendUint64(out, version)
}

func (c *conn) binError(h *binHead, status binStatus) { c.binReply(h, status, binTexts[status], 0) }

// binary handles one request. more is false where it is not complete.
func (c *conn) binary() (more bool, err error) {
	w := c.w
	if w.in[w.r] != binRequest {
		return false, errClosed
	}
	if w.n-w.r < binHeader {
		c.makeRoom(binHeader)
		return false, nil
	}
	if c.s.flushAt.Load() != 0 {
		c.s.dueFlush()
	}
	h, ok := parseBinHead(w.in[w.r:w.n])
	rule := &binRules[h.op]
	if !ok {
		c.binError(&h, binInvalid)
		return false, c.endAfterFlush()
	}
	if c.s.opts.SASL != nil && !c.authed && h.op != opVersion && (h.op < opSASLList || h.op > opSASLStep) {
		c.binError(&h, binAuthFailure)
		return false, c.endAfterFlush()
	}
	head := binHeader + h.bodyLen
	switch {
	case !rule.known:
		w.r += binHeader
		c.binError(&h, binUnknown)
		c.skip(h.bodyLen)
		return true, nil
	case rule.isStorage:
		head = binHeader + h.extras + h.keyLen
	case h.bodyLen > binSmall:
		c.binError(&h, binInvalid)
		return false, c.endAfterFlush()
	}
	if !c.arrived(head) {
		return false, c.postpone(w.r)
	}
	start := w.r
	body := w.in[w.r+binHeader : w.r+head]
	w.r += head
	extras, key, value := body[:h.extras], body[h.extras:h.extras+h.keyLen], body[h.extras+h.keyLen:]
	if !rule.fits(&h, len(value)) {
		c.binError(&h, binInvalid)
		return false, c.endAfterFlush()
	}
	switch h.op {
	case opStat:
		if err = c.binStats(&h, key); err == errNotYet {
			w.r = start
		}
		return true, err
	case opSASLList, opSASLAuth, opSASLStep:
		return true, c.sasl(&h, key, value)
	}
	if c.s.slow.after == 0 {
		err = c.binCommand(&h, rule, extras, key)
	} else {
		err = c.timedBinary(&h, rule, extras, key)
	}
	if err == errPartial {
		return false, c.postpone(start)
	}
	return true, err
}

// endAfterFlush ends the connection once what it has been told is out.
func (c *conn) endAfterFlush() error {
	c.quit = true
	return nil
}

func (c *conn) binCommand(h *binHead, rule *binRule, extras, key []byte) error {
	switch {
	case rule.isStorage:
		return c.binStore(h, rule, extras, key)
	case rule.isGet:
		return c.binGet(h, rule, extras, key)
	case rule.number:
		c.binNumber(h, rule, extras, key)
		return nil
	}
	switch h.op {
	case opDelete, opDeleteQ:
		c.binDelete(h, rule, key)
	case opFlush, opFlushQ:
		c.binFlush(h, rule, extras)
	case opNoop:
		c.binReply(h, binOK, "", 0)
	case opVersion:
		c.binReply(h, binOK, Version, 0)
	case opQuit, opQuitQ:
		if !rule.quiet {
			c.binReply(h, binOK, "", 0)
		}
		c.quit = true
	}
	return nil
}

func (c *conn) binDelete(h *binHead, rule *binRule, key []byte) {
	if !c.may(key, permWrite) {
		c.binError(h, binAuthFailure)
		return
	}
	switch c.deleteKey(key, h.version, h.version != 0, "delete") {
	case nil:
		if !rule.quiet {
			c.binReply(h, binOK, "", 0)
		}
	case errExists:
		c.binError(h, binExists)
	default:
		c.binError(h, binNotFound)
	}
}

func (c *conn) binFlush(h *binHead, rule *binRule, extras []byte) {
	if c.s.opts.NoFlush || !c.mayAdmin() {
		c.binError(h, binAuthFailure)
		return
	}
	at := uint32(0)
	if len(extras) == 4 {
		at = c.s.clock.binaryExpiry(extras)
	}
	c.stripe.add(cmdFlush)
	c.s.flush(at)
	if !rule.quiet {
		c.binReply(h, binOK, "", 0)
	}
}

func (c *conn) binStore(h *binHead, rule *binRule, extras, key []byte) error {
	size := h.bodyLen - h.extras - h.keyLen
	r := putRequest{mode: rule.mode, key: key, compare: h.version != 0, version: h.version}
	if len(extras) == 8 {
		r.flags = binary.BigEndian.Uint32(extras)
		r.exp = c.s.clock.binaryExpiry(extras[4:])
		if r.compare { // set, add and replace are the same then
			r.mode = modeCAS
		}
	}
	if !c.may(key, permWrite) {
		c.binError(h, binAuthFailure)
		c.skip(size)
		return nil
	}
	err := c.receive(&r, size, 0)
	status := binOK
	switch {
	case err == nil:
		if !rule.quiet {
			c.binReply(h, binOK, "", r.newVersion)
		}
		return nil
	case err == errExists:
		status = binExists
	case err == errNotFound:
		status = binNotFound
	case err == errNotStored:
		switch rule.mode {
		case modeAdd:
			status = binExists
		case modeReplace:
			status = binNotFound
		default:
			status = binNotStored
		}
	case errors.Is(err, segcache.ErrTooLarge):
		status = binTooLarge
	case errors.Is(err, segcache.ErrFull):
		status = binNoMemory
	default:
		return err
	}
	c.binError(h, status)
	return nil
}

func (c *conn) binGet(h *binHead, rule *binRule, extras, key []byte) error {
	need := permRead
	if rule.touches {
		need |= permWrite
	}
	if !c.may(key, need) {
		c.binError(h, binAuthFailure)
		return nil
	}
	t := &c.w.txn
	found := false
	if rule.touches {
		c.s.cache.Begin(t, key)
		found = t.Found()
		c.stripe.add(cmdTouch)
		if found {
			c.stripe.add(touchHits)
			t.Class().TouchHits++
			t.Bump()
			t.SetExp(c.s.clock.binaryExpiry(extras))
		} else {
			c.stripe.add(touchMisses)
			c.countGone(t.Miss)
		}
		if h.op == opTouch {
			c.s.watch.looked(c, key, found, t)
		} else {
			c.observeGet(key, found, touchHits)
		}
		if !found {
			t.End()
		}
	} else {
		found = c.lookup(key)
	}
	switch {
	case !found && rule.quiet:
		return nil
	case !found && rule.withKey:
		c.binHeader(h, binNotFound, 0, len(key), len(key), 0)
		c.w.out = append(c.w.out, key...)
		return nil
	case !found:
		c.binError(h, binNotFound)
		return nil
	}
	keyLen, n := 0, t.Len()
	if rule.withKey {
		keyLen = len(key)
	}
	if h.op == opTouch {
		n = 0
	}
	c.binHeader(h, binOK, 4, keyLen, 4+keyLen+n, t.Version())
	c.w.out = binary.BigEndian.AppendUint32(c.w.out, t.Flags())
	c.w.out = append(c.w.out, key[:keyLen]...)
	v := t.Value()[:n]
	if !c.holds(n) {
		c.w.out = append(c.w.out, v...)
		t.End()
		return nil
	}
	held := t.Hold()
	t.End()
	return c.writeHeld(v, held)
}

func (c *conn) binNumber(h *binHead, rule *binRule, extras, key []byte) {
	if !c.may(key, permRead|permWrite) {
		c.binError(h, binAuthFailure)
		return
	}
	delta, initial := binary.BigEndian.Uint64(extras), binary.BigEndian.Uint64(extras[8:])
	exp := binary.BigEndian.Uint32(extras[16:])
	o := addOptions{compare: h.version != 0, version: h.version, create: exp != 0xffffffff, initial: initial, createExp: c.s.clock.binaryExpiry(extras[16:])}
	var version uint64
	o.after = func(t *segcache.Txn, _ uint32, _ bool) { version = t.Version() }
	v, err := c.add(key, delta, rule.up, &o)
	switch err {
	case nil:
		if !rule.quiet {
			c.binHeader(h, binOK, 0, 0, 8, version)
			c.w.out = binary.BigEndian.AppendUint64(c.w.out, v)
		}
	case errNotFound:
		c.binError(h, binNotFound)
	case errExists:
		c.binError(h, binExists)
	case errNotNumeric:
		c.binError(h, binNotNumeric)
	default:
		c.binError(h, binNoMemory)
	}
}

// isStatGroup reports whether a word is the whole name of a group: the binary protocol knows no shorter ones.
func isStatGroup(word string) bool {
	switch word {
	case "settings", "conns", "items", "slabs", "sizes", "extstore", "proxy", "proxyfuncs", "proxybe":
		return true
	}
	return false
}

// binStat appends one statistic, or the end if it has no name.
func (c *conn) binStat(name, value string) {
	h := &binHead{op: opStat, opaque: c.w.opaque}
	c.binHeader(h, binOK, 0, len(name), len(name)+len(value), 0)
	c.w.out = append(append(c.w.out, name...), value...)
}

// binStats is stat; the key is the group.
func (c *conn) binStats(h *binHead, key []byte) error {
	if !c.s.gate.admits(c) {
		return errNotYet
	}
	c.detach()
	c.turn += c.s.opts.Batch // see stats
	c.w.opaque = h.opaque
	if !c.mayAdmin() {
		c.binError(h, binAuthFailure)
		return nil
	}
	switch {
	case len(key) == 0:
		c.s.gate.do(c.generalStats)
	case string(key) == "reset":
		c.s.resetStats()
	case string(key) == "detail on", string(key) == "detail off":
		c.s.detail.on.Store(string(key) == "detail on")
	case string(key) == "detail dump" && c.s.pressed(): // it cannot be sent in parts
		c.binError(h, binNoMemory)
		return nil
	case string(key) == "detail dump":
		c.s.gate.do(func() {
			d := &c.s.detail
			c.binStat("detailed", string(d.append(nil, d.names("", maxPrefixes+1)))+"END\r\n")
		})
	case string(key) == "hotkeys":
		c.binStat("hotkeys", string(c.s.hot.report(nil)))
	case string(key) == "slow":
		c.binStat("slow", string(c.s.slow.report(nil)))
	case isStatGroup(string(key)):
		if _, err := c.statGroup(key); err != nil {
			return err
		}
	default:
		c.binError(h, binNotFound)
		return nil
	}
	c.statEnd()
	return nil
}
