package config

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"wheelhouse/balancer"
)

func clientTunables() []Tunable {
	return []Tunable{
		{Name: "listen", Doc: "address to listen on: [ip:]port or unix:/path", apply: func(s *settings, v string) (err error) {
			s.Listen, err = ParseListen(v)
			return err
		}},
		boolean(Tunable{Name: "persist_client", Default: "off", Doc: "keep clients' connections open between requests; behind a selector, the selector's value counts"},
			func(s *settings) *bool { return &s.PersistClient }),
		{Name: "persist_client_idle_timeout", Default: "30", Doc: "seconds that a client may be silent between requests", apply: asTime(func(s *settings) *time.Duration { return &s.ClientIdleTimeout })},
		{Name: "idle_timeout", Default: "30", Doc: "seconds without progress in any other state of a client", apply: asTime(func(s *settings) *time.Duration { return &s.IdleTimeout })},
		{Name: "persist_client_timeout", Doc: "old name that sets both timeouts above", apply: func(s *settings, v string) (err error) {
			s.ClientIdleTimeout, err = ParseTime(v)
			s.IdleTimeout = s.ClientIdleTimeout
			return err
		}},
		{Name: "client_header_timeout", Default: "10", Doc: "seconds from the first byte of a request's head to its last", apply: asTime(func(s *settings) *time.Duration { return &s.HeadTimeout })},
		{Name: "client_sndbuf_size", Default: "0", Doc: "SO_SNDBUF of clients' sockets in bytes; 0 leaves it to the kernel", apply: func(s *settings, v string) error {
			n, err := ParseSize(v)
			s.ClientSndbuf = int(min(n, math.MaxInt32))
			return err
		}},
		{Name: "max_client_connections", Default: "0", Doc: "connections that the listener holds open, those of HTTP/2 too; beyond, one that idles is closed; 0: no limit of its own", apply: asInt(func(s *settings) *int { return &s.MaxConnections })},
		{Name: "max_request_size", Default: "5g", Doc: "largest request body", apply: asSize(func(s *settings) *int64 { return &s.MaxRequestBody })},
		{Name: "max_chunked_request_size", Default: "200m", Doc: "largest chunked request body; 0: max_request_size alone", apply: asSize(func(s *settings) *int64 { return &s.MaxChunked })},
		boolean(Tunable{Name: "server_tokens", Default: "on", Doc: "send a Server field with answers of the balancer's own"},
			func(s *settings) *bool { return &s.ServerTokens }),
		boolean(Tunable{Name: "proxy_protocol", Default: "off", Doc: "clients' connections begin with a PROXY protocol header, version 1 or 2"},
			func(s *settings) *bool { return &s.ProxyProtocol }),
		{Name: "trusted_upstream_proxies", Doc: "networks whose forwarding fields are believed", apply: func(s *settings, v string) (err error) {
			s.TrustedProxies, err = ParsePrefixes(v)
			return err
		}},
		boolean(Tunable{Name: "always_trusted", Default: "off", Doc: "believe every client's forwarding fields"}, func(s *settings) *bool { return &s.AlwaysTrusted }),
		{Name: "access_log", Doc: "file, stdout or stderr; off for none", apply: func(s *settings, v string) error {
			if s.AccessLog = v; strings.EqualFold(v, "off") || strings.EqualFold(v, "none") {
				s.AccessLog = ""
			}
			return nil
		}},
		{Name: "access_log_format", Default: "combined", Doc: "combined or json", apply: asOneOf(func(s *settings) *string { return &s.AccessLogFormat }, "combined", "json")},
		{Name: "rate_limit", Doc: "requests a second that one client may make, as in 100, with burst=N and key=ip|host|header:NAME|cookie:NAME; whoever lacks the header or cookie is known by address", apply: applyRateLimit},
	}
}

func applyRateLimit(s *settings, v string) error {
	bad := kindFault("Expecting RATE [burst=N] [key=ip|host|header:NAME|cookie:NAME] for parameter '%s'")
	words := ParseList(v)
	if len(words) == 0 {
		return bad
	}
	rate, err := strconv.ParseFloat(strings.TrimSuffix(words[0], "r/s"), 64)
	if err != nil || !(rate >= 0 && rate <= 1e9) {
		return bad
	}
	r := balancer.RateLimit{Rate: rate, Burst: max(1, int(rate)), Key: "ip"}
	for _, w := range words[1:] {
		k, arg, _ := strings.Cut(w, "=")
		switch strings.ToLower(k) {
		case "burst":
			if r.Burst, err = ParseInt(arg); err != nil || r.Burst == 0 {
				return bad
			}
		case "key":
			kind, name, _ := strings.Cut(arg, ":")
			if (kind == "header" || kind == "cookie") != (name != "") || !slices.Contains([]string{"ip", "host", "header", "cookie"}, kind) {
				return bad
			}
			r.Key = arg
		default:
			return bad
		}
	}
	s.RateLimit = r
	return nil
}

func tlsTunables() []Tunable {
	list := func(f func(*settings) *[]string) func(*settings, string) error {
		return func(s *settings, v string) error {
			*f(s) = ParseList(v)
			for _, file := range *f(s) {
				if err := checkFile(file); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return []Tunable{
		boolean(Tunable{Name: "enable_ssl", Default: "off", Doc: "TLS on the listener"}, func(s *settings) *bool { return &s.TLS.Enabled }),
		{Name: "ssl_key_file", Doc: "PEM files of private keys, separated by commas", apply: list(func(s *settings) *[]string { return &s.TLS.KeyFiles })},
		{Name: "ssl_cert_file", Doc: "PEM files of certificates, one for each key; the client's SNI chooses", apply: list(func(s *settings) *[]string { return &s.TLS.CertFiles })},
		{Name: "ssl_session_ticket_key", Doc: "files of 48 or 80 random bytes, the same on several machines, with which clients go on with their TLS sessions on any of them: the first closes tickets, all open them", apply: list(func(s *settings) *[]string { return &s.TLS.TicketKeys })},
		{Name: "ssl_cipher_list", Default: "ALL:!LOW:!EXP", Doc: "OpenSSL's names; what Go's TLS does not have is ignored", apply: asText(func(s *settings) *string { return &s.TLS.Ciphers })},
		{Name: "ssl_ca_path", Doc: "file or directory of the authorities of clients' certificates", apply: asText(func(s *settings) *string { return &s.TLS.CAPath })},
		{Name: "ssl_verify_mode", Default: "0", Doc: "clients' certificates: 0 not asked for, 1 asked for, 3 demanded", apply: asInt(func(s *settings) *int { return &s.TLS.Verify })},
		{Name: "ssl_min_version", Default: "1.2", Doc: "1.2 or 1.3", apply: func(s *settings, v string) (err error) {
			s.TLS.MinVersion, err = parseTLSVersion(v)
			return err
		}},
		{Name: "ssl_honor_cipher_order", Default: "0", Doc: "accepted for old files; Go's TLS always prefers its own order", apply: func(_ *settings, v string) error {
			_, err := ParseInt(v)
			return err
		}},
		boolean(Tunable{Name: "enable_http2", Default: "on", Doc: "offer HTTP/2 to TLS clients"}, func(s *settings) *bool { return &s.HTTP2 }),
		{Name: "acme_domains", Doc: "names to get certificates for by ACME", apply: asList(func(s *settings) *[]string { return &s.TLS.ACMEDomains })},
		{Name: "acme_email", Doc: "address for the ACME account", apply: asText(func(s *settings) *string { return &s.TLS.ACMEEmail })},
		{Name: "acme_directory", Doc: "URL of the ACME server; Let's Encrypt's if none is given", apply: asText(func(s *settings) *string { return &s.TLS.ACMEDirectory })},
		{Name: "acme_trust", Doc: "PEM file of the authorities that the ACME server is trusted by; the system's if none is given", apply: asFile(func(s *settings) *string { return &s.TLS.ACMETrust })},
		{Name: "acme_storage", Default: "/var/lib/wheelhouse/acme", Doc: "directory that keeps ACME's keys and certificates", apply: asText(func(s *settings) *string { return &s.TLS.ACMEStorage })},
	}
}

func proxyTunables() []Tunable {
	return withRoles([]Tunable{
		{Name: "pool", Doc: "pool of backends", apply: func(s *settings, v string) error { s.Pool = strings.ToLower(v); return nil }},
		boolean(Tunable{Name: "persist_backend", Default: "off", Doc: "keep connections to backends open between requests"}, func(s *settings) *bool { return &s.PersistBackend }),
		{Name: "backend_persist_cache", Default: "2", Doc: "idle connections to backends that are kept after use", apply: asInt(func(s *settings) *int { return &s.BackendPersist })},
		{Name: "connect_ahead", Default: "0", Doc: "spare connections to backends to keep ready", apply: asInt(func(s *settings) *int { return &s.ConnectAhead })},
		{Name: "max_backend_uses", Default: "0", Doc: "requests for which one connection to a backend is used; 0: no limit", apply: asInt(func(s *settings) *int { return &s.MaxBackendUses })},
		boolean(Tunable{Name: "verify_backend", Default: "off", Doc: "prove a fresh connection by an OPTIONS request before it gets work"}, func(s *settings) *bool { return &s.VerifyBackend }),
		{Name: "verify_backend_path", Default: "*", Doc: "target of that request", apply: asText(func(s *settings) *string { return &s.VerifyBackendPath })},
		boolean(Tunable{Name: "blind_proxy", Default: "off", Doc: "leave the X-Forwarded-For of trusted clients as it is"}, func(s *settings) *bool { return &s.BlindProxy }),
		boolean(Tunable{Name: "backend_ssl", Default: "off", Doc: "TLS to backends"}, func(s *settings) *bool { return &s.BackendTLS }),
		boolean(Tunable{Name: "backend_ssl_verify", Default: "on", Doc: "check backends' certificates against the system's authorities"}, func(s *settings) *bool { return &s.BackendTLSVerify }),
		{Name: "send_proxy_protocol", Default: "0", Doc: "version, 1 or 2, of the PROXY protocol header that backends get; 0: none", apply: func(s *settings, v string) error {
			n, err := ParseInt(v)
			if err == nil && n > 2 {
				err = errRange
			}
			s.SendProxyProtocol = n
			return err
		}},
		{Name: "connect_timeout", Default: "5", Doc: "seconds for one attempt to connect to a backend, TLS included; 0: no limit of its own", apply: asTime(func(s *settings) *time.Duration { return &s.ConnectTimeout })},
		{Name: "queue_timeout", Default: "0", Doc: "seconds that a request may wait for a backend, then 503; 0: idle_timeout", apply: asTime(func(s *settings) *time.Duration { return &s.QueueTimeout })},
		{Name: "response_timeout", Default: "60", Doc: "seconds from the end of a request to the head of the backend's response, then 504", apply: asTime(func(s *settings) *time.Duration { return &s.ResponseTimeout })},
		{Name: "backend_body_timeout", Default: "60", Doc: "seconds of silence in a backend's response", apply: asTime(func(s *settings) *time.Duration { return &s.BackendBodyTimeout })},
		{Name: "upgrade_timeout", Default: "0", Doc: "seconds of silence in a WebSocket or other upgraded connection; 0: no limit", apply: asTime(func(s *settings) *time.Duration { return &s.UpgradeTimeout })},
		{Name: "max_queue", Default: "0", Doc: "requests that may wait for a backend, more get 503 at once; 0: no limit", apply: asInt(func(s *settings) *int { return &s.MaxQueue })},
		{Name: "retry_attempts", Default: "2", Doc: "further attempts of an idempotent request whose backend failed before it answered", apply: asInt(func(s *settings) *int { return &s.RetryAttempts })},
		{Name: "retry_budget", Default: "20", Doc: "percent of the requests that may be such attempts", apply: asPercent(func(s *settings) *int { return &s.RetryBudget })},
		{Name: "high_priority_cookie", Doc: "cookie that puts a request into the high queue", apply: asText(func(s *settings) *string { return &s.HighPriorityCookie })},
		{Name: "high_priority_cookie_contents", Doc: "what the cookie must contain", apply: asText(func(s *settings) *string { return &s.HighPriorityCookieContents })},
		{Name: "queue_relief_size", Default: "0", Doc: "normal requests waiting from which on they are let past the high queue now and then; 0: never", apply: asInt(func(s *settings) *int { return &s.QueueReliefSize })},
		{Name: "queue_relief_chance", Default: "0", Doc: "percent of the times", apply: asPercent(func(s *settings) *int { return &s.QueueReliefChance })},
		boolean(Tunable{Name: "enable_error_retries", Default: "off", Doc: "ask again for a GET or HEAD that was answered with 500"}, func(s *settings) *bool { return &s.EnableErrorRetries }),
		{Name: "error_retry_schedule", Default: "0,.25,.50,1,1,1,1,1", Doc: "seconds to wait before each of those", apply: func(s *settings, v string) error {
			s.ErrorRetrySchedule = nil
			for _, w := range ParseList(v) {
				d, err := ParseTime(w)
				if err != nil {
					return err
				}
				s.ErrorRetrySchedule = append(s.ErrorRetrySchedule, d)
			}
			return nil
		}},
		{Name: "upload_status_listeners", Doc: "ip:port of UDP listeners for the progress of uploads", apply: asList(func(s *settings) *[]string { return &s.UploadStatusListeners })},
		{Name: "server_process", Doc: "program that is started for each connection in place of a pool; it speaks HTTP on stdin and stdout", apply: func(s *settings, v string) error { s.ServerProcess = v; return checkExecutable(v) }},
	}, ReverseProxy)
}

func bufferTunables() []Tunable {
	return withRoles([]Tunable{
		{Name: "buffer_size", Default: "256k", Doc: "how far a backend's response may run ahead of the client", apply: asSize(func(s *settings) *int64 { return &s.BufferSize })},
		{Name: "buffer_size_reproxy_url", Default: "50k", Doc: "the same for X-REPROXY-URL", apply: asSize(func(s *settings) *int64 { return &s.BufferSizeReproxyURL })},
		{Name: "buffer_backend_connect", Default: "100k", Doc: "request body to have before a backend is asked for; 0: none", apply: asSize(func(s *settings) *int64 { return &s.BufferBackendConnect })},
		boolean(Tunable{Name: "buffer_uploads", Default: "off", Doc: "take in slow or large uploads whole before a backend is asked for"}, func(s *settings) *bool { return &s.BufferUploads }),
		{Name: "buffer_uploads_path", Doc: "directory for them", apply: asDir(func(s *settings) *string { return &s.BufferUploadsPath })},
		{Name: "buffer_uploads_total_size", Default: "10g", Doc: "room in that directory for all uploads of the service together; what has no room is refused, with 503, or with 413 if it never can have; 0: no limit", apply: asSize(func(s *settings) *int64 { return &s.BufferUploadsTotal })},
		{Name: "buffer_upload_threshold_size", Default: "250k", Doc: "size from which on an upload is taken in; 0: not by size", apply: asSize(func(s *settings) *int64 { return &s.BufferThresholdSize })},
		{Name: "buffer_upload_threshold_time", Default: "5", Doc: "seconds that the rest would take; 0: not by time", apply: asTime(func(s *settings) *time.Duration { return &s.BufferThresholdTime })},
		{Name: "buffer_upload_threshold_rate", Default: "0", Doc: "bytes a second below which an upload is taken in; 0: not by rate", apply: asSize(func(s *settings) *int64 { return &s.BufferThresholdRate })},
	}, ReverseProxy)
}

func reproxyTunables() []Tunable {
	return withRoles([]Tunable{
		boolean(Tunable{Name: "enable_reproxy", Default: "off", Doc: "follow X-REPROXY-FILE, -URL and -SERVICE of backends"}, func(s *settings) *bool { return &s.EnableReproxy }),
		{Name: "reproxy_cache_maxsize", Default: "0", Doc: "entries of the X-REPROXY-CACHE-FOR cache", apply: asInt(func(s *settings) *int { return &s.ReproxyCacheMaxSize })},
		{Name: "reproxy_file_roots", Doc: "directories that X-REPROXY-FILE may name files in; none given: any", apply: asList(func(s *settings) *[]string { return &s.ReproxyRoots })},
		{Name: "reproxy_url_networks", Doc: "networks that X-REPROXY-URL may name; none given: any", apply: func(s *settings, v string) (err error) {
			s.ReproxyNetworks, err = ParsePrefixes(v)
			return err
		}},
	}, ReverseProxy)
}

func answerTunables() []Tunable {
	return withRoles([]Tunable{
		{Name: "compress", Doc: "codings for answers, in the order of preference: zstd, gzip; off for none", apply: func(s *settings, v string) error {
			s.Compress = nil
			for _, w := range ParseList(strings.ToLower(v)) {
				switch w {
				case "off", "none":
				case "gzip", "zstd":
					s.Compress = append(s.Compress, w)
				default:
					return kindFault("Expecting gzip, zstd or off for parameter '%s'")
				}
			}
			return nil
		}},
		{Name: "compress_min_size", Default: "1k", Doc: "answers below this are not compressed", apply: asSize(func(s *settings) *int64 { return &s.CompressMinSize })},
		{Name: "compress_types", Default: "text/html,text/css,text/plain,text/xml,text/javascript,application/javascript,application/json,application/xml,image/svg+xml", Doc: "media types that are compressed", apply: asList(func(s *settings) *[]string { return &s.CompressTypes })},
		boolean(Tunable{Name: "cache", Default: "off", Doc: "keep answers that may be shared (RFC 9111)"}, func(s *settings) *bool { return &s.Cache.Enabled }),
		{Name: "cache_memory", Default: "64m", Doc: "memory for them", apply: asSize(func(s *settings) *int64 { return &s.Cache.Memory })},
		{Name: "cache_disk", Doc: "directory for what memory does not hold; each service has one of its own name in it", apply: asDir(func(s *settings) *string { return &s.Cache.Disk })},
		{Name: "cache_disk_size", Default: "1g", Doc: "room in that directory", apply: asSize(func(s *settings) *int64 { return &s.Cache.DiskSize })},
		{Name: "cache_max_object", Default: "8m", Doc: "largest answer that is kept", apply: asSize(func(s *settings) *int64 { return &s.Cache.MaxObject })},
		boolean(Tunable{Name: "cache_ask_always", Default: "off", Doc: "ask the backend about each answer before it is given again, whatever it says of itself: for backends that decide who may see what and answer conditional requests cheaply; what is private is then kept too, if it has an ETag"},
			func(s *settings) *bool { return &s.Cache.AskAlways }),
		{Name: "cache_stale_if_error", Default: "0", Doc: "seconds for which a stale answer is used while backends fail, where the answer does not say; where none can be used at all none is waited for", apply: asTime(func(s *settings) *time.Duration { return &s.Cache.StaleIfError })},
		{Name: "cache_stale_while_revalidate", Default: "0", Doc: "seconds for which a stale answer is used while it is renewed, where the answer does not say", apply: asTime(func(s *settings) *time.Duration { return &s.Cache.StaleWhileRev })},
		{Name: "cache_purge_from", Default: "127.0.0.0/8", Doc: "networks from which PURGE is accepted; through a trusted upstream it is the client that it names that counts", apply: func(s *settings, v string) (err error) {
			s.Cache.PurgeNetworks, err = ParsePrefixes(v)
			if ip6 := netip.IPv6Loopback(); err == nil && slices.Contains(s.Cache.PurgeNetworks, netip.MustParsePrefix("127.0.0.0/8")) {
				s.Cache.PurgeNetworks = append(s.Cache.PurgeNetworks, netip.PrefixFrom(ip6, 128))
			}
			return err
		}},
	}, ReverseProxy, WebServer)
}

func webTunables() []Tunable {
	return withRoles([]Tunable{
		{Name: "docroot", Doc: "directory of the files", apply: asDir(func(s *settings) *string { return &s.Docroot })},
		boolean(Tunable{Name: "dirindexing", Default: "off", Doc: "list directories"}, func(s *settings) *bool { return &s.DirIndexing }),
		{Name: "index_files", Default: "index.html", Doc: "files that stand for their directory", apply: asList(func(s *settings) *[]string { return &s.IndexFiles })},
		boolean(Tunable{Name: "enable_put", Default: "off", Doc: "PUT writes files"}, func(s *settings) *bool { return &s.EnablePut }),
		boolean(Tunable{Name: "enable_delete", Default: "off", Doc: "DELETE removes files"}, func(s *settings) *bool { return &s.EnableDelete }),
		boolean(Tunable{Name: "enable_md5", Default: "on", Doc: "check Content-MD5 of PUT"}, func(s *settings) *bool { return &s.EnableMD5 }),
		{Name: "max_put_size", Default: "0", Doc: "largest file that PUT writes; 0: no limit", apply: asSize(func(s *settings) *int64 { return &s.MaxPutSize })},
		{Name: "min_put_directory", Default: "0", Doc: "leading directories which must exist already", apply: asInt(func(s *settings) *int { return &s.MinPutDirectory })},
		boolean(Tunable{Name: "enable_concatenate_get", Default: "off", Doc: "/base/??a,b gives files in one answer"}, func(s *settings) *bool { return &s.EnableConcat }),
		boolean(Tunable{Name: "precompressed", Default: "off", Doc: "send FILE.zst or FILE.gz for FILE to those who take it, unless it is older"}, func(s *settings) *bool { return &s.Precompressed }),
	}, WebServer)
}

func selectorTunables() []Tunable {
	return withRoles([]Tunable{
		{Name: "default_service", Doc: "service for what the plugins have no service for", apply: func(s *settings, v string) error {
			s.DefaultService = strings.ToLower(v)
			return nil
		}},
		{Name: "latency", Default: "0", Doc: "milliseconds to wait before each request, to try how that feels", apply: func(s *settings, v string) error {
			n, err := ParseInt(v)
			s.Latency = time.Duration(min(n, 1e6)) * time.Millisecond
			return err
		}},
	}, SelectorRole)
}
