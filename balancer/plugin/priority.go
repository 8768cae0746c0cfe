package plugin

import (
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/config"
	"wheelhouse/internal/http1"
)

// highpri puts requests into the queue that is served first: SET svc.highpri.uri_pattern|host_pattern = regexp|none.
type highpri struct{ balancer.Base }

// highpriDefault is what has priority where nothing is set.
const highpriDefault = `^(?:/interface/(?:xmlrpc|flat)|/login\.bml)$`

func (highpri) Name() string { return "Highpri" }

func (highpri) Set(conf *balancer.PluginConf, key, value string) error {
	if key != "uri_pattern" && key != "host_pattern" {
		return config.Fault("Plugin understands: uri_pattern, host_pattern")
	}
	if _, err := Regexp(value); err != nil && !none(value) {
		return err
	}
	conf.Params[key] = value
	return nil
}

func (highpri) New(svc balancer.Service, _ *balancer.Settings, conf *balancer.PluginConf, _ any) (any, error) {
	h := &highpriRule{service: svc.Name(), uriText: highpriDefault, hostText: "undef"}
	if v, ok := conf.Params["uri_pattern"]; ok {
		h.uriText = v
	}
	if v, ok := conf.Params["host_pattern"]; ok {
		h.hostText = v
	}
	var err error
	if !none(h.uriText) {
		if h.uri, err = Regexp(h.uriText); err != nil {
			return nil, err
		}
	}
	if !none(h.hostText) {
		h.host, err = Regexp(h.hostText)
	}
	return h, err
}

type highpriRule struct {
	service           string
	uriText, hostText string
	uri, host         *regexp.Regexp // nil: none
}

func (h *highpriRule) Prioritize(r *balancer.Request) (balancer.Priority, bool) {
	if h.uri != nil && h.uri.MatchString(r.URI()) || h.host != nil && len(r.Host) > 0 && h.host.Match(r.Host) {
		return balancer.High, true
	}
	return 0, false
}

// Info answers "patterns".
func (h *highpriRule) Info(verb, _ string) ([]string, bool) {
	if verb != "patterns" {
		return nil, false
	}
	return []string{
		"High priority pattern buffer:",
		"SET " + h.service + ".highpri.uri_pattern = " + h.uriText,
		"SET " + h.service + ".highpri.host_pattern = " + h.hostText,
	}, true
}

// queues tells backends how long the queues are.
type queues struct{ balancer.Base }

func (queues) Name() string { return "Queues" }

func (queues) New(balancer.Service, *balancer.Settings, *balancer.PluginConf, any) (any, error) {
	return queueFields{}, nil
}

type queueFields struct{}

func (queueFields) Forward(r *balancer.Request, out *http1.OutRequest) {
	tell := func(prefix string, p balancer.Priority) {
		count, oldest := r.Service.Queues(p)
		out.Header.Set(prefix+"Queue-Count", strconv.Itoa(count))
		out.Header.Set(prefix+"Queue-Age", strconv.FormatInt(int64(oldest/time.Second), 10))
	}
	tell("X-", balancer.Normal)
	tell("X-HP-", balancer.High)
}

// flvStreaming lets a player seek: /film.flv?start=N becomes a range, and the answer a film of its own.
type flvStreaming struct{ balancer.Base }

func (flvStreaming) Name() string { return "FlvStreaming" }

func (flvStreaming) New(_ balancer.Service, set *balancer.Settings, _ *balancer.PluginConf, _ any) (any, error) {
	if set.Role != config.ReverseProxy {
		return nil, config.Fault("You can't load the flvstreaming plugin on a service not of role reverse_proxy.")
	}
	return flvSeek{}, nil
}

type flvSeek struct{}

// flvHead is a file's header, and the size of no tag before the first (Video File Format 10, §E.2, §E.3).
const flvHead = "FLV\x01\x01\x00\x00\x00\x09\x00\x00\x00\x09"

// flvStart is where a request seeks to, "" if it does not. Anything but digits is no place to seek to.
func flvStart(r *balancer.Request) string {
	if !strings.HasSuffix(string(r.Path), ".flv") || r.X.Request().Method != "GET" {
		return ""
	}
	for part := range strings.SplitSeq(string(r.Query), "&") {
		if v, ok := strings.CutPrefix(part, "start="); ok && v != "" && len(v) <= 18 && strings.Trim(v, "0123456789") == "" && strings.Trim(v, "0") != "" {
			return v
		}
	}
	return ""
}

func (flvSeek) Forward(r *balancer.Request, out *http1.OutRequest) {
	if start := flvStart(r); start != "" {
		out.Header.Set("Range", "bytes="+start+"-")
		out.Header.Del("If-Range")
	}
}

// Answer makes a part into a film. A backend that sent the whole film is passed on as it is.
func (flvSeek) Answer(r *balancer.Request, a *balancer.Answer) bool {
	if a.Status != 206 || flvStart(r) == "" {
		return false
	}
	a.Status = 200
	a.Header.Del("Accept-Ranges")
	a.Header.Del("Content-Range")
	a.Header.Set("Content-Type", "video/x-flv")
	a.Prefix = []byte(flvHead)
	return false
}

// xffExtras tells backends where the client came in.
type xffExtras struct{ balancer.Base }

func (xffExtras) Name() string { return "XFFExtras" }

func (xffExtras) Tunables() []balancer.Tunable {
	roles := []string{config.ReverseProxy}
	return []balancer.Tunable{
		{Name: "send_backend_port", Roles: roles, Kind: balancer.Bool, Default: "off", Doc: "send X-Forwarded-Port, the port that the client came to"},
		{Name: "send_backend_proto", Roles: roles, Kind: balancer.Bool, Default: "off", Doc: "send X-Forwarded-Proto, http or https"},
	}
}

func (xffExtras) New(_ balancer.Service, set *balancer.Settings, _ *balancer.PluginConf, _ any) (any, error) {
	return xffFields{on(set, "send_backend_port"), on(set, "send_backend_proto")}, nil
}

type xffFields struct{ port, proto bool }

func (x xffFields) Forward(r *balancer.Request, out *http1.OutRequest) {
	if r.Trusted && r.Set.BlindProxy {
		return
	}
	if a, ok := r.X.LocalAddr().(*net.TCPAddr); ok && x.port { // a unix socket has no port
		out.Header.Set("X-Forwarded-Port", strconv.Itoa(a.Port))
	}
	if x.proto {
		proto := "http"
		if r.X.TLS() {
			proto = "https"
		}
		out.Header.Set("X-Forwarded-Proto", proto)
	}
}
