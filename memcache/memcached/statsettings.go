package memcached

import "fmt"

// setting is a line of "stats settings" that only the command line knows.
func (c *conn) setting(name, otherwise string) string {
	if v, ok := c.s.opts.Settings[name]; ok {
		return v
	}
	return otherwise
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// settings lists what memcached does, in its order, and then what was given and means nothing here.
func (c *conn) settings() {
	s, o := c.s, &c.s.opts
	c.stat("maxbytes", s.cache.Limit())
	c.stat("maxconns", o.MaxConns)
	for _, n := range [][2]string{{"tcpport", "0"}, {"udpport", "0"}, {"inter", "NULL"}} {
		c.stat(n[0], c.setting(n[0], n[1]))
	}
	c.stat("verbosity", s.verbose.Load())
	c.stat("oldest", 0)
	c.stat("evictions", onOff(!o.NoEvict))
	c.stat("domain_socket", c.setting("domain_socket", "NULL"))
	c.stat("umask", c.setting("umask", "700"))
	c.stat("shutdown_command", yesNo(o.OnShutdown != nil))
	c.stat("growth_factor", fmt.Sprintf("%.2f", o.Growth))
	c.stat("chunk_size", o.LeastItem)
	c.stat("num_threads", o.threads())
	c.stat("num_threads_per_udp", o.threads())
	c.stat("stat_key_prefix", string(o.Delimiter))
	c.stat("detail_enabled", yesNo(s.detail.on.Load()))
	c.stat("reqs_per_event", o.Batch)
	c.stat("cas_enabled", yesNo(!o.NoCAS))
	c.stat("tcp_backlog", c.setting("tcp_backlog", "1024"))
	c.stat("binding_protocol", o.Protocol)
	c.stat("auth_enabled_sasl", yesNo(o.SASL != nil))
	c.stat("auth_enabled_ascii", c.setting("auth_enabled_ascii", yesNo(*s.users.Load() != nil)))
	c.stat("item_size_max", o.MaxItem)
	c.layoutSettings()
	if len(o.Unused) > 0 {
		list := ""
		for i, name := range o.Unused {
			if i > 0 {
				list += ","
			}
			list += name
		}
		c.stat("unused_options", list)
	}
}

// layoutSettings are those of memcached's memory layout, and of TLS.
func (c *conn) layoutSettings() {
	o, k := &c.s.opts, &c.s.knobs
	k.mu.Lock()
	defer k.mu.Unlock()
	c.stat("maxconns_fast", "yes")
	c.stat("hashpower_init", c.setting("hashpower_init", "0"))
	c.stat("slab_reassign", c.setting("slab_reassign", "yes"))
	c.stat("slab_automove", k.automove)
	c.stat("slab_automove_ratio", fmt.Sprintf("%.2f", k.automoveRatio))
	c.stat("slab_automove_window", int(k.window))
	c.stat("slab_chunk_max", o.ChunkMax)
	c.stat("lru_crawler", yesNo(k.crawler))
	c.stat("lru_crawler_sleep", k.sleep)
	c.stat("lru_crawler_tocrawl", k.tocrawl)
	c.stat("tail_repair_time", c.setting("tail_repair_time", "0"))
	c.stat("flush_enabled", yesNo(!o.NoFlush))
	c.stat("dump_enabled", yesNo(!o.NoDump))
	c.stat("hash_algorithm", c.setting("hash_algorithm", "murmur3"))
	c.stat("lru_maintainer_thread", c.setting("lru_maintainer_thread", "yes"))
	c.stat("lru_segmented", yesNo(k.segmented))
	c.stat("hot_lru_pct", k.hotPct)
	c.stat("warm_lru_pct", k.warmPct)
	c.stat("hot_max_factor", fmt.Sprintf("%.2f", k.hotFactor))
	c.stat("warm_max_factor", fmt.Sprintf("%.2f", k.warmFactor))
	c.stat("temp_lru", yesNo(k.tempLRU))
	c.stat("temporary_ttl", k.tempTTL)
	c.stat("idle_timeout", int(o.IdleTimeout.Seconds()))
	c.stat("watcher_logbuf_size", watchBuffer)
	c.stat("worker_logbuf_size", c.setting("worker_logbuf_size", "65536"))
	c.stat("read_buf_mem_limit", c.setting("read_buf_mem_limit", "0"))
	c.stat("track_sizes", yesNo(o.TrackSizes))
	c.stat("inline_ascii_response", "no")
	for _, n := range sslSettings {
		c.stat(n[0], c.setting(n[0], n[1]))
	}
	c.stat("num_napi_ids", "(null)")
	c.stat("memory_file", c.setting("memory_file", "(null)"))
	if o.Snapshot != "" { // ours alone: for who must not read what was there before a crash
		c.stat("snapshot", o.Snapshot)
	}
}

var sslSettings = [][2]string{
	{"ssl_enabled", "no"},
	{"ssl_chain_cert", "(null)"},
	{"ssl_key", "(null)"},
	{"ssl_verify_mode", "0"},
	{"ssl_keyformat", "1"},
	{"ssl_ciphers", "NULL"},
	{"ssl_ca_cert", "NULL"},
	{"ssl_wbuf_size", "16384"},
	{"ssl_session_cache", "no"},
	{"ssl_kernel_tls", "no"},
	{"ssl_min_version", "tlsv1.2"},
}
