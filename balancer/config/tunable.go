package config

import (
	"slices"
	"strings"
	"time"

	"wheelhouse/balancer"
)

// The roles that are built in.
const (
	ReverseProxy  = "reverse_proxy"
	WebServer     = "web_server"
	SelectorRole  = "selector"
	Management    = "management"
	UploadTracker = "upload_tracker"
)

// BuiltinRoles are the roles that need no plugin.
var BuiltinRoles = []string{ReverseProxy, WebServer, SelectorRole, Management, UploadTracker}

// Tunable is a parameter of services.
type Tunable struct {
	Name    string
	Roles   []string // none: any
	Default string   // as it would be written, "" for unset
	Doc     string

	bool  bool // printed as on or off
	apply func(s *balancer.Settings, v string) error
}

// forRole reports whether services of a role have the parameter.
func (t *Tunable) forRole(role string) bool {
	return len(t.Roles) == 0 || slices.Contains(t.Roles, role)
}

type settings = balancer.Settings

func asBool(f func(*settings) *bool) func(*settings, string) error {
	return func(s *settings, v string) (err error) { *f(s), err = ParseBool(v); return err }
}

func asInt(f func(*settings) *int) func(*settings, string) error {
	return func(s *settings, v string) (err error) { *f(s), err = ParseInt(v); return err }
}

func asPercent(f func(*settings) *int) func(*settings, string) error {
	return func(s *settings, v string) error {
		n, err := ParseInt(v)
		if err == nil && n > 100 {
			err = errRange
		}
		*f(s) = n
		return err
	}
}

func asSize(f func(*settings) *int64) func(*settings, string) error {
	return func(s *settings, v string) (err error) { *f(s), err = ParseSize(v); return err }
}

func asTime(f func(*settings) *time.Duration) func(*settings, string) error {
	return func(s *settings, v string) (err error) { *f(s), err = ParseTime(v); return err }
}

func asText(f func(*settings) *string) func(*settings, string) error {
	return func(s *settings, v string) error { *f(s) = v; return nil }
}

func asList(f func(*settings) *[]string) func(*settings, string) error {
	return func(s *settings, v string) error { *f(s) = ParseList(v); return nil }
}

func asFile(f func(*settings) *string) func(*settings, string) error {
	return func(s *settings, v string) error { *f(s) = v; return checkFile(v) }
}

func asDir(f func(*settings) *string) func(*settings, string) error {
	return func(s *settings, v string) error {
		if len(v) > 1 {
			v = strings.TrimRight(v, "/")
		}
		*f(s) = v
		return checkDir(v)
	}
}

func asOneOf(f func(*settings) *string, words ...string) func(*settings, string) error {
	return func(s *settings, v string) error {
		v = strings.ToLower(v)
		if !slices.Contains(words, v) {
			return kindFault("Expecting one of " + strings.Join(words, ", ") + " for parameter '%s'")
		}
		*f(s) = v
		return nil
	}
}

// tunables is the table of all parameters that are built in, in the order in which they are documented.
func tunables() []Tunable {
	return slices.Concat(clientTunables(), tlsTunables(), proxyTunables(), bufferTunables(), reproxyTunables(), answerTunables(),
		webTunables(), selectorTunables())
}

func withRoles(list []Tunable, roles ...string) []Tunable {
	for i := range list {
		list[i].Roles = roles
	}
	return list
}

func boolean(t Tunable, f func(*settings) *bool) Tunable {
	t.bool, t.apply = true, asBool(f)
	return t
}
