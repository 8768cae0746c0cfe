// Package plugin is the plugins that LOAD can name: Perlbal's, as Go values.
//
// A plugin's configuration is in lines and parameters of the service (balancer.PluginConf); each change makes an instance anew from
// them, which takes over what the one before has counted and remembered.
package plugin

import (
	"strings"

	"wheelhouse/balancer"
	"wheelhouse/balancer/config"
)

// Options are what plugins get from the program around them.
type Options struct {
	Handlers      Handlers      // of Cgilike, by name
	ThrottleStore ThrottleStore // of Throttle with memcached_servers; nil: each process remembers for itself
}

// All are all plugins without anything from around them.
func All() []balancer.Plugin { return New(Options{}) }

// New is all plugins.
func New(o Options) []balancer.Plugin {
	return []balancer.Plugin{
		accessControl{},
		autoRemoveLeadingDir{},
		cgilike{handlers: o.Handlers},
		echoService{},
		flvStreaming{},
		highpri{},
		include{},
		lazyCDN{},
		maxContentLength{},
		notModified{},
		palimgs{},
		queues{},
		redirect{},
		sessionAffinity{},
		stats{},
		throttle{store: o.ThrottleStore},
		vhosts{},
		vpaths{},
		xffExtras{},
	}
}

// usage is how a command is written, as Perlbal says it.
func usage(text string) error { return config.Fault("usage: " + text) }

// keep adds a command to a configuration.
func keep(conf *balancer.PluginConf, verb, text string) {
	conf.Lines = append(conf.Lines, strings.ToUpper(verb)+" "+text)
}

// text is a kept command without its verb.
func text(line string) string {
	_, rest, _ := strings.Cut(line, " ")
	return rest
}

// none reports whether a value stands for none.
func none(v string) bool {
	switch strings.ToLower(v) {
	case "none", "undef", "null", `""`, `''`:
		return true
	}
	return false
}

// hostOf is a request's host as it is compared: in lower case, without port and the dot at its end.
func hostOf(r *balancer.Request) string {
	host := strings.TrimSuffix(string(r.Host), ".")
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.Trim(host[i+1:], "0123456789") == "" {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// maxHost is the longest host whose labels are peeled off, in bytes: as long as names are (RFC 1035 §2.3.4).
const maxHost = 255

// byHost finds what a pattern says of a host: the host itself, then *.host, then with each label less, then *.
func byHost(patterns map[string]string, host string) (string, bool) {
	if host != "" && len(host) <= maxHost {
		if v, ok := patterns[host]; ok {
			return v, true
		}
		for rest, more := host, true; more; _, rest, more = strings.Cut(rest, ".") {
			if v, ok := patterns["*."+rest]; ok {
				return v, true
			}
		}
	}
	v, ok := patterns["*"]
	return v, ok
}

// on reads a tunable of kind Bool, which was checked when it was set.
func on(set *balancer.Settings, name string) bool {
	v, err := config.ParseBool(set.Extra[name])
	return err == nil && v
}
