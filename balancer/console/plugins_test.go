package console_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/balancertest"
	"wheelhouse/balancer/config"
	"wheelhouse/balancer/console"
	"wheelhouse/balancer/plugin"
)

// The console's verbs that plugins answer, and those of circuits and limits, as transcripts.
func TestTranscriptsOfPlugins(t *testing.T) {
	back := balancertest.Backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fail" {
			w.WriteHeader(503)
		}
	})
	stats := console.NewStats()
	c := console.New(console.Options{Version: "test"}, stats)
	b := balancertest.Start(t, "LOAD stats\nLOAD highpri\n"+balancertest.Proxy([]string{back}, "SET plugins = stats, highpri\nSET rate_limit = .001 burst=5 key=header:X-Key")+
		"SET p.circuit_errors = 1\nSET p.circuit_time = 3600\nSET p.max_requests = 10\nSET rp.highpri.uri_pattern = ^/fast\n"+consoleOnly,
		balancerd.Options{Console: c.Serve, Finished: stats.Finished, Language: config.NewLanguage(config.NewPlugins(plugin.All()...))})
	ask := func(verb string) string {
		t.Helper()
		got := ask(t, b.Addr("mgmt"), verb)
		got = strings.ReplaceAll(got, back, "NODE")
		got = strings.ReplaceAll(got, b.Addr("rp"), "RP")
		return strings.ReplaceAll(regexp.MustCompile(`\d+\.\d{4} `).ReplaceAllString(got, "TIME "), "\r\n", "\n")
	}
	for _, path := range []string{"/a", "/fast/b", "/a?c=d", "/fail", "/refused", "/limited"} {
		get(t, b.URL("rp", path))
	}
	balancertest.Eventually(t, "all requests have ended", func() bool { return len(b.Service("rp").Live()) == 0 })
	for verb, want := range map[string]string{
		"stats": "rp              files_reproxied                      0\n" +
			"rp              files_sent                           0\n" +
			"rp              proxy_requests                       3\n" +
			"rp              proxy_requests_highpri               1\n" +
			"rp              web_requests                         0\n" +
			"total           files_reproxied                      0\n" +
			"total           files_sent                           0\n" +
			"total           proxy_requests                       3\n" +
			"total           proxy_requests_highpri               1\n" +
			"total           web_requests                         0\n.\n",
		"recent":     "rp TIME http://RP/a\nrp TIME http://RP/fast/b\nrp TIME http://RP/a?c=d\nrp TIME http://RP/fail\n.\n",
		"patterns":   "High priority pattern buffer:\nSET rp.highpri.uri_pattern = ^/fast\nSET rp.highpri.host_pattern = undef\n.\n",
		"circuits":   "p circuit open\np opened 1\np failure NODE answered with 503\np max_requests 0/10\np refused circuit 1\n.\n",
		"limits":     "rp rate_limit 0.001 burst=5 key=header:X-Key\nrp clients 1\nrp refused 1\nrp client 127.0.0.1 1\n.\n",
		"circuits x": "ERROR: The 'circuits' command takes no arguments\n",
	} {
		if got := ask(verb); got != want {
			t.Errorf("C: %s\n%swant\n%s", verb, got, want)
		}
	}
}
