package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"wheelhouse/memcache/memcached"
)

// memcachedConfig is the command line of memcached.
type memcachedConfig struct {
	opts             memcached.Options
	port, udpPort    int
	listen           []string
	socket, mask     string
	backlog, verbose int
	daemonFiles
	daemon, version, help, ssl  bool
	license, shutdown, sasl     bool
	auto                        bool // -B auto was given
	authFile, saslFile, aclFile string
	memoryFile, metrics         string
	tls                         memcachedTLS
}

// flags lists all, in the order in which -h shows them. A flag without help means nothing here.
func (m *memcachedConfig) flags() []daemonFlag {
	o := &m.opts
	return []daemonFlag{
		{"port", 'p', "N", "TCP port (default 11211); 0 or -1: any free one", port(&m.port)},
		{"udp-port", 'U', "N", "UDP port (default 0: none); -1: any free one", port(&m.udpPort)},
		{"unix-socket", 's', "FILE", "listen on a Unix socket, and not on TCP and UDP", something(&m.socket)},
		{"unix-mask", 'a', "MODE", "access to the socket, octal (default 700)", m.setMask},
		{"enable-shutdown", 'A', "", "obey the command shutdown", yes(&m.shutdown)},
		{"listen", 'l', "ADDR", "address, HOST[:PORT], several with commas or semicolons; notls:, btls:, mtls: before it (default 127.0.0.1)", m.addListen},
		{"daemon", 'd', "", "go to the background once the server is ready", yes(&m.daemon)},
		{"user", 'u', "NAME", "change to this user once the addresses are open, when started by root", something(&m.user)},
		{"memory-limit", 'm', "MB", "memory for items and their index (default 64)", m.setMegabytes},
		{"disable-evictions", 'M', "", "refuse items when memory is full, rather than forget others", yes(&o.NoEvict)},
		{"conn-limit", 'c', "N", "connections at once (default 1024)", atLeastOne(&o.MaxConns)},
		{"verbose", 'v', "", "log more; may be repeated", func(string) error { m.verbose++; return nil }},
		{"help", 'h', "", "print this", yes(&m.help)},
		{"license", 'i', "", "print the license", yes(&m.license)},
		{"version", 'V', "", "print the version", yes(&m.version)},
		{"pidfile", 'P', "FILE", "write the process id to a file", something(&m.pidFile)},
		{"slab-growth-factor", 'f', "X", "growth of the classes by which items are counted (default 1.25)", m.setGrowth},
		{"slab-min-size", 'n', "BYTES", "least size of key, value and flags in those classes (default 48)", atLeastOne(&o.LeastItem)},
		{"", 'D', "CHAR", "ends the prefixes of keys (default :); counts by prefix from the start", m.setDelimiter},
		{"threads", 't', "N", "threads that work at once (default: half as many as there are processors)", atLeastOne(&o.Threads)},
		{"max-reqs-per-event", 'R', "N", "requests of a connection before others have a turn (default 20)", atLeastOne(&o.Batch)},
		{"disable-cas", 'C', "", "give items no version", yes(&o.NoCAS)},
		{"listen-backlog", 'b', "N", "connections that wait to be accepted (default, and below 1: as many as the system allows)", number(&m.backlog)},
		{"protocol", 'B', "NAME", "ascii, binary or auto (default: the first byte tells)", m.setProtocol},
		{"max-item-size", 'I', "SIZE", "largest item, as 1m or 512k (default 1m, least 1k, most 1024m)", m.setMaxItem},
		{"enable-sasl", 'S', "", "want SASL (PLAIN) in the binary protocol; users: MEMCACHED_SASL_PWDB or --sasl-file", yes(&m.sasl)},
		{"disable-flush-all", 'F', "", "disable the commands flush_all, flush_prefix and flush_tag", yes(&o.NoFlush)},
		{"disable-dumping", 'X', "", "disable stats cachedump, lru_crawler metadump and mgdump", yes(&o.NoDump)},
		{"disable-watch", 'W', "", "disable the command watch", yes(&o.NoWatch)},
		{"auth-file", 'Y', "FILE", "want authentication in the text protocol; lines USER:PASSWORD, read again on SIGHUP", something(&m.authFile)},
		{"memory-file", 'e', "FILE", "keep items in a file on a file system in memory, for the next start", something(&m.memoryFile)},
		{"enable-ssl", 'Z', "", "speak TLS; see -o ssl_…", yes(&m.ssl)},
		{"extended", 'o', "LIST", "options with commas between, see below", m.setExtended},
		{"acl", 0, "FILE", "who may do what: lines USER PREFIX RIGHTS (r, w, a, -), read again on SIGHUP", something(&m.aclFile)},
		{"sasl-file", 0, "FILE", "users for -S: lines USER:PASSWORD", something(&m.saslFile)},
		{"metrics", 0, "ADDR", "serve Prometheus metrics by HTTP, HOST:PORT", something(&m.metrics)},
		{"slow-log", 0, "USEC", "list commands that take so long: stats slow (default 0: none)", m.setSlow},
		{"snapshot", 0, "FILE", "read items from a file at the start, write them at the end and by the command snapshot", something(&o.Snapshot)},
		{"write-timeout", 0, "TIME", "close connections that take nothing for so long (default 1m)", m.setWriteTimeout},
		{"enable-coredumps", 'r', "", "", m.nothing("enable-coredumps")},
		{"lock-memory", 'k', "", "", m.nothing("lock-memory")},
		{"enable-largepages", 'L', "", "", m.nothing("enable-largepages")},
		{"napi_ids", 'N', "N", "", m.nothing("napi_ids")},
	}
}

func (m *memcachedConfig) nothing(name string) func(string) error {
	return func(string) error { m.opts.Unused = append(m.opts.Unused, name); return nil }
}

// something is a text that must not be empty: what an unset variable of a unit file leaves must not turn off what the flag is for.
func something(p *string) func(string) error {
	return func(v string) error {
		if *p = v; v == "" {
			return errors.New("the value is empty")
		}
		return nil
	}
}

// within is a whole number from least to most; what says what it is, in the error.
func within(p *int, least, most int, what string) func(string) error {
	return func(v string) (err error) {
		if *p, err = strconv.Atoi(v); err != nil || *p < least || *p > most {
			return fmt.Errorf("%q is not %s", v, what)
		}
		return nil
	}
}

func port(p *int) func(string) error { return within(p, -1, 65535, "a port") }

func atLeastOne(p *int) func(string) error {
	return within(p, 1, math.MaxInt, "a number of at least 1")
}

// addListen splits as memcached does. An address without a host would be all of the machine's.
func (m *memcachedConfig) addListen(v string) error {
	list := strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ';' })
	for _, a := range list {
		_, rest := listenMode(a)
		if host, _ := listenHost(rest); host == "" {
			return fmt.Errorf("%q has an address without a host; * is all of them", v)
		}
	}
	if len(list) == 0 {
		return fmt.Errorf("%q is no address", v)
	}
	m.listen = append(m.listen, list...)
	return nil
}

func (m *memcachedConfig) setMask(v string) error {
	if _, err := strconv.ParseUint(v, 8, 9); err != nil {
		return fmt.Errorf("%q is not an octal number up to 777", v)
	}
	m.mask = v
	return nil
}

func (m *memcachedConfig) setWriteTimeout(v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a time above 0, as 30s or 2m", v)
	}
	m.opts.WriteTimeout = d
	return nil
}

func (m *memcachedConfig) setMegabytes(v string) error {
	n, err := strconv.ParseInt(v, 10, 40)
	if err != nil || n < 1 {
		return fmt.Errorf("%q is not a number of megabytes", v)
	}
	m.opts.Limit = n << 20
	return nil
}

func (m *memcachedConfig) setGrowth(v string) (err error) {
	if m.opts.Growth, err = strconv.ParseFloat(v, 64); err != nil || !(m.opts.Growth > 1) || m.opts.Growth > 1<<20 {
		return fmt.Errorf("%q is not a number greater than 1", v)
	}
	return nil
}

func (m *memcachedConfig) setDelimiter(v string) error {
	if len(v) != 1 || v[0] <= ' ' {
		return fmt.Errorf("%q is not one character", v)
	}
	m.opts.Delimiter, m.opts.Detail = v[0], true
	return nil
}

func (m *memcachedConfig) setProtocol(v string) error {
	p, ok := map[string]memcached.Protocol{"auto": memcached.Auto, "ascii": memcached.ASCII, "binary": memcached.Binary}[v]
	if !ok {
		return fmt.Errorf("%q is not ascii, binary or auto", v)
	}
	m.opts.Protocol, m.auto = p, p == memcached.Auto
	return nil
}

// exUsage is memcached's exit status when flags exclude each other (sysexits.h).
const exUsage = 64

// conflict is what memcached says when -B wants a protocol in which clients could not say who they are; "" when it does not.
func (m *memcachedConfig) conflict() string {
	switch p := m.opts.Protocol; {
	case m.sasl && (m.auto || p == memcached.ASCII):
		return "ERROR: You cannot allow the ASCII protocol while using SASL."
	case m.authFile != "" && (m.auto || p == memcached.Binary):
		return "ERROR: You cannot allow the BINARY protocol while using ascii authentication tokens."
	}
	return ""
}

// setMaxItem reads a size as memcached does: a number is bytes, k and m stand for their powers of two.
func (m *memcachedConfig) setMaxItem(v string) error {
	digits, shift := v, 0
	if n := len(v); n > 0 {
		switch v[n-1] | 0x20 {
		case 'k':
			digits, shift = v[:n-1], 10
		case 'm':
			digits, shift = v[:n-1], 20
		}
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > 1<<30>>shift {
		return fmt.Errorf("%q is not a size of at most 1024m", v)
	}
	m.opts.MaxItem = n << shift
	return nil
}

func (m *memcachedConfig) setSlow(v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a number of microseconds", v)
	}
	m.opts.SlowAfter = time.Duration(n) * time.Microsecond
	return nil
}

// memcachedUnused are options of memcached (-o) that mean nothing here.
var memcachedUnused = []string{
	"hashpower", "hash_algorithm", "tail_repair_time", "lru_crawler", "lru_crawler_sleep", "lru_crawler_tocrawl", "lru_maintainer",
	"hot_lru_pct", "warm_lru_pct", "hot_max_factor", "warm_max_factor", "temporary_ttl", "read_buf_mem_limit", "resp_obj_mem_limit",
	"watcher_logbuf_size", "worker_logbuf_size", "hashexpand", "modern", "sock_cookie_id", "slab_reassign", "slab_automove",
	"slab_automove_ratio", "slab_automove_window", "slab_automove_freeratio", "slab_sizes", "inline_ascii_resp", "inline_ascii_response",
	"chunked_items", "drop_privileges", "expirezero_does_not_evict", "maxconns_fast", "ext_path", "ext_page_size", "ext_wbuf_size",
	"ext_threads", "ext_item_size", "ext_item_age", "ext_low_ttl", "ext_drop_unread", "ext_recache_rate", "ext_compact_under",
	"ext_drop_under", "ext_max_frag", "ext_max_sleep", "ext_page_count", "ext_io_depth", "proxy_config", "proxy_arg", "proxy_uring",
	"proxy_memprofile", "ssl_wbuf_size", "ssl_session_cache", "ssl_kernel_tls", "ssl_keyformat", "lru_segmented", "no_lru_crawler",
}

// setExtended reads -o: names, or name=value, with commas between; most have a no_ form.
func (m *memcachedConfig) setExtended(list string) error {
	for item := range strings.SplitSeq(list, ",") {
		if item == "" {
			continue
		}
		name, value, _ := strings.Cut(item, "=")
		if err := m.extend(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (m *memcachedConfig) extend(name, value string) (err error) {
	switch name {
	case "idle_timeout":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return fmt.Errorf("idle_timeout: %q is not a number of seconds", value)
		}
		m.opts.IdleTimeout = time.Duration(n) * time.Second
	case "slab_chunk_max":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > 1024 {
			return fmt.Errorf("slab_chunk_max: %q is not a number of kilobytes up to 1024", value)
		}
		m.opts.ChunkMax = n << 10
	case "track_sizes":
		m.opts.TrackSizes = true
	case "relaxed_privileges":
		m.opts.DebugTime = true
	case "ssl_chain_cert":
		err = something(&m.tls.cert)(value)
	case "ssl_key":
		err = something(&m.tls.key)(value)
	case "ssl_ca_cert":
		err = something(&m.tls.ca)(value)
	case "ssl_ciphers":
		err = something(&m.tls.ciphers)(value)
	case "ssl_verify_mode":
		err = within(&m.tls.verify, 0, 3, "0 to 3")(value)
	case "ssl_min_version":
		err = within(&m.tls.minVersion, 0, 3, "0 to 3")(value)
	default:
		if !slices.Contains(memcachedUnused, strings.TrimPrefix(name, "no_")) && !slices.Contains(memcachedUnused, name) {
			return fmt.Errorf("there is no option %q", name)
		}
		m.opts.Unused = append(m.opts.Unused, name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// parseMemcached reads the arguments as getopt_long does.
func parseMemcached(args []string) (*memcachedConfig, error) {
	m := &memcachedConfig{port: 11211, mask: "700"}
	m.tls.minVersion = 2
	flags := m.flags()
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		var err error
		switch {
		case strings.HasPrefix(arg, "--") && len(arg) > 2:
			name, value, given := strings.Cut(arg[2:], "=")
			f := findFlag(flags, func(f *daemonFlag) bool { return f.long == name && name != "" })
			if f == nil {
				return nil, usagef("there is no flag --%s", name)
			}
			args, err = f.apply("--"+name, value, given, args)
		case len(arg) > 1 && arg[0] == '-':
			args, err = applyShort(flags, arg[1:], args)
		default:
			return nil, usagef("unexpected argument: %s", arg)
		}
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

// applyShort reads joined short flags; what follows one that wants a value is the value.
func applyShort(flags []daemonFlag, rest string, args []string) ([]string, error) {
	for rest != "" {
		f := findFlag(flags, func(f *daemonFlag) bool { return f.short == rest[0] })
		if f == nil {
			return nil, usagef("there is no flag -%c", rest[0])
		}
		name := "-" + rest[:1]
		rest = rest[1:]
		value, given := "", false
		if f.arg != "" && rest != "" {
			value, given, rest = rest, true, ""
		}
		var err error
		if args, err = f.apply(name, value, given, args); err != nil {
			return nil, err
		}
	}
	return args, nil
}

func (m *memcachedConfig) printHelp(w io.Writer) {
	fmt.Fprint(w, "usage: wheelhouse memcached [FLAGS]\n\n")
	var without []string
	for _, f := range m.flags() {
		name := "    "
		if f.short != 0 {
			name = "-" + string(f.short) + ", "
			if f.long == "" {
				name = "-" + string(f.short) + "  "
			}
		}
		long := ""
		if f.long != "" {
			long = "--" + f.long
		}
		if f.help == "" {
			without = append(without, strings.TrimSpace(name+long))
			continue
		}
		if f.arg != "" {
			long = strings.TrimSpace(long + " " + f.arg)
		}
		fmt.Fprintf(w, "  %s%-26s %s\n", name, long, f.help)
	}
	fmt.Fprint(w, `
Options of -o:
  idle_timeout=SECONDS     close connections that are silent for so long (default 0: never)
  slab_chunk_max=KB        size of the last class by which items are counted (default 512)
  track_sizes              enable stats sizes
  relaxed_privileges       enable debugtime, which moves the server's clock, for tests
  ssl_chain_cert=FILE      certificate and those above it, PEM
  ssl_key=FILE             its key, PEM (default: in the same file)
  ssl_ca_cert=FILE         who signs clients' certificates, PEM
  ssl_verify_mode=N        clients' certificates: 0 are not asked for, 1 are checked if given, 2 and 3 are needed (default 0)
  ssl_min_version=N        least version: 0 TLS 1.0, 1 TLS 1.1, 2 TLS 1.2, 3 TLS 1.3 (default 2)
  ssl_ciphers=LIST         cipher suites of TLS 1.2 and below, OpenSSL's or IANA's names, with colons between
`)
	fmt.Fprintf(w, "\nAccepted for the sake of existing unit files, without a meaning here: %s.\n", strings.Join(without, "; "))
	fmt.Fprintf(w, "Options of -o without a meaning here (also with no_ before them): %s.\n", strings.Join(memcachedUnused, ", "))
}
