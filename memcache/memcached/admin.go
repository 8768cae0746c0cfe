package memcached

import (
	"bytes"
	"strconv"
	"sync"

	"wheelhouse/memcache/segcache"
)

// knobs are settings of memcached's own memory layout. They are kept, and shown by "stats settings"; here there is nothing that they
// would change.
type knobs struct {
	mu                                       sync.Mutex
	automove                                 int
	automoveRatio, freeRatio, window         float64
	segmented, tempLRU, crawler              bool
	hotPct, warmPct, tempTTL, sleep, tocrawl int
	hotFactor, warmFactor                    float64
}

func (k *knobs) init() {
	*k = knobs{
		automove: 1, automoveRatio: 0.8, freeRatio: 0.01, window: 30, segmented: true, crawler: true, hotPct: 20, warmPct: 40,
		tempTTL: 61, sleep: 100, hotFactor: 0.2, warmFactor: 2,
	}
}

// waitsAtGate reports whether a command may have to wait at the gate.
func waitsAtGate(name []byte) bool { return string(name) == "stats" || string(name) == "lru_crawler" }

// admin handles what is not about one item.
func (c *conn) admin(name, args []byte) error {
	if waitsAtGate(name) && !c.s.gate.admits(c) {
		return errNotYet
	}
	c.detach()
	w := c.w
	n, _ := split(args, w.tok[:])
	all := w.tok[:n]
	tok, quiet, tooMany := adminNoReply(name, all)
	if text, known := c.adminAllowed(name); !known {
		if n > 0 && bytes.HasPrefix(all[n-1], []byte("HTTP/")) {
			return errClosed
		}
		c.answer(plainError)
		return nil
	} else if text != "" {
		c.reply(quiet, text)
		return nil
	}
	if tooMany {
		c.answer(plainError)
		return nil
	}
	switch string(name) {
	case "flush_all":
		c.reply(quiet, c.flushAll(tok))
	case "flush_prefix":
		c.reply(quiet, c.flushPrefix(tok))
	case "flush_tag":
		c.reply(quiet, c.flushTag(tok))
	case "version":
		c.answer("VERSION " + Version)
	case "verbosity":
		c.reply(quiet, c.verbosity(tok))
	case "quit":
		c.quit = true
	case "stats":
		return c.stats(all)
	case "cache_memlimit":
		c.reply(quiet, c.memlimit(tok))
	case "slabs":
		c.reply(quiet, c.s.knobs.slabs(tok))
	case "lru":
		c.reply(quiet, c.s.knobs.lru(tok))
	case "lru_crawler":
		return c.crawler(all)
	case "watch":
		return c.watchCommand(all)
	case "shutdown":
		c.shutdown(all)
	case "refresh_certs":
		c.answer(c.refreshCerts())
	case "debugtime":
		c.answer(c.debugTime(tok))
	case "snapshot":
		c.answer(c.snapshot())
	case "extstore":
		c.answer(plainError) // as where memcached has no external storage
	}
	return nil
}

// adminNoReply takes noreply from the end of what follows a command that knows it. As memcached, it counts words with it: of a line that has too
// many, the error is told.
func adminNoReply(name []byte, all [][]byte) (tok [][]byte, quiet, tooMany bool) {
	names, most := 0, maxTokens // names: words that come first, whatever they are
	switch string(name) {
	case "flush_all", "verbosity", "cache_memlimit":
		most = 2
	case "flush_prefix", "flush_tag":
		names, most = 1, 2
	case "lru":
	case "slabs":
		if len(all) < 2 || string(all[0]) != "automove" {
			return all, false, false
		}
	default:
		return all, false, false
	}
	if len(all) > names {
		tok, quiet = noReply(all)
		return tok, quiet, len(all) > most
	}
	return all, false, false
}

// adminAllowed says whether there is such a command, and why it may not be used now.
func (c *conn) adminAllowed(name []byte) (text string, known bool) {
	switch string(name) {
	case "version", "quit":
		return "", true
	case "debugtime":
		if !c.s.opts.DebugTime {
			return "", false
		}
	case "snapshot":
		if c.s.opts.Snapshot == "" {
			return "", false
		}
	case "flush_all", "flush_prefix", "flush_tag", "verbosity", "stats", "cache_memlimit", "slabs", "lru", "lru_crawler", "watch", "shutdown", "refresh_certs", "extstore":
	default:
		return "", false
	}
	if !c.mayAdmin() {
		return denied, true
	}
	return "", true
}

func (c *conn) flushAll(tok [][]byte) string {
	if c.s.opts.NoFlush {
		return "CLIENT_ERROR flush_all not allowed"
	}
	delay := int32(0)
	if len(tok) > 0 {
		var ok bool
		if delay, ok = parseI32(tok[0]); !ok {
			return badExptime
		}
	}
	c.stripe.add(cmdFlush)
	at := uint32(0)
	if delay > 0 {
		at = c.s.clock.expiry(delay)
	}
	c.s.flush(at)
	return "OK"
}

// flush forgets all, now (0) or at a time.
func (s *Server) flush(at uint32) {
	s.flushAt.Store(at)
	if at == 0 {
		s.cache.Flush()
	}
	s.dueFlush()
}

func (c *conn) flushPrefix(tok [][]byte) string {
	if c.s.opts.NoFlush {
		return "CLIENT_ERROR flush_all not allowed"
	}
	if len(tok) != 1 || len(tok[0]) > maxKey {
		return badFormat
	}
	c.stripe.add(cmdFlush)
	prefix := bytes.TrimSuffix(tok[0], []byte{c.s.opts.Delimiter})
	if c.s.cache.FlushPrefix(string(prefix)) != nil {
		return "SERVER_ERROR too many prefixes have been flushed"
	}
	return "OK"
}

func (c *conn) flushTag(tok [][]byte) string {
	if c.s.opts.NoFlush {
		return "CLIENT_ERROR flush_all not allowed"
	}
	if len(tok) != 1 || !validTags(tok[0]) || bytes.IndexByte(tok[0], ',') >= 0 {
		return badFormat
	}
	c.stripe.add(cmdFlush)
	if c.s.cache.FlushTag(string(tok[0])) != nil {
		return "SERVER_ERROR too many tags have been flushed"
	}
	return "OK"
}

func (c *conn) verbosity(tok [][]byte) string {
	if len(tok) == 0 {
		return badFormat
	}
	n, ok := parseU64(tok[0])
	if !ok {
		return badFormat
	}
	c.s.setVerbose(n)
	return "OK"
}

// setVerbose changes how much is logged. As with memcached, more than the most is the most.
func (s *Server) setVerbose(n uint64) {
	level := int(min(n, maxVerbose))
	s.verbose.Store(int32(level))
	if s.opts.OnVerbosity != nil {
		s.opts.OnVerbosity(level)
	}
}

func (c *conn) memlimit(tok [][]byte) string {
	if len(tok) == 0 {
		return plainError
	}
	n, ok := parseU64(tok[0])
	switch {
	case !ok:
		return plainError
	case n < 8:
		return "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m"
	case n > 1_000_000_000:
		return "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes"
	case !c.s.cache.SetLimit(int64(n) << 20):
		return "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust"
	}
	return "OK"
}

// shutdown always answers: what follows the command is how to end, and nothing else.
func (c *conn) shutdown(tok [][]byte) {
	switch {
	case c.s.opts.OnShutdown == nil:
		c.answer("SERVER_ERROR: shutdown not enabled")
	case len(tok) == 0 || string(tok[0]) == "graceful":
		c.quit = true
		c.s.askedOnce.Do(func() { c.s.opts.OnShutdown(len(tok) > 0) })
	default:
		c.answer("CLIENT_ERROR invalid shutdown mode")
	}
}

func (c *conn) refreshCerts() string {
	if c.s.opts.RefreshCerts == nil {
		return "Error TLS not enabled" // memcached's words
	}
	if err := c.s.RefreshCerts(); err != nil {
		return "SERVER_ERROR " + err.Error()
	}
	return "OK"
}

func (c *conn) debugTime(tok [][]byte) string {
	if len(tok) != 1 {
		return plainError
	}
	switch string(tok[0]) {
	case "p":
		c.s.clock.pause(true)
	case "r":
		c.s.clock.pause(false)
	default:
		n, ok := parseI32(tok[0])
		if !ok {
			return plainError
		}
		c.s.clock.add(int64(n))
	}
	return "OK"
}

// slabs is "slabs reassign" and "slabs automove". There are no pages to be moved.
func (k *knobs) slabs(tok [][]byte) string {
	if len(tok) < 2 {
		return plainError
	}
	switch string(tok[0]) {
	case "reassign":
		if len(tok) != 3 {
			return plainError
		}
		src, ok := parseI32(tok[1])
		dst, ok2 := parseI32(tok[2])
		switch {
		case !ok || !ok2:
			return badFormat
		case src == dst:
			return "SAME src and dst class are identical"
		case src < -1 || src > maxClasses || dst < 0 || dst > maxClasses:
			return "BADCLASS invalid src or dst class id"
		}
		return "NOSPARE source class has no spare pages"
	case "automove":
		return k.setAutomove(tok[1:])
	}
	return plainError
}

func (k *knobs) setAutomove(tok [][]byte) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var to *float64
	switch string(tok[0]) {
	case "ratio":
		to = &k.automoveRatio
	case "freeratio":
		to = &k.freeRatio
	case "window":
		to = &k.window
	default:
		n, ok := parseU64(tok[0])
		if !ok {
			return badFormat
		}
		if n > 2 {
			return plainError
		}
		k.automove = int(n)
		return "OK"
	}
	if len(tok) < 2 {
		return plainError
	}
	v, err := strconv.ParseFloat(string(tok[1]), 64)
	if err != nil || v < 0 {
		return plainError
	}
	*to = v
	return "OK"
}

// lru is "lru tune|mode|temp_ttl".
func (k *knobs) lru(tok [][]byte) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(tok) < 2 {
		return plainError
	}
	switch string(tok[0]) {
	case "tune":
		return k.tune(tok[1:])
	case "mode":
		switch string(tok[1]) {
		case "flat":
			k.segmented = false
		case "segmented":
			k.segmented = true
		default:
			return plainError
		}
	case "temp_ttl":
		n, ok := parseI32(tok[1])
		if !ok {
			return plainError
		}
		k.tempLRU = n >= 0
		if k.tempLRU {
			k.tempTTL = int(n)
		}
	default:
		return plainError
	}
	return "OK"
}

func (k *knobs) tune(tok [][]byte) string {
	if len(tok) < 4 {
		return plainError
	}
	hot, ok := parseU64(tok[0])
	warm, ok2 := parseU64(tok[1])
	hotFactor, err := strconv.ParseFloat(string(tok[2]), 64)
	warmFactor, err2 := strconv.ParseFloat(string(tok[3]), 64)
	switch {
	case !ok || !ok2 || err != nil || err2 != nil:
		return plainError
	case hot+warm > 80:
		return "ERROR hot and warm pcts must not exceed 80"
	case hotFactor <= 0 || warmFactor <= 0:
		return "ERROR hot/warm age factors must be greater than 0"
	}
	k.hotPct, k.warmPct, k.hotFactor, k.warmFactor = int(hot), int(warm), hotFactor, warmFactor
	return "OK"
}

// crawler is lru_crawler. What has expired is freed by itself, so there is nothing to be crawled for; the dumps are real.
func (c *conn) crawler(tok [][]byte) error {
	if len(tok) == 0 {
		c.answer(plainError)
		return nil
	}
	if len(tok) == 2 {
		switch string(tok[0]) {
		case "metadump", "mgdump":
			return c.dump(tok[1], string(tok[0]) == "mgdump")
		}
	}
	c.answer(c.s.knobs.crawl(tok))
	return nil
}

func (k *knobs) crawl(tok [][]byte) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	word := string(tok[0])
	if len(tok) == 1 {
		switch word {
		case "enable":
			k.crawler = true
		case "disable":
			k.crawler = false
		default:
			return plainError
		}
		return "OK"
	}
	if len(tok) != 2 {
		return plainError
	}
	switch word {
	case "sleep", "tocrawl":
		n, ok := parseU64(tok[1])
		if !ok {
			return badFormat
		}
		if word == "tocrawl" {
			k.tocrawl = int(min(n, 1<<31))
			return "OK"
		}
		if n > 1_000_000 {
			return "CLIENT_ERROR sleep must be one second or less"
		}
		k.sleep = int(n)
		return "OK"
	case "crawl":
		if !classList(tok[1], nil) {
			return "BADCLASS invalid class id"
		}
		return "OK"
	}
	return plainError
}

// classList reads all, hash, or numbers of classes with commas between, into want (may be nil).
func classList(b []byte, want *[maxClasses + 1]bool) bool {
	if s := string(b); s == "all" || s == "hash" {
		if want != nil {
			for i := range want {
				want[i] = true
			}
		}
		return true
	}
	for part := range bytes.SplitSeq(b, []byte{','}) {
		n, ok := parseU64(part)
		if !ok || n < 1 || n > maxClasses {
			return false
		}
		if want != nil {
			want[n] = true
		}
	}
	return true
}

// dump is lru_crawler metadump and mgdump.
func (c *conn) dump(list []byte, asMeta bool) error {
	if c.s.opts.NoDump {
		c.answer("ERROR metadump not allowed")
		return nil
	}
	if c.datagram {
		c.answer(plainError)
		return nil
	}
	if len(c.w.out) > 0 {
		c.answer(dumpAlone)
		return nil
	}
	var want [maxClasses + 1]bool
	if !classList(list, &want) {
		c.answer("BADCLASS invalid class id")
		return nil
	}
	err := c.walk(func(t *segcache.Txn, key []byte) bool {
		if class, size := t.Size(); !want[class+1] {
			return true
		} else if asMeta {
			c.dumpCommand(t, key)
		} else {
			c.dumpLine(t, key, class, size)
		}
		return true
	})
	if err != nil {
		return err
	}
	if asMeta {
		c.answer("EN")
	} else {
		c.answer("END")
	}
	return nil
}
