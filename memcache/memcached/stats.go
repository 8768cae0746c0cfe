package memcached

import (
	"fmt"
	"math"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"wheelhouse/memcache/segcache"
)

// stat appends one line.
func (c *conn) stat(name string, value any) {
	if c.protocol == Binary {
		c.binStat(name, fmt.Sprint(value))
		return
	}
	c.w.out = fmt.Appendf(c.w.out, "STAT %s %v\r\n", name, value)
}

func (c *conn) statEnd() {
	if c.protocol == Binary {
		c.binStat("", "")
		return
	}
	c.answer("END")
}

// stats is the command of the text protocol.
func (c *conn) stats(tok [][]byte) (err error) {
	c.turn += c.s.opts.Batch // it takes as long as many others
	if len(tok) == 0 {
		c.s.gate.do(c.generalStats)
		c.statEnd()
		return nil
	}
	word := tok[0]
	switch {
	case hasPrefix(word, "reset"):
		c.s.resetStats()
		c.answer("RESET")
	case hasPrefix(word, "detail"):
		return c.detailStats(tok[1:])
	case hasPrefix(word, "cachedump"):
		return c.cacheDump(tok[1:])
	case string(word) == "hotkeys":
		c.w.out = c.s.hot.report(c.w.out)
	case string(word) == "slow":
		c.w.out = c.s.slow.report(c.w.out)
	default:
		known, err := c.statGroup(word)
		if err != nil {
			return err
		}
		if known {
			c.statEnd()
		} else {
			c.answer(plainError)
		}
	}
	return nil
}

// statGroup answers the groups that both protocols have. As memcached, it takes the beginning of a name for the name.
func (c *conn) statGroup(word []byte) (known bool, err error) {
	switch {
	case hasPrefix(word, "settings"):
		c.s.gate.do(c.settings)
	case hasPrefix(word, "conns"):
		err = c.connStats()
	case hasPrefix(word, "items"):
		c.s.gate.do(c.itemStats)
	case hasPrefix(word, "slabs"):
		c.s.gate.do(c.slabStats)
	case hasPrefix(word, "sizes"):
		err = c.sizeStats()
	case hasPrefix(word, "extstore"), hasPrefix(word, "proxy"), hasPrefix(word, "proxyfuncs"), hasPrefix(word, "proxybe"):
	default:
		return false, nil
	}
	return true, err
}

func (s *Server) resetStats() {
	for i := range s.stripes {
		for k := range s.stripes[i].n {
			s.stripes[i].n[k].Store(0)
		}
	}
	s.accepted.Store(0)
	s.rejected.Store(0)
	s.cache.ResetStats()
	s.detail.reset()
	s.hot.reset()
}

func seconds(t syscall.Timeval) string { return fmt.Sprintf("%d.%06d", t.Sec, t.Usec) }

// generalStats lists what memcached 1.6.18 lists, in its order. What has no meaning here is 0.
func (c *conn) generalStats() {
	s := c.s
	st := s.cache.Stats()
	var sum segcache.ClassStats
	for i := range st.Classes {
		k := &st.Classes[i]
		sum.Evicted += k.Evicted
		sum.EvictedUnfetched += k.EvictedUnfetched
		sum.EvictedActive += k.EvictedActive
		sum.ExpiredUnfetched += k.ExpiredUnfetched
		sum.Reclaimed += k.Reclaimed
		sum.Promoted += k.Promoted
		sum.Kept += k.Kept
	}
	c.processStats()
	c.counterStats()
	c.stat("accepting_conns", 1)
	c.stat("listen_disabled_num", 0)
	c.stat("time_in_listen_disabled_us", 0)
	c.stat("threads", c.s.opts.threads())
	c.stat("conn_yields", s.count(connYields))
	c.stat("hash_power_level", bits.Len64(uint64(st.IndexBytes/8))-1)
	c.stat("hash_bytes", st.IndexBytes)
	c.stat("hash_is_expanding", 0)
	for _, name := range []string{
		"slab_reassign_rescues", "slab_reassign_chunk_rescues", "slab_reassign_inline_reclaim", "slab_reassign_busy_items",
		"slab_reassign_busy_deletes", "slab_reassign_busy_nomem", "slab_reassign_running", "slabs_moved", "lru_crawler_running", "lru_crawler_starts",
		"lru_maintainer_juggles", "malloc_fails", "log_worker_dropped", "log_worker_written",
	} {
		c.stat(name, 0)
	}
	c.stat("log_watcher_skipped", s.watch.skipped.Load())
	c.stat("log_watcher_sent", s.watch.sent.Load())
	c.stat("log_watchers", s.watch.number())
	if s.opts.RefreshCerts != nil {
		c.stat("ssl_handshake_errors", s.count(handshakeErrors))
		c.stat("time_since_server_cert_refresh", max(0, int64(s.cache.Now())-s.certsAt.Load()))
	}
	c.stat("unexpected_napi_ids", 0)
	c.stat("round_robin_fallback", 0)
	c.stat("bytes", st.Bytes)
	c.stat("curr_items", st.Items)
	c.stat("total_items", s.count(totalItems))
	c.stat("slab_global_page_pool", st.FreeBytes/pageSize)
	c.stat("expired_unfetched", sum.ExpiredUnfetched)
	c.stat("evicted_unfetched", sum.EvictedUnfetched)
	c.stat("evicted_active", sum.EvictedActive)
	c.stat("evictions", sum.Evicted)
	c.stat("reclaimed", sum.Reclaimed)
	c.stat("crawler_reclaimed", 0)
	c.stat("crawler_items_checked", 0)
	c.stat("lrutail_reflocked", 0)
	c.stat("moves_to_cold", sum.Promoted)
	c.stat("moves_to_warm", 0)
	c.stat("moves_within_lru", sum.Kept)
	c.stat("direct_reclaims", 0)
	c.stat("lru_bumps_dropped", 0)
	if n := s.cache.Aside(); n > 0 {
		c.stat("limit_given_up", n)
	}
	if n := s.count(slowClosed); n > 0 {
		c.stat("slow_conns_closed", n)
	}
}

// processStats are those of the process and its connections.
func (c *conn) processStats() {
	s := c.s
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage) // it does not fail for oneself
	c.stat("pid", os.Getpid())
	c.stat("uptime", int(time.Since(s.started).Seconds()))
	c.stat("time", s.cache.Now())
	c.stat("version", Version)
	c.stat("libevent", "none")
	c.stat("pointer_size", bits.UintSize)
	c.stat("rusage_user", seconds(usage.Utime))
	c.stat("rusage_system", seconds(usage.Stime))
	c.stat("max_connections", s.opts.MaxConns)
	c.stat("curr_connections", s.open.Load())
	c.stat("total_connections", s.accepted.Load())
	c.stat("rejected_connections", s.rejected.Load())
	c.stat("connection_structures", s.open.Load())
	for _, name := range []string{
		"response_obj_oom", "response_obj_count", "response_obj_bytes", "read_buf_count", "read_buf_bytes", "read_buf_bytes_free", "read_buf_oom",
	} {
		c.stat(name, 0)
	}
	c.stat("reserved_fds", 20)
}

// counterStats are the commands' counters.
func (c *conn) counterStats() {
	s := c.s
	for _, n := range []struct {
		name string
		what counter
	}{
		{"cmd_get", cmdGet},
		{"cmd_set", cmdSet},
		{"cmd_flush", cmdFlush},
		{"cmd_touch", cmdTouch},
		{"cmd_meta", cmdMeta},
		{"get_hits", getHits},
		{"get_misses", getMisses},
		{"get_expired", getExpired},
		{"get_flushed", getFlushed},
		{"delete_misses", deleteMisses},
		{"delete_hits", deleteHits},
		{"incr_misses", incrMisses},
		{"incr_hits", incrHits},
		{"decr_misses", decrMisses},
		{"decr_hits", decrHits},
		{"cas_misses", casMisses},
		{"cas_hits", casHits},
		{"cas_badval", casBadval},
		{"touch_hits", touchHits},
		{"touch_misses", touchMisses},
		{"store_too_large", storeTooLarge},
		{"store_no_memory", storeNoMemory},
		{"auth_cmds", authCmds},
		{"auth_errors", authErrors},
	} {
		c.stat(n.name, s.count(n.what))
	}
	if s.opts.IdleTimeout > 0 {
		c.stat("idle_kicks", s.count(idleKicks))
	}
	c.stat("bytes_read", s.count(bytesRead))
	c.stat("bytes_written", s.count(bytesWritten))
	c.stat("limit_maxbytes", s.cache.Limit())
}

// itemStats is "stats items". On probation is what memcached calls hot, the main queue what it calls cold.
func (c *conn) itemStats() {
	st := c.s.cache.Stats()
	age := uint32(0)
	if st.Oldest != 0 {
		age = c.s.cache.Since(st.Oldest)
	}
	for i := range st.Classes {
		k := &st.Classes[i]
		if k.Items == 0 && k.Evicted == 0 && k.OutOfMemory == 0 {
			continue
		}
		for _, n := range []struct {
			name  string
			value any
		}{
			{"number", k.Items},
			{"number_hot", k.Probation},
			{"number_warm", 0},
			{"number_cold", k.Items - k.Probation},
			{"age_hot", 0},
			{"age_warm", 0},
			{"age", age},
			{"mem_requested", k.Bytes},
			{"evicted", k.Evicted},
			{"evicted_nonzero", k.EvictedNonzero},
			{"evicted_time", k.EvictedTime},
			{"outofmemory", k.OutOfMemory},
			{"tailrepairs", 0},
			{"reclaimed", k.Reclaimed},
			{"expired_unfetched", k.ExpiredUnfetched},
			{"evicted_unfetched", k.EvictedUnfetched},
			{"evicted_active", k.EvictedActive},
			{"crawler_reclaimed", 0},
			{"crawler_items_checked", 0},
			{"lrutail_reflocked", 0},
			{"moves_to_cold", k.Promoted},
			{"moves_to_warm", 0},
			{"moves_within_lru", k.Kept},
			{"direct_reclaims", 0},
			{"hits_to_hot", k.GetHits - k.HitsMain},
			{"hits_to_warm", 0},
			{"hits_to_cold", k.HitsMain},
			{"hits_to_temp", 0},
		} {
			c.stat("items:"+strconv.Itoa(i+1)+":"+n.name, n.value)
		}
	}
}

// slabStats is "stats slabs": how many chunks and pages memcached would need for the items that are here.
func (c *conn) slabStats() {
	st := c.s.cache.Stats()
	sizes := classSizes(c.s.opts.Growth, c.s.opts.LeastItem, c.s.opts.ChunkMax)
	used := 0
	for i := range st.Classes {
		k := &st.Classes[i]
		if k.Items == 0 && k.Sets == 0 {
			continue
		}
		used++
		perPage := int64(pageSize / sizes[i])
		pages := max((k.Items+perPage-1)/perPage, 1)
		for _, n := range []struct {
			name  string
			value any
		}{
			{"chunk_size", sizes[i]},
			{"chunks_per_page", perPage},
			{"total_pages", pages},
			{"total_chunks", pages * perPage},
			{"used_chunks", k.Items},
			{"free_chunks", pages*perPage - k.Items},
			{"free_chunks_end", 0},
			{"get_hits", k.GetHits},
			{"cmd_set", k.Sets},
			{"delete_hits", k.DeleteHits},
			{"incr_hits", k.IncrHits},
			{"decr_hits", k.DecrHits},
			{"cas_hits", k.CASHits},
			{"cas_badval", k.CASBadval},
			{"touch_hits", k.TouchHits},
		} {
			c.stat(strconv.Itoa(i+1)+":"+n.name, n.value)
		}
	}
	c.stat("active_slabs", used)
	c.stat("total_malloced", st.UsedBytes)
}

// sizeStats is "stats sizes": items by size in steps of 32 bytes.
func (c *conn) sizeStats() error {
	if !c.s.opts.TrackSizes {
		c.stat("sizes_status", "disabled")
		return nil
	}
	counts := map[int]int{}
	err := c.walk(func(t *segcache.Txn, _ []byte) bool {
		_, size := t.Size()
		counts[(size+31)/32*32]++
		return true
	})
	if err != nil {
		return err
	}
	sizes := make([]int, 0, len(counts))
	for size := range counts {
		sizes = append(sizes, size)
	}
	slices.Sort(sizes)
	for _, size := range sizes {
		c.stat(strconv.Itoa(size), counts[size])
	}
	return c.flushStep()
}

func (c *conn) detailStats(tok [][]byte) error {
	word := ""
	if len(tok) > 0 {
		word = string(tok[0])
	}
	switch word {
	case "on", "off":
		c.s.detail.on.Store(word == "on")
		c.answer("OK")
	case "dump":
		return c.detailDump()
	default:
		c.answer("CLIENT_ERROR usage: stats detail on|off|dump")
	}
	return nil
}

// cacheDump is "stats cachedump CLASS LIMIT".
func (c *conn) cacheDump(tok [][]byte) error {
	if c.s.opts.NoDump {
		c.answer("CLIENT_ERROR stats cachedump not allowed")
		return nil
	}
	if len(tok) < 2 {
		c.answer("CLIENT_ERROR bad command line")
		return nil
	}
	class, ok := parseU64(tok[0])
	limit, ok2 := parseU64(tok[1])
	if !ok || !ok2 {
		c.answer(badFormat)
		return nil
	}
	if class > maxClasses {
		c.answer("CLIENT_ERROR Illegal slab id")
		return nil
	}
	left, size := limit, maxDumpBytes
	if limit == 0 {
		left = math.MaxUint64
	}
	err := c.walk(func(t *segcache.Txn, key []byte) bool {
		if k, _ := t.Size(); uint64(k+1) == class && left > 0 && size > 0 {
			old := len(c.w.out)
			c.w.out = fmt.Appendf(c.w.out, "ITEM %s [%d b; %d s]\r\n", printable(string(key)), t.Len(), t.Exp())
			left--
			size -= len(c.w.out) - old
		}
		return left > 0 && size > 0
	})
	if err != nil {
		return err
	}
	c.answer("END")
	return nil
}
