package config

import "testing"

// The tunables of Perlbal 1.80: each is there, for the roles that had it, with its default, and takes what it took and no more.
func TestTunablesOfPerlbal(t *testing.T) {
	const r, w, s, all = ReverseProxy, WebServer, SelectorRole, ""
	dir := t.TempDir()
	good := map[string][]string{
		"bool": {"1", "true", "on", "yes", "0", "false", "off", "no", "On", "YES"}, "int": {"0", "7"},
		"size": {"0", "10", "10b", "10k", "10K", "10m", "10M"}, "dir": {dir}, "file": {"/bin/sh"}, "program": {"/bin/sh"}, "text": {"x"},
		"listen": {"80", "127.0.0.1:80", "[::1]:80"}, "masks": {"10.0.0.0/8", "10.0.0.1,10.0.0.0:255.255.0.0"}, "times": {"0,.25,1"}, "addrs": {"127.0.0.1:5,127.0.0.2:6"},
	}
	bad := map[string][]string{
		"bool": {"maybe", "2", "tru"}, "int": {"-1", "x", "1.x"}, "size": {"-1", "x", "1x"}, "dir": {dir + "/none"}, "file": {dir + "/none", dir}, "program": {dir + "/none", dir, "/etc/passwd"},
		"listen": {"x", "1.2.3.4", "1.2.3.4:70000"}, "masks": {"10.0.0.0/99", "x"}, "times": {"x"},
	}
	for _, tt := range []struct{ name, role, kind, def string }{
		{"listen", all, "listen", ""},
		{"pool", r, "text", ""},
		{"persist_client", all, "bool", "off"},
		{"persist_client_idle_timeout", all, "int", "30"},
		{"idle_timeout", all, "int", "30"},
		{"persist_client_timeout", all, "int", ""},
		{"persist_backend", r, "bool", "off"},
		{"backend_persist_cache", r, "int", "2"},
		{"connect_ahead", r, "int", "0"},
		{"max_backend_uses", r, "int", "0"},
		{"verify_backend", r, "bool", "off"},
		{"verify_backend_path", r, "text", "*"},
		{"buffer_size", r, "size", "256k"},
		{"buffer_size_reproxy_url", r, "size", "50k"},
		{"buffer_backend_connect", r, "size", "100k"},
		{"buffer_uploads", r, "bool", "off"},
		{"buffer_uploads_path", r, "dir", ""},
		{"buffer_upload_threshold_size", r, "size", "250k"},
		{"buffer_upload_threshold_time", r, "int", "5"},
		{"buffer_upload_threshold_rate", r, "int", "0"},
		{"max_chunked_request_size", all, "size", "200m"},
		{"high_priority_cookie", r, "text", ""},
		{"high_priority_cookie_contents", r, "text", ""},
		{"queue_relief_size", r, "int", "0"},
		{"queue_relief_chance", r, "int", "0"},
		{"enable_reproxy", r, "bool", "off"},
		{"reproxy_cache_maxsize", r, "int", "0"},
		{"enable_error_retries", r, "bool", "off"},
		{"error_retry_schedule", r, "times", "0,.25,.50,1,1,1,1,1"},
		{"trusted_upstream_proxies", all, "masks", ""},
		{"always_trusted", all, "bool", "off"},
		{"blind_proxy", r, "bool", "off"},
		{"upload_status_listeners", r, "addrs", ""},
		{"server_process", r, "program", ""},
		{"docroot", w, "dir", ""},
		{"dirindexing", w, "bool", "off"},
		{"index_files", w, "text", "index.html"},
		{"enable_put", w, "bool", "off"},
		{"enable_delete", w, "bool", "off"},
		{"enable_md5", w, "bool", "on"},
		{"max_put_size", w, "size", "0"},
		{"min_put_directory", w, "int", "0"},
		{"enable_concatenate_get", w, "bool", "off"},
		{"default_service", s, "text", ""},
		{"latency", s, "int", "0"},
		{"enable_ssl", all, "bool", "off"},
		{"ssl_key_file", all, "file", ""},
		{"ssl_cert_file", all, "file", ""},
		{"ssl_cipher_list", all, "text", "ALL:!LOW:!EXP"},
		{"ssl_ca_path", all, "text", ""},
		{"ssl_verify_mode", all, "int", "0"},
		{"client_sndbuf_size", all, "size", "0"},
		{"server_tokens", all, "bool", "on"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := language()
			var tun *Tunable
			for _, have := range l.Tunables() {
				if have.Name == tt.name {
					tun = &have
				}
			}
			if tun == nil {
				t.Fatal("it does not exist")
			}
			if tun.Default != tt.def {
				t.Errorf("default %q; want %q", tun.Default, tt.def)
			}
			for _, role := range []string{r, w, s} {
				st := read(t, l, "CREATE SERVICE x\nSET role = "+role+"\nCREATE POOL x2\n")
				set := func(v string) error {
					return l.Exec(st, &Context{}, Command{"set", "x." + tt.name + " = " + v})
				}
				mine := tt.role == all || tt.role == role
				for _, v := range good[tt.kind] {
					if tt.name == "pool" {
						v = "x2"
					}
					if err := set(v); (err == nil) != mine {
						t.Errorf("%s: = %q: %v; its own: %v", role, v, err, mine)
					}
				}
				for _, v := range bad[tt.kind] {
					if err := set(v); err == nil {
						t.Errorf("%s: = %q was taken", role, v)
					}
				}
			}
		})
	}
}
