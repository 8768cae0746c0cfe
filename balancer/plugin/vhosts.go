package plugin

import (
	"regexp"
	"strings"

	"wheelhouse/balancer"
	"wheelhouse/balancer/config"
)

// vhosts selects by the Host field: VHOST [svc] pattern = service.
type vhosts struct{ balancer.Base }

func (vhosts) Name() string    { return "Vhosts" }
func (vhosts) Verbs() []string { return []string{"vhost"} }

var (
	mapping     = regexp.MustCompile(`^(\S+?) ?= ?(\w+)$`)
	greedyMap   = regexp.MustCompile(`^(\S+) ?= ?(\w+)$`)
	hostPattern = regexp.MustCompile(`^[\w\-.*;:]+$`)
	usingPath   = regexp.MustCompile(`^/__using/([\w.]+)/\w+$`)
)

func (vhosts) Command(conf *balancer.PluginConf, verb, args string) error {
	m := mapping.FindStringSubmatch(args)
	if m == nil {
		return usage("VHOST [<service>] <host_or_pattern> = <dest_service>")
	}
	host := strings.ToLower(m[1])
	if !hostPattern.MatchString(host) {
		return config.Fault("invalid host pattern: '" + host + "'")
	}
	for i, line := range conf.Lines {
		if strings.HasPrefix(line, "VHOST "+host+" = ") {
			conf.Lines = append(conf.Lines[:i], conf.Lines[i+1:]...)
			break
		}
	}
	keep(conf, verb, host+" = "+strings.ToLower(m[2]))
	return nil
}

func (vhosts) New(_ balancer.Service, set *balancer.Settings, conf *balancer.PluginConf, _ any) (any, error) {
	if set.Role != config.SelectorRole {
		return nil, config.Fault("You can't load the vhost plugin on a service not of role selector.")
	}
	v := vhostMap{}
	for _, line := range conf.Lines {
		host, svc, _ := strings.Cut(text(line), " = ")
		v[host] = svc
	}
	return v, nil
}

// vhostMap is services by pattern.
type vhostMap map[string]string

func (v vhostMap) Select(r *balancer.Request) (string, bool) {
	host := hostOf(r)
	if m := usingPath.FindSubmatch(r.Path); m != nil && host != "" {
		svc := v[host+";using:"+strings.ToLower(string(m[1]))]
		if svc == "" {
			r.Error(404, "Vhost twiddling not configured for requested pair.", "no such pair of hosts")
			return "", true
		}
		r.Host = m[1]
		return svc, false
	}
	svc, ok := byHost(v, host)
	if !ok {
		r.Error(404, "Not Found (no configured vhost)", "no vhost for '"+host+"'")
		return "", true
	}
	return svc, false
}

// vpaths selects by regular expressions on path and query: VPATH [svc] regexp = service.
type vpaths struct{ balancer.Base }

func (vpaths) Name() string    { return "Vpaths" }
func (vpaths) Verbs() []string { return []string{"vpath"} }

func (vpaths) Command(conf *balancer.PluginConf, verb, args string) error {
	m := greedyMap.FindStringSubmatch(args)
	if m == nil {
		return usage("VPATH [<service>] <path regex> = <dest_service>")
	}
	if _, err := Regexp(m[1]); err != nil {
		return err
	}
	keep(conf, verb, m[1]+" = "+strings.ToLower(m[2]))
	return nil
}

func (vpaths) New(_ balancer.Service, set *balancer.Settings, conf *balancer.PluginConf, _ any) (any, error) {
	if set.Role != config.SelectorRole {
		return nil, config.Fault("You can't load the vpath plugin on a service not of role selector.")
	}
	var rows vpathRows
	for _, line := range conf.Lines {
		m := greedyMap.FindStringSubmatch(text(line))
		re, err := Regexp(m[1])
		if err != nil {
			return nil, err
		}
		rows = append(rows, vpathRow{re, m[2]})
	}
	return rows, nil
}

type vpathRow struct {
	match   *regexp.Regexp
	service string
}

// vpathRows are looked through in order.
type vpathRows []vpathRow

func (v vpathRows) Select(r *balancer.Request) (string, bool) {
	uri := r.URI()
	for _, row := range v {
		if row.match.MatchString(uri) {
			return row.service, false
		}
	}
	return "", false
}
