package memcached

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"

	"wheelhouse/memcache/segcache"
)

// Answers of the text protocol (protocol.txt).
const (
	badFormat   = "CLIENT_ERROR bad command line format"
	badChunk    = "CLIENT_ERROR bad data chunk"
	badExptime  = "CLIENT_ERROR invalid exptime argument"
	badDelta    = "CLIENT_ERROR invalid numeric delta argument"
	notNumeric  = "CLIENT_ERROR cannot increment or decrement non-numeric value"
	tooLarge    = "SERVER_ERROR object too large for cache"
	noMemory    = "SERVER_ERROR out of memory storing object"
	denied      = "CLIENT_ERROR access denied"
	unauthed    = "CLIENT_ERROR unauthenticated"
	plainError  = "ERROR"
	dumpAlone   = "ERROR cannot pipeline other commands before metadump"
	crlf        = "\r\n"
	noReplyWord = "noreply"
)

// split cuts a line at blanks into at most len(tok) tokens; rest is what follows them.
func split(line []byte, tok [][]byte) (n int, rest []byte) {
	for n < len(tok) {
		for len(line) > 0 && line[0] == ' ' {
			line = line[1:]
		}
		if len(line) == 0 {
			return n, nil
		}
		i := bytes.IndexByte(line, ' ')
		if i < 0 {
			i = len(line)
		}
		tok[n] = line[:i]
		n++
		line = line[i:]
	}
	for len(line) > 0 && line[0] == ' ' {
		line = line[1:]
	}
	return n, line
}

// timed does a command and looks how long it took.
func (c *conn) timed(line []byte) error {
	begun := time.Now()
	text := string(line[:min(len(line), slowText)])
	err := c.command(line)
	if err != errPartial && err != errTurn && err != errNotYet {
		c.s.slow.note(c, text, time.Since(begun))
	}
	return err
}

// command does what a line says. A line begins with its command: a blank before it is an error.
func (c *conn) command(line []byte) error {
	name, args := line, []byte(nil)
	if i := bytes.IndexByte(line, ' '); i >= 0 {
		name, args = line[:i], line[i+1:]
	}
	if !c.authed && c.mustAuth() {
		return c.authenticate(name, args)
	}
	if c.s.watch.wants(watchRaw) && !c.again {
		c.s.watch.raw(c, line)
	}
	if len(name) == 2 && name[0] == 'm' {
		return c.metaCommand(name[1], args)
	}
	switch string(name) {
	case "get":
		return c.get(args, false)
	case "gets":
		return c.get(args, true)
	case "set":
		return c.store(args, modeSet)
	case "add":
		return c.store(args, modeAdd)
	case "replace":
		return c.store(args, modeReplace)
	case "append":
		return c.store(args, modeAppend)
	case "prepend":
		return c.store(args, modePrepend)
	case "cas":
		return c.store(args, modeCAS)
	case "delete":
		c.deleteCommand(args)
	case "incr":
		c.arithmetic(args, true)
	case "decr":
		c.arithmetic(args, false)
	case "touch":
		c.touch(args)
	case "gat":
		return c.getAndTouch(args, false)
	case "gats":
		return c.getAndTouch(args, true)
	default:
		return c.admin(name, args)
	}
	return nil
}

// noReply takes the word from the end of a command's tokens.
func noReply(tok [][]byte) ([][]byte, bool) {
	if n := len(tok); n > 0 && string(tok[n-1]) == noReplyWord {
		return tok[:n-1], true
	}
	return tok, false
}

// reply answers, unless the client does not want to know.
func (c *conn) reply(quiet bool, s string) {
	if !quiet {
		c.answer(s)
	}
}

// appendValueLine appends "VALUE key flags length [version]".
func (c *conn) appendValueLine(key []byte, flags uint32, n int, version uint64, withVersion bool) {
	out := append(c.w.out, "VALUE "...)
	out = append(append(out, key...), ' ')
	out = append(strconv.AppendUint(out, uint64(flags), 10), ' ')
	out = strconv.AppendUint(out, uint64(n), 10)
	if withVersion {
		out = strconv.AppendUint(append(out, ' '), version, 10)
	}
	c.w.out = append(out, crlf...)
}

// get answers get and gets. keys is the rest of the line.
func (c *conn) get(keys []byte, withVersion bool) error {
	if keys = bytes.TrimLeft(keys, " "); len(keys) == 0 {
		c.answer(plainError)
		return nil
	}
	if len(keys) > longMultiget {
		c.detach()
	}
	if !c.mayGet(keys, permRead) {
		return nil
	}
	many := bytes.IndexByte(keys, ' ') >= 0
	for n := 0; len(keys) > 0; n++ {
		if many && n%aheadKeys == 0 {
			c.multiAhead(keys)
		}
		key := keys
		if i := bytes.IndexByte(keys, ' '); i >= 0 {
			key, keys = keys[:i], bytes.TrimLeft(keys[i:], " ")
		} else {
			keys = nil
		}
		if c.lookup(key) {
			t := &c.w.txn
			c.appendValueLine(key, t.Flags(), t.Len(), t.Version(), withVersion)
			if err := c.appendValue(t); err != nil {
				return err
			}
		}
		if stop, err := c.flushDue(); err != nil {
			return err
		} else if stop && len(keys) > 0 {
			name := "get "
			if withVersion {
				name = "gets "
			}
			return c.suspend(name, keys)
		}
	}
	c.w.out = append(c.w.out, "END\r\n"...)
	return nil
}

// mayGet reports whether a multiget may go on, and answers if not. The rest of one that has begun may.
func (c *conn) mayGet(keys []byte, what perm) bool {
	switch {
	case c.again:
		return true
	case !c.keysFit(keys):
		c.answer(badFormat)
	case !c.mayAll(keys, what):
		c.answer(denied)
	default:
		return true
	}
	return false
}

// keysFit reports whether no key is too long.
func (c *conn) keysFit(keys []byte) bool {
	if len(keys) <= maxKey {
		return true
	}
	for key := range bytes.SplitSeq(keys, []byte{' '}) {
		if len(key) > maxKey {
			return false
		}
	}
	return true
}

// lookup begins an access for reading, counts it, and bumps the item. If it returns true, the access must be ended.
func (c *conn) lookup(key []byte) bool {
	s, t := c.s, &c.w.txn
	s.cache.Begin(t, key)
	c.stripe.add(cmdGet)
	found := t.Found()
	if found {
		c.stripe.add(getHits)
		c.countHit(t)
		t.Bump()
	} else {
		c.countMiss(t.Miss)
	}
	c.observeGet(key, found, getHits)
	if !found {
		t.End()
	}
	return found
}

// countHit counts a hit in the item's class.
func (c *conn) countHit(t *segcache.Txn) {
	k := t.Class()
	k.GetHits++
	if t.InMain() {
		k.HitsMain++
	}
}

func (c *conn) countMiss(why segcache.Miss) {
	c.stripe.add(getMisses)
	c.countGone(why)
}

// countGone counts items that were there and are found no more, by whatever looks for them. As memcached, all of them count as gets.
func (c *conn) countGone(why segcache.Miss) {
	switch why {
	case segcache.Expired:
		c.stripe.add(getExpired)
	case segcache.Flushed:
		c.stripe.add(getFlushed)
	}
}

// observeGet tells those who look at single accesses, if there are any. hits is where a hit has been counted.
func (c *conn) observeGet(key []byte, found bool, hits counter) {
	s := c.s
	if s.detail.on.Load() {
		s.detail.get(key, s.opts.Delimiter, found)
	}
	if found {
		s.hot.sample(c, key, hits)
	}
	s.watch.looked(c, key, found, &c.w.txn)
}

// appendValue appends the item's value and a line's end, and ends the access.
func (c *conn) appendValue(t *segcache.Txn) error {
	v := t.Value()
	if !c.holds(len(v)) {
		c.w.out = append(append(c.w.out, v...), crlf...)
		t.End()
		return nil
	}
	held := t.Hold()
	t.End()
	if err := c.writeHeld(v, held); err != nil {
		return err
	}
	c.w.out = append(c.w.out, crlf...)
	return nil
}

// getAndTouch is get with a new expiry time.
func (c *conn) getAndTouch(args []byte, withVersion bool) error {
	n, keys := split(args, c.w.tok[:1])
	if n == 0 {
		c.answer(plainError)
		return nil
	}
	if len(keys) == 0 {
		c.answer(badFormat)
		return nil
	}
	if len(keys) > longMultiget {
		c.detach()
	}
	until := c.w.tok[0]
	exp, ok := parseI32(until)
	if !ok {
		c.answer(badExptime)
		return nil
	}
	if !c.mayGet(keys, permRead|permWrite) {
		return nil
	}
	at := c.s.clock.expiry(exp)
	for len(keys) > 0 {
		var n int
		n, keys = split(keys, c.w.tok[:1])
		if n == 0 {
			break
		}
		key := c.w.tok[0]
		t := &c.w.txn
		c.s.cache.Begin(t, key)
		c.stripe.add(cmdTouch)
		if !t.Found() {
			c.stripe.add(touchMisses)
			c.countGone(t.Miss)
			c.observeGet(key, false, touchHits)
			t.End()
			continue
		}
		c.stripe.add(touchHits)
		t.Class().TouchHits++
		t.Bump()
		t.SetExp(at)
		c.observeGet(key, true, touchHits)
		c.appendValueLine(key, t.Flags(), t.Len(), t.Version(), withVersion)
		if err := c.appendValue(t); err != nil {
			return err
		}
		if stop, err := c.flushDue(); err != nil {
			return err
		} else if stop && len(keys) > 0 {
			name := "gat "
			if withVersion {
				name = "gats "
			}
			return c.suspend(name+string(until)+" ", keys)
		}
	}
	c.w.out = append(c.w.out, "END\r\n"...)
	return nil
}

// keyArgs splits the arguments of a command about a key, of which there must be least and at most 3, noreply among them: of a line that has others, the
// error is told. It answers if they are wrong; ok is false then.
func (c *conn) keyArgs(args []byte, least int) (tok [][]byte, quiet, ok bool) {
	n, _ := split(args, c.w.tok[:])
	tok = c.w.tok[:n]
	if n > 1 && n <= 3 { // the first is the key, whatever its name
		tok, quiet = noReply(tok)
	}
	switch {
	case len(tok) < least, n > 3:
		c.reply(quiet, plainError)
	case len(tok[0]) > maxKey:
		c.reply(quiet, badFormat)
	default:
		ok = true
	}
	return tok, quiet, ok
}

func (c *conn) touch(args []byte) {
	tok, quiet, ok := c.keyArgs(args, 2)
	if !ok {
		return
	}
	exp, ok := parseI32(tok[1])
	if !ok {
		c.reply(quiet, badExptime)
		return
	}
	if !c.may(tok[0], permWrite) {
		c.reply(quiet, denied)
		return
	}
	if c.touchKey(tok[0], c.s.clock.expiry(exp)) {
		c.reply(quiet, "TOUCHED")
	} else {
		c.reply(quiet, "NOT_FOUND")
	}
}

func (c *conn) touchKey(key []byte, exp uint32) (found bool) {
	t := &c.w.txn
	c.s.cache.Begin(t, key)
	defer t.End()
	c.stripe.add(cmdTouch)
	c.s.watch.looked(c, key, t.Found(), t)
	if !t.Found() {
		c.stripe.add(touchMisses)
		c.countGone(t.Miss)
		return false
	}
	c.stripe.add(touchHits)
	t.Class().TouchHits++
	t.Bump()
	t.SetExp(exp)
	return true
}

func (c *conn) deleteCommand(args []byte) {
	tok, quiet, ok := c.keyArgs(args, 1)
	switch {
	case !ok:
		return
	case len(tok) > 2 || len(tok) == 2 && string(tok[1]) != "0":
		// 1.6.42 takes no notice of them, and fails memccapable by that; a time was once allowed, and a client that means one is told.
		c.reply(quiet, badFormat+".  Usage: delete <key> [noreply]")
		return
	case !c.may(tok[0], permWrite):
		c.reply(quiet, denied)
		return
	}
	if c.deleteKey(tok[0], 0, false, "delete") == nil {
		c.reply(quiet, "DELETED")
	} else {
		c.reply(quiet, "NOT_FOUND")
	}
}

// Errors of operations on one item.
var (
	errNotFound   = errors.New("not found")
	errExists     = errors.New("exists")
	errNotStored  = errors.New("not stored")
	errNotNumeric = errors.New("not numeric")
)

// deleteKey deletes; with compare, only if the item has that version. Watchers are told cmd.
func (c *conn) deleteKey(key []byte, version uint64, compare bool, cmd string) error {
	t := &c.w.txn
	c.s.cache.Begin(t, key)
	defer t.End()
	if c.s.detail.on.Load() {
		c.s.detail.delete(key, c.s.opts.Delimiter)
	}
	switch {
	case !t.Found():
		c.stripe.add(deleteMisses)
		c.countGone(t.Miss)
		return errNotFound
	case compare && version != t.Version():
		return errExists
	}
	c.stripe.add(deleteHits)
	t.Class().DeleteHits++
	if c.s.watch.wants(watchDelete) {
		c.s.watch.deleted(c, key, t, cmd)
	}
	t.Delete()
	return nil
}

func (c *conn) arithmetic(args []byte, up bool) {
	tok, quiet, ok := c.keyArgs(args, 2)
	if !ok {
		return
	}
	delta, ok := parseU64(tok[1])
	if !ok {
		c.reply(quiet, badDelta)
		return
	}
	if !c.may(tok[0], permRead|permWrite) {
		c.reply(quiet, denied)
		return
	}
	v, err := c.add(tok[0], delta, up, &addOptions{})
	switch {
	case quiet:
	case err == nil:
		c.w.out = append(strconv.AppendUint(c.w.out, v, 10), crlf...)
	case err == errNotFound:
		c.answer("NOT_FOUND")
	case err == errNotNumeric:
		c.answer(notNumeric)
	default:
		c.answer(noMemory)
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// hasPrefix is memcached's comparison of the words after stats: a beginning is enough.
func hasPrefix(word []byte, name string) bool {
	return len(word) > 0 && strings.HasPrefix(name, string(word))
}
