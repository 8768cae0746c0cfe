package plugin

import (
	"net/netip"
	"regexp"
	"strings"

	"wheelhouse/balancer"
	"wheelhouse/balancer/config"
)

// accessControl lets clients in or not, by address: ACCESS …, SET svc.accesscontrol.use_observed_ip = 1.
type accessControl struct{ balancer.Base }

func (accessControl) Name() string    { return "AccessControl" }
func (accessControl) Verbs() []string { return []string{"access"} }

var accessForm = regexp.MustCompile(`(?i)^(policy|allow|deny|reset|queue_low)(?: (\S+))?(?: (\S+))?$`)

func (accessControl) Command(conf *balancer.PluginConf, verb, args string) error {
	m := accessForm.FindStringSubmatch(args)
	if m == nil {
		return usage("ACCESS <cmd> <arg1> [<arg2>]")
	}
	switch cmd, arg := strings.ToUpper(m[1]), strings.ToUpper(m[2]); cmd {
	case "RESET":
		conf.Lines = nil
	case "POLICY":
		if arg != "ALLOW" && arg != "DENY" || m[3] != "" {
			return config.Fault("policy must be 'allow' or 'deny'")
		}
		for i, line := range conf.Lines {
			if strings.HasPrefix(line, "ACCESS POLICY ") {
				conf.Lines = append(conf.Lines[:i], conf.Lines[i+1:]...)
				break
			}
		}
		keep(conf, verb, "POLICY "+arg)
	default:
		if _, err := accessRule(cmd, arg, m[3]); err != nil {
			return err
		}
		keep(conf, verb, cmd+" "+arg+" "+m[3])
	}
	return nil
}

func (accessControl) Set(conf *balancer.PluginConf, key, value string) error {
	if key != "use_observed_ip" {
		return config.Fault("Plugin understands: use_observed_ip")
	}
	if _, err := config.ParseBool(value); err != nil {
		return config.Fault("Expecting boolean value for parameter 'use_observed_ip'")
	}
	conf.Params[key] = value
	return nil
}

// rule is one line: what happens to clients of some networks.
type rule struct {
	action string
	nets   []netip.Prefix
}

func accessRule(action, what, value string) (rule, error) {
	switch what {
	case "IP":
		a, err := netip.ParseAddr(value)
		if err != nil {
			return rule{}, config.Fault("invalid IP address '" + value + "'")
		}
		a = a.Unmap()
		return rule{action, []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}}, nil
	case "NETMASK":
		nets, err := config.ParsePrefixes(value)
		if err != nil || len(nets) == 0 {
			return rule{}, config.Fault("Error parsing netmask")
		}
		return rule{action, nets}, nil
	}
	return rule{}, config.Fault("Unknown item to " + strings.ToLower(action) + ": '" + strings.ToLower(what) + "'")
}

func (accessControl) New(_ balancer.Service, _ *balancer.Settings, conf *balancer.PluginConf, _ any) (any, error) {
	a := &accessList{}
	a.observed, _ = config.ParseBool(conf.Params["use_observed_ip"]) // it was checked, or is absent
	for _, line := range conf.Lines {
		words := strings.Fields(text(line))
		if words[0] == "POLICY" {
			a.deny = words[1] == "DENY"
			continue
		}
		r, err := accessRule(words[0], words[1], words[2])
		if err != nil {
			return nil, err
		}
		a.rules = append(a.rules, r)
	}
	return a, nil
}

type accessList struct {
	rules    []rule
	deny     bool // those that no rule is for
	observed bool // look at whom a trusted proxy names
}

// Start implements balancer.Starter. The first rule that is for the client decides.
func (a *accessList) Start(r *balancer.Request) bool {
	ip := r.Client.Addr()
	if a.observed {
		ip = r.Observed
	}
	action := "ALLOW"
	if a.deny {
		action = "DENY"
	}
	for i := range a.rules {
		if covers(a.rules[i].nets, ip) {
			action = a.rules[i].action
			break
		}
	}
	switch action {
	case "DENY":
		r.Error(403, "Access denied.", "denied by AccessControl: "+ip.String())
		return true
	case "QUEUE_LOW":
		r.Priority = balancer.Low
	}
	return false
}

func covers(nets []netip.Prefix, ip netip.Addr) bool {
	for _, n := range nets {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// redirect sends the clients of a host to another: REDIRECT HOST from to.
type redirect struct{ balancer.Base }

func (redirect) Name() string    { return "Redirect" }
func (redirect) Verbs() []string { return []string{"redirect"} }

func (redirect) Command(conf *balancer.PluginConf, verb, args string) error {
	words := strings.Fields(strings.ToLower(args))
	if len(words) != 3 || words[0] != "host" {
		return usage("REDIRECT HOST <match_host> <target_host>")
	}
	keep(conf, verb, "HOST "+words[1]+" "+words[2])
	return nil
}

func (redirect) New(_ balancer.Service, _ *balancer.Settings, conf *balancer.PluginConf, _ any) (any, error) {
	m := redirectMap{}
	for _, line := range conf.Lines {
		words := strings.Fields(text(line))
		m[words[1]] = words[2]
	}
	return m, nil
}

// redirectMap is hosts by pattern.
type redirectMap map[string]string

func (m redirectMap) Start(r *balancer.Request) bool {
	to, ok := byHost(m, hostOf(r))
	if !ok {
		return false
	}
	r.X.Header().Set("Location", "http://"+to+r.URI())
	r.Reply(301, nil)
	return true
}

// notModified answers 304 to whoever has anything of some hosts: SET svc.notmodified.host_pattern = regexp. It is for hosts whose
// files never change under one name.
type notModified struct{ balancer.Base }

func (notModified) Name() string { return "NotModified" }

func (notModified) Set(conf *balancer.PluginConf, key, value string) error {
	if key != "host_pattern" {
		return config.Fault("Plugin understands: host_pattern")
	}
	if none(value) {
		delete(conf.Params, key)
		return nil
	}
	if _, err := Regexp(value); err != nil {
		return err
	}
	conf.Params[key] = value
	return nil
}

func (notModified) New(_ balancer.Service, _ *balancer.Settings, conf *balancer.PluginConf, _ any) (any, error) {
	pattern, ok := conf.Params["host_pattern"]
	if !ok {
		return struct{}{}, nil
	}
	re, err := Regexp(pattern)
	return notModifiedHosts{re}, err
}

type notModifiedHosts struct{ match *regexp.Regexp }

func (n notModifiedHosts) Start(r *balancer.Request) bool {
	if len(r.Host) == 0 || !r.X.Request().Header.Has("If-Modified-Since") || !n.match.Match(r.Host) {
		return false
	}
	r.Reply(304, nil)
	return true
}

// maxContentLength refuses bodies that are announced as too long.
type maxContentLength struct{ balancer.Base }

func (maxContentLength) Name() string { return "MaxContentLength" }

func (maxContentLength) Tunables() []balancer.Tunable {
	return []balancer.Tunable{{
		Name: "max_content_length", Kind: balancer.Int, Default: "0", Doc: "largest Content-Length of a request, in bytes; 0: no limit",
	}}
}

func (maxContentLength) New(_ balancer.Service, set *balancer.Settings, _ *balancer.PluginConf, _ any) (any, error) {
	n, err := config.ParseInt(set.Extra["max_content_length"])
	return contentLimit(n), err
}

type contentLimit int64

func (l contentLimit) Start(r *balancer.Request) bool {
	n := r.X.Request().ContentLength
	if l == 0 || n <= int64(l) {
		return false
	}
	r.Error(413, "Content too long.\n", "above max_content_length")
	return true
}
