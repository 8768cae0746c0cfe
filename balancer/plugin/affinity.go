package plugin

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"net"
	"strings"

	"wheelhouse/balancer"
	"wheelhouse/balancer/config"
)

// sessionAffinity gives a client's requests to the node that has answered its first one, as long as that may be used. The node is named in
// a cookie, by the SHA-1 of the salt, its address and its port, as Perlbal::Plugin::SessionAffinity names it: the same salt gives the same
// cookies.
type sessionAffinity struct{ balancer.Base }

// affinityCookie is the cookie's name where none is given.
const affinityCookie = "X-SERVERID"

func (sessionAffinity) Name() string { return "SessionAffinity" }

// Verbs are the CPAN module's: AFFINITY_COOKIE_HEADER = name, AFFINITY_SALT = text, AFFINITY_USE_SALT = yes|no. There they are for all
// services; here for the service that they stand in.
func (sessionAffinity) Verbs() []string {
	return []string{"affinity_cookie_header", "affinity_salt", "affinity_use_salt"}
}

func (sessionAffinity) Tunables() []balancer.Tunable {
	return []balancer.Tunable{
		{Name: "affinity_cookie", Roles: []string{config.ReverseProxy}, Default: affinityCookie, Doc: "name of the cookie that says which node a client belongs to"},
		{Name: "affinity_salt", Roles: []string{config.ReverseProxy}, Doc: "text that goes into the cookie's value, so that nodes' addresses cannot be guessed from it; balancers with the same salt honour each other's cookies"},
	}
}

// Command takes NAME = value.
func (a sessionAffinity) Command(conf *balancer.PluginConf, verb, args string) error {
	eq, value, _ := strings.Cut(strings.TrimSpace(args), " ")
	if value = strings.TrimSpace(value); eq != "=" || value == "" {
		return usage(strings.ToUpper(verb) + " = <value>")
	}
	switch verb {
	case "affinity_cookie_header":
		if !config.IsToken(value) {
			return config.Fault("'" + value + "' cannot be a cookie's name")
		}
	case "affinity_use_salt":
		if _, err := config.ParseBool(value); err != nil {
			return usage("AFFINITY_USE_SALT = <boolean>")
		}
	}
	conf.Lines = append(withoutVerb(conf.Lines, verb), strings.ToUpper(verb)+" = "+value)
	return nil
}

// withoutVerb is the lines that are not of a verb, of which the last one alone counts.
func withoutVerb(lines []string, verb string) []string {
	var left []string
	for _, l := range lines {
		if v, _, _ := strings.Cut(l, " "); !strings.EqualFold(v, verb) {
			left = append(left, l)
		}
	}
	return left
}

func (sessionAffinity) New(_ balancer.Service, set *balancer.Settings, conf *balancer.PluginConf, _ any) (any, error) {
	a := &affinity{cookie: cmp.Or(set.Extra["affinity_cookie"], affinityCookie), salt: set.Extra["affinity_salt"]}
	if !config.IsToken(a.cookie) {
		return nil, config.Fault("affinity_cookie: '" + a.cookie + "' cannot be a cookie's name")
	}
	useSalt, salt := false, ""
	for _, l := range conf.Lines {
		verb, value, _ := strings.Cut(l, " = ")
		switch strings.ToLower(verb) {
		case "affinity_cookie_header":
			a.cookie = value
		case "affinity_salt":
			salt = value
		case "affinity_use_salt":
			useSalt, _ = config.ParseBool(value) // it was checked
		}
	}
	if useSalt && salt != "" {
		a.salt = salt
	}
	return a, nil
}

type affinity struct{ cookie, salt string }

// id is what the cookie calls a node.
func (a *affinity) id(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = addr, "" // a unix socket
	}
	sum := sha1.Sum([]byte(a.salt + host + port))
	return hex.EncodeToString(sum[:])
}

// Place implements balancer.Placer.
func (a *affinity) Place(r *balancer.Request, nodes []string) string {
	id, _ := balancer.Cookie(&r.X.Request().Header, a.cookie)
	if id == "" {
		return ""
	}
	for _, addr := range nodes {
		if a.id(addr) == id {
			return addr
		}
	}
	return ""
}

// Answer sets the cookie where the client has none, or that of another node. An answer with it is that client's alone: caches do not keep
// answers that set cookies.
func (a *affinity) Answer(r *balancer.Request, ans *balancer.Answer) bool {
	if r.Backend == "" || ans.Status == 304 {
		return false
	}
	id := a.id(r.Backend)
	if had, _ := balancer.Cookie(&r.X.Request().Header, a.cookie); had == id {
		return false
	}
	cookie := a.cookie + "=" + id + "; Path=/; HttpOnly; SameSite=Lax"
	if r.X.TLS() {
		cookie += "; Secure"
	}
	ans.Header.Add("Set-Cookie", cookie)
	return false
}
