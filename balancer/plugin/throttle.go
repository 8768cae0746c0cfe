package plugin

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/config"
)

// throttle delays clients that come too often, and shuts those out that go on.
type throttle struct {
	balancer.Base
	store ThrottleStore
}

func (throttle) Name() string    { return "Throttle" }
func (throttle) Verbs() []string { return []string{"throttle"} }

// ThrottleStore makes a memory that several balancers share, of the servers in memcached_servers and so many connections.
type ThrottleStore func(servers []string, clients int) (ThrottleMemory, error)

// ThrottleMemory remembers clients. It is safe for concurrent use. A failure is as if nothing were known.
type ThrottleMemory interface {
	// Get is when the client of a key last came, and how often too soon.
	Get(ctx context.Context, key string) (last time.Time, violations int, ok bool)
	// Set remembers it for the time of expire.
	Set(ctx context.Context, key string, last time.Time, violations int, expire time.Duration)
}

func (throttle) Tunables() []balancer.Tunable {
	return []balancer.Tunable{
		{Name: "whitelist_file", Kind: balancer.Text, Doc: "file of networks that are never throttled, one a line"},
		{Name: "blacklist_file", Kind: balancer.Text, Doc: "file of networks that blacklist_action is for"},
		{Name: "blacklist_action", Default: "deny", Doc: "deny or throttle"},
		{Name: "default_action", Default: "throttle", Doc: "allow or throttle: what happens to clients on neither list"},
		{Name: "path_regex", Doc: "only requests whose URI it matches are throttled"},
		{Name: "method_regex", Doc: "only requests whose method it matches are throttled"},
		{Name: "log_events", Default: "all", Doc: "of ban, unban, whitelisted, blacklisted, concurrent, throttled, banned; all; none"},
		{Name: "log_only", Kind: balancer.Bool, Default: "off", Doc: "log what would be done, and do nothing"},
		{Name: "throttle_threshold_seconds", Kind: balancer.Seconds, Default: "60", Doc: "time between requests of a client above which it is let alone"},
		{Name: "initial_delay", Kind: balancer.Seconds, Default: "3", Doc: "the first delay; each further one is twice as long"},
		{Name: "max_delay", Kind: balancer.Seconds, Default: "300", Doc: "the longest delay"},
		{Name: "max_concurrent", Kind: balancer.Int, Default: "2", Doc: "requests that a client may have under way"},
		{Name: "ban_threshold", Kind: balancer.Int, Default: "0", Doc: "delays in a row after which a client is shut out; 0: never"},
		{Name: "ban_expiration", Kind: balancer.Seconds, Default: "60", Doc: "for how long"},
		{Name: "memcached_servers", Doc: "servers that remember clients for several balancers"},
		{Name: "memcached_async_clients", Kind: balancer.Int, Default: "10", Doc: "connections to each of them"},
		{Name: "instance_name", Default: "Throttle", Doc: "balancers of one name remember together"},
	}
}

// Command takes THROTTLE RELOAD. Each change of the configuration reads everything again, and this is one.
func (throttle) Command(_ *balancer.PluginConf, _, args string) error {
	words := strings.Fields(strings.ToLower(args))
	if len(words) != 2 || words[0] != "reload" || !slices.Contains([]string{"config", "whitelist", "blacklist"}, words[1]) {
		return usage("throttle reload <config|whitelist|blacklist>")
	}
	return nil
}

func (t throttle) New(svc balancer.Service, set *balancer.Settings, _ *balancer.PluginConf, prev any) (any, error) {
	l := &limiter{svc: svc, state: newThrottleState(time.Now), wait: wait, lists: map[string][]netip.Prefix{}}
	p, _ := prev.(*limiter)
	if p != nil {
		l.state = p.state
	}
	if err := l.read(set, p); err != nil {
		return nil, err
	}
	l.memory = l.state
	servers := config.ParseList(set.Extra["memcached_servers"])
	switch {
	case len(servers) == 0:
	case t.store == nil:
		svc.Log().Warn("memcached_servers: this program has no client for them, Throttle remembers for itself alone")
	default:
		n, err := config.ParseInt(set.Extra["memcached_async_clients"])
		if err == nil {
			l.memory, err = t.store(servers, n)
		}
		if err != nil {
			return nil, fmt.Errorf("memcached_servers: %w", err)
		}
	}
	return l, nil
}

// limiter is the plugin in a service.
type limiter struct {
	svc    balancer.Service
	state  *throttleState // of this process
	memory ThrottleMemory // state itself, or what several balancers share
	wait   func(ctx context.Context, d time.Duration) error

	lists                               map[string][]netip.Prefix // by file
	white, black                        []netip.Prefix
	denyBlack, allowRest, logOnly       bool
	path, method                        *regexp.Regexp // nil: any
	events                              map[string]bool
	threshold, initial, longest, banned time.Duration
	concurrent, banAfter                int
	name                                string
}

// events that can be logged.
var throttleEvents = []string{"ban", "unban", "whitelisted", "blacklisted", "concurrent", "throttled", "banned"}

// read takes the tunables in. A list that can no longer be read stays as it was before, for which prev is not nil: any change of the
// configuration reads it again, and must not be refused for that.
func (l *limiter) read(set *balancer.Settings, prev *limiter) error {
	x := set.Extra
	var err error
	fail := func(e error) {
		if e != nil && err == nil {
			err = e
		}
	}
	oneOf := func(name, other string) bool {
		if v := strings.ToLower(x[name]); v != other && v != "throttle" {
			fail(config.Fault("Value of '" + name + "' is not one of " + other + ", throttle"))
		}
		return strings.EqualFold(x[name], other)
	}
	list := func(name string) (nets []netip.Prefix) {
		if file := x[name]; file != "" && !none(file) {
			var e error
			if nets, e = readNetworks(file); e != nil && prev != nil && prev.lists[file] != nil {
				l.svc.Log().Warn("list cannot be read, it stays as it was", "file", file, "err", e)
				nets, e = prev.lists[file], nil
			}
			l.lists[file] = nets
			fail(e)
		}
		return nets
	}
	pattern := func(name string) (re *regexp.Regexp) {
		if x[name] != "" {
			var e error
			re, e = Regexp(x[name])
			fail(e)
		}
		return re
	}
	seconds := func(name string) time.Duration {
		d, e := config.ParseTime(x[name])
		fail(e)
		return d
	}
	number := func(name string) int {
		n, e := config.ParseInt(x[name])
		fail(e)
		return n
	}
	l.denyBlack, l.allowRest, l.logOnly = oneOf("blacklist_action", "deny"), oneOf("default_action", "allow"), on(set, "log_only")
	l.white, l.black = list("whitelist_file"), list("blacklist_file")
	l.path, l.method = pattern("path_regex"), pattern("method_regex")
	l.threshold, l.initial = seconds("throttle_threshold_seconds"), seconds("initial_delay")
	l.longest, l.banned = seconds("max_delay"), seconds("ban_expiration")
	l.concurrent, l.banAfter, l.name = number("max_concurrent"), number("ban_threshold"), x["instance_name"]
	events, e := readEvents(x["log_events"])
	fail(e)
	l.events = events
	return err
}

func readEvents(v string) (map[string]bool, error) {
	m := map[string]bool{}
	for _, w := range config.ParseList(strings.ToLower(v)) {
		switch {
		case w == "none":
			clear(m)
		case w == "all":
			for _, e := range throttleEvents {
				m[e] = true
			}
		case slices.Contains(throttleEvents, w):
			m[w] = true
		default:
			return nil, config.Fault("log_events is a comma-separated list of loggable events")
		}
	}
	return m, nil
}

// maxNetworks is how many networks a file may list.
const maxNetworks = 100000

// readNetworks reads addresses and networks, one a line, '#' before a comment.
func readNetworks(file string) ([]netip.Prefix, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, config.Fault("Couldn't load " + file + ": " + err.Error())
	}
	defer f.Close()
	var nets []netip.Prefix
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		list, err := config.ParsePrefixes(strings.TrimSpace(strings.ReplaceAll(line, "\t", " ")))
		if err != nil {
			return nil, config.Fault(fmt.Sprintf("Couldn't load %s: line %d: %v", file, n, err))
		}
		if nets = append(nets, list...); len(nets) > maxNetworks {
			return nil, config.Fault(fmt.Sprintf("Couldn't load %s: more than %d networks", file, maxNetworks))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, config.Fault("Couldn't load " + file + ": " + err.Error())
	}
	if len(nets) == 0 {
		return nil, config.Fault("Couldn't load " + file + ": it contains no recognizable CIDRs")
	}
	return nets, nil
}

// wait waits, unless ctx ends before.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// throttleKey is what a request that one state counts is marked by: services that hand it on may each have the plugin.
type throttleKey struct{ *throttleState }

// Start implements balancer.Starter.
func (l *limiter) Start(r *balancer.Request) bool {
	client := clientKey(r.Observed)
	what := l.judge(r, client)
	if what != deny || l.logOnly {
		l.letIn(r, client, math.MaxInt)
	}
	switch what {
	case deny:
		if l.logOnly {
			break
		}
		r.Error(403, "Forbidden.\n", "denied by Throttle: "+client)
		return true
	case allow:
		return false
	}
	delay, ban := l.delay(r, client)
	switch {
	case l.logOnly:
	case ban:
		r.Reason = "banned by Throttle: " + client
		r.X.Abort()
		return true
	case l.wait(r.X.Context(), delay) != nil:
		r.Reason = "the client did not wait for Throttle"
		r.X.Abort()
		return true
	}
	return false
}

// End implements balancer.Ender.
func (l *limiter) End(r *balancer.Request) {
	if client, ok := r.Value(throttleKey{l.state}).(string); ok {
		l.state.leave(client)
		r.SetValue(throttleKey{l.state}, nil)
	}
}

// letIn counts a request among those that its client has under way, unless there are limit of them; it says whether it is counted. One that is
// not let in is not under way, however long its answer takes.
func (l *limiter) letIn(r *balancer.Request, client string, limit int) bool {
	key := throttleKey{l.state}
	if _, counted := r.Value(key).(string); counted {
		return true
	}
	if !l.state.enter(client, limit) {
		return false
	}
	r.SetValue(key, client)
	return true
}

// verdict is what happens to a request.
type verdict int

const (
	allow verdict = iota
	deny
	slow
)

// judge decides on a request in Perlbal's order. One that max_concurrent is asked about has been let in when it is not refused.
func (l *limiter) judge(r *balancer.Request, client string) verdict {
	ip := r.Observed
	banned, unbanned := l.state.isBanned(client)
	if unbanned {
		l.log("unban", client, "")
	}
	switch {
	case !ip.IsValid() || ip == netip.IPv4Unspecified(): // of a unix socket: it may be anybody
		return allow
	case covers(l.white, ip):
		l.log("whitelisted", client, "")
		return allow
	case banned:
		l.log("banned", client, "")
		return deny
	case covers(l.black, ip):
		l.log("blacklisted", client, "")
		if l.denyBlack {
			return deny
		}
		return slow
	case !l.letIn(r, client, l.concurrent):
		l.log("concurrent", client, "")
		return deny
	case l.path != nil && !l.path.MatchString(r.URI()), l.method != nil && !l.method.MatchString(r.X.Request().Method), l.allowRest:
		return allow
	}
	return slow
}

// delay is how long a client has to wait, or that it is shut out from now on.
func (l *limiter) delay(r *balancer.Request, client string) (d time.Duration, ban bool) {
	ctx := r.X.Context()
	key := l.name + client
	now := l.state.now()
	last, violations, seen := l.memory.Get(ctx, key)
	if since := now.Sub(last); !seen || since >= l.threshold {
		l.memory.Set(ctx, key, now, violations, l.threshold)
		return 0, false
	}
	d = l.longest
	if shifted := l.initial << min(violations, 62); violations < 62 && shifted>>violations == l.initial && shifted < d {
		d = shifted
	}
	violations++
	if l.banAfter > 0 && violations >= l.banAfter {
		l.memory.Set(ctx, key, now, violations-1, l.threshold)
		l.log("ban", client, r.URI())
		if !l.logOnly {
			l.state.ban(client, l.banned)
		}
		return 0, true
	}
	l.memory.Set(ctx, key, now, violations, max(d, l.threshold))
	l.log("throttled", client, r.URI())
	return d, false
}

// log logs an event, if it is one of those asked for.
func (l *limiter) log(event, client, uri string) {
	if l.events[event] {
		l.svc.Log().Info("throttle", "event", event, "addr", client, "uri", uri)
	}
}

// clientKey is what a client is known by: an IPv4 address, or the /64 of IPv6, within which a client has as many as it likes.
func clientKey(a netip.Addr) string {
	if a = a.Unmap(); a.Is4() {
		return a.String()
	}
	return netip.PrefixFrom(a.WithZone(""), 64).Masked().String()
}
