package console

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/backend"
	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/config"
)

// query is a command that shows something: the lines of its answer, without the one that ends it.
type query func(c *Console, b *balancerd.Balancer, cmd config.Command) ([]string, error)

// queries are the commands that show something, those that help lists but do something else included as nil.
func queries() map[string]query {
	empty := func(*Console, *balancerd.Balancer) []string { return nil } // inside Perl there is more to see
	return map[string]query{
		"show": (*Console).show, "nodes": (*Console).nodes, "node": (*Console).nodes, "socks": (*Console).socks, "states": (*Console).states,
		"queues": plain((*Console).queues), "proc": plain((*Console).procLines), "fd": plain(fdLines), "uptime": plain((*Console).uptime),
		"version": plain((*Console).uptime), "backends": plain(backends), "pending": plain(pending), "noverify": plain(noVerify),
		"reproxy_state": plain(reproxyState), "circuits": plain(circuits), "limits": plain(limits), "plugins": plain(plugins), "mime": (*Console).mime, "help": plain((*Console).help),
		"prof": (*Console).profData, "xs": (*Console).xs, "aio": plain(empty), "obj": plain(empty), "varsize": plain(empty),
		"track": plain(empty), "gladiator": plain(empty), "leaks": leaks, "state": stateChanges, "dumpconfig": plain(dump),
	}
}

// others are the commands that help lists beside those.
var others = []string{
	"create", "default", "disable", "enable", "header", "load", "pool", "reload", "remove", "server", "set", "shutdown", "unload",
	"use", "verbose", "quit",
}

// plain is a query that takes no arguments.
func plain(f func(c *Console, b *balancerd.Balancer) []string) query {
	return func(c *Console, b *balancerd.Balancer, cmd config.Command) ([]string, error) {
		if cmd.Args != "" {
			return nil, config.Fault(fmt.Sprintf("The '%s' command takes no arguments", cmd.Verb))
		}
		return f(c, b), nil
	}
}

func badSyntax(verb string) error {
	return config.Fault(fmt.Sprintf("Invalid syntax to '%s' command", verb))
}

// query answers a command that shows something; known is false for one that does something, or does not exist.
func (c *Console) query(b *balancerd.Balancer, cmd config.Command) (lines []string, known bool, err error) {
	if b.Language().Changes(b.State(), cmd) || cmd.Verb == "prof" && !strings.EqualFold(cmd.Args, "data") {
		return nil, false, nil
	}
	if q := queries()[cmd.Verb]; q != nil {
		lines, err = q(c, b, cmd)
		return lines, true, err
	}
	lines, known = inform(b, cmd)
	return lines, known, nil
}

// inform asks the plugins.
func inform(b *balancerd.Balancer, cmd config.Command) (lines []string, known bool) {
	seen := map[string]bool{}
	for _, s := range b.Services() {
		for _, i := range s.Chain().Instances {
			inf, ok := i.(balancer.Informer)
			if !ok {
				continue
			}
			list, ok := inf.Info(cmd.Verb, cmd.Args)
			known = known || ok
			for _, l := range list {
				if !seen[l] && l != "." {
					lines = append(lines, l)
				}
				seen[l] = true
			}
		}
	}
	if known && cmd.Verb == "stats" {
		lines = withTotals(lines)
	}
	return lines, known
}

// withTotals adds the sums over all services to the lines of "stats", unless they are there.
func withTotals(lines []string) []string {
	sum := map[string]int64{}
	for _, l := range lines {
		f := strings.Fields(l)
		if len(f) != 3 || f[0] == "total" {
			return lines
		}
		n, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			return lines
		}
		sum[f[1]] += n
	}
	for _, key := range slices.Sorted(maps.Keys(sum)) {
		lines = append(lines, fmt.Sprintf("%-15s %-25s %12d", "total", key, sum[key]))
	}
	return lines
}

var showForm = regexp.MustCompile(`^(?i:(service|pool))(?: (\w+))?$`)

func (c *Console) show(b *balancerd.Balancer, cmd config.Command) (lines []string, err error) {
	m := showForm.FindStringSubmatch(cmd.Args)
	if m == nil {
		return nil, badSyntax(cmd.Verb)
	}
	name := strings.ToLower(m[2])
	switch what := strings.ToLower(m[1]); {
	case what == "service" && name == "":
		for _, s := range b.Services() {
			state := "DISABLED"
			if s.Config().Enabled {
				state = "ENABLED"
			}
			lines = append(lines, s.Name()+" "+cmp.Or(listening(s), "not_listening")+" "+state)
		}
	case what == "service":
		s := b.Service(name)
		if s == nil {
			return nil, config.Fault("Unknown service")
		}
		return showService(s), nil
	case name == "":
		for _, p := range b.Pools() {
			users := 0
			for _, s := range b.Services() {
				if s.Settings().Pool == p.Name() {
					users++
				}
			}
			lines = append(lines, fmt.Sprintf("%s nodes %d", p.Name(), len(p.Nodes())), fmt.Sprintf("%s services %d", p.Name(), users))
		}
	default:
		i := slices.IndexFunc(b.Pools(), func(p *backend.Pool) bool { return p.Name() == name })
		if i < 0 {
			return nil, config.Fault(fmt.Sprintf("pool '%s' does not exist", name))
		}
		for _, n := range b.Pools()[i].Nodes() {
			lines = append(lines, fmt.Sprintf("%s %d", n.Addr, n.Uses()))
		}
	}
	return lines, nil
}

// listening is a service's address as it was set, or as the kernel chose it for port 0.
func listening(s *balancerd.Service) string {
	set := s.Config().Params["listen"]
	if a := s.Addr(); a != nil && (set == "0" || strings.HasSuffix(set, ":0")) {
		return a.String()
	}
	return set
}

func showService(s *balancerd.Service) []string {
	set := s.Settings()
	lines := []string{"SERVICE " + s.Name(), "     listening: " + cmp.Or(listening(s), "--"), "          role: " + set.Role}
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if set.Role == config.ReverseProxy || set.Role == config.WebServer {
		waiting := 0
		for _, p := range []balancer.Priority{balancer.High, balancer.Normal, balancer.Low} {
			n, _ := s.Queues(p)
			waiting += n
		}
		pend := s.Queue().Pending()
		add("  pend clients: %d", waiting)
		add("  pend backend: %d", len(pend))
		for _, p := range pend {
			state := backend.Connecting
			if p.Verifying {
				state = backend.Verifying
			}
			add("   %s - %s - %ds", p.Addr, state, seconds(p.Age))
		}
	}
	switch set.Role {
	case config.WebServer:
		add("        docroot: %s", set.Docroot)
	case config.ReverseProxy:
		if limit := set.ReproxyCacheMaxSize; limit > 0 {
			st := s.Proxy().ReproxyCache()
			add("    cache size: %d/%d (%.2f%%)", st.Size, limit, 100*float64(st.Size)/float64(limit))
			add("    cache hits: %d", st.Hits)
			add("cache hit rate: %.2f%%", 100*float64(st.Hits)/float64(max(1, s.Requests.Load())))
		}
		add(" connect-ahead: %d/%d", s.Queue().Idle(), set.ConnectAhead)
		if p := s.Pool(); p != nil {
			add("          pool: %s", p.Name())
			add("         nodes:")
			for _, n := range p.Nodes() {
				add("                %-21s %7d", n.Addr, n.Uses())
			}
		}
	}
	return lines
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// nodes is NODES, or NODE ip[:port]. A node of several pools is shown once, its figures added.
func (c *Console) nodes(b *balancerd.Balancer, cmd config.Command) (lines []string, err error) {
	only := ""
	if cmd.Args != "" {
		if only, err = config.ParseNode(cmd.Args); err != nil || cmd.Args == "" || !strings.ContainsAny(cmd.Args, ".:") {
			return nil, badSyntax(cmd.Verb)
		}
	}
	figures := map[string]map[string]int64{}
	for _, p := range b.Pools() {
		for _, n := range p.Nodes() {
			if only != "" && n.Addr != only {
				continue
			}
			if figures[n.Addr] == nil {
				figures[n.Addr] = map[string]int64{}
			}
			nodeFigures(n, figures[n.Addr])
		}
	}
	for _, addr := range slices.Sorted(maps.Keys(figures)) {
		for _, key := range slices.Sorted(maps.Keys(figures[addr])) {
			if v := figures[addr][key]; v != 0 {
				lines = append(lines, fmt.Sprintf("%s %s %d", addr, key, v))
			}
		}
	}
	return lines, nil
}

func nodeFigures(n *backend.Node, to map[string]int64) {
	st := n.Status(time.Now())
	latest := func(key string, t time.Time) {
		if !t.IsZero() {
			to[key] = max(to[key], t.Unix())
		}
	}
	to["attempts"] += n.Attempts.Load()
	to["connects"] += n.Connects.Load()
	to["requests"] += st.Requests
	to["verifies"] += n.Verifies.Load()
	latest("lastattempt", st.LastAttempt)
	latest("lastconnect", st.LastConnect)
	latest("lastresponse", st.LastReply)
	for code, count := range st.Codes {
		to["responsecodes "+strconv.Itoa(code)] += int64(count)
	}
}

func (c *Console) queues(b *balancerd.Balancer) (lines []string) {
	for _, s := range b.Services() {
		if s.Settings().Role != config.ReverseProxy {
			continue
		}
		for _, q := range []struct {
			name string
			p    balancer.Priority
		}{{"normal", balancer.Normal}, {"highpri", balancer.High}, {"lowpri", balancer.Low}} {
			n, age := s.Queues(q.p)
			lines = append(lines, fmt.Sprintf("%s-%s.age %d", s.Name(), q.name, seconds(age)), fmt.Sprintf("%s-%s.count %d", s.Name(), q.name, n))
		}
	}
	return lines
}

func fdLines(_ *Console, _ *balancerd.Balancer) []string {
	var lim syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) // fails only on a bad pointer
	open, _ := os.ReadDir("/proc/self/fd")         // 0 where there is no /proc
	return []string{fmt.Sprintf("max %d", lim.Max), fmt.Sprintf("cur %d", max(0, len(open)-1))}
}

// perlbalVersion is the version whose formats these are; scripts look at it.
const perlbalVersion = "1.80"

func (c *Console) uptime(b *balancerd.Balancer) []string {
	v := perlbalVersion
	if c.o.Version != "" {
		v += " (wheelhouse " + c.o.Version + ")"
	}
	return []string{
		fmt.Sprintf("starttime %d", b.Started().Unix()), fmt.Sprintf("uptime %d", seconds(time.Since(b.Started()))), "version " + v,
	}
}

func backends(_ *Console, b *balancerd.Balancer) (lines []string) {
	count := map[string]int{}
	for _, s := range b.Services() {
		for _, c := range s.Queue().Conns() {
			count[c.Addr]++
		}
		for _, p := range s.Queue().Pending() {
			count[p.Addr]++
		}
	}
	for _, addr := range slices.Sorted(maps.Keys(count)) {
		lines = append(lines, fmt.Sprintf("%s %d", addr, count[addr]))
	}
	return lines
}

func pending(_ *Console, b *balancerd.Balancer) (lines []string) {
	for _, s := range b.Services() {
		for _, p := range s.Queue().Pending() {
			lines = append(lines, fmt.Sprintf("%s %s %d", s.Name(), p.Addr, seconds(p.Age)))
		}
	}
	return lines
}

func noVerify(_ *Console, b *balancerd.Balancer) (lines []string) {
	left := map[string]time.Duration{}
	for _, p := range b.Pools() {
		for addr, d := range p.NoVerify(time.Now()) {
			left[addr] = max(left[addr], d)
		}
	}
	for _, addr := range slices.Sorted(maps.Keys(left)) {
		lines = append(lines, fmt.Sprintf("%s %d", addr, seconds(left[addr])))
	}
	return lines
}

// reproxyState is what there is of connections and requests to the servers that X-REPROXY-URL has named, a kind at a time.
func reproxyState(_ *Console, b *balancerd.Balancer) (lines []string) {
	list := b.Fetcher().State()
	for _, kind := range []struct {
		name string
		of   func(*proxyState) int
	}{
		{"connecting", func(s *proxyState) int { return s.Connecting }},
		{"bored", func(s *proxyState) int { return s.Bored }},
		{"clients_queued", func(s *proxyState) int { return s.Waiting }},
		{"backends", func(s *proxyState) int { return s.Busy }},
	} {
		for i := range list {
			if n := kind.of(&list[i]); n > 0 {
				lines = append(lines, fmt.Sprintf("%s %s %d", kind.name, list[i].Addr, n))
			}
		}
	}
	srv := &b.State().Server
	for _, addr := range slices.Sorted(maps.Keys(srv.MaxReproxyTo)) {
		lines = append(lines, fmt.Sprintf("SERVER max_reproxy_connections(%s) = %d", addr, srv.MaxReproxyTo[addr]))
	}
	return append(lines, fmt.Sprintf("SERVER max_reproxy_connections = %d", srv.MaxReproxy))
}

// circuits are the pools' circuit breakers and limits: state, how often it opened, and what was refused by which limit.
func circuits(_ *Console, b *balancerd.Balancer) (lines []string) {
	now := time.Now()
	for _, p := range b.Pools() {
		st := p.Circuit(now)
		if st.On {
			lines = append(lines, fmt.Sprintf("%s circuit %s", p.Name(), st.State), fmt.Sprintf("%s opened %d", p.Name(), st.Trips))
			if st.Failure != "" {
				lines = append(lines, fmt.Sprintf("%s failure %s", p.Name(), st.Failure))
			}
		}
		for _, l := range poolLimits(p, st) {
			if l.Limit > 0 {
				lines = append(lines, fmt.Sprintf("%s %s %d/%d", p.Name(), l.Name, l.Used, l.Limit))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(st.Refused)) {
			if n := st.Refused[name]; n > 0 {
				lines = append(lines, fmt.Sprintf("%s refused %s %d", p.Name(), name, n))
			}
		}
	}
	return lines
}

// limits are the services' rate limits, and who was refused most often within the last minutes.
func limits(_ *Console, b *balancerd.Balancer) (lines []string) {
	for _, s := range b.Services() {
		l := limitState(s, time.Now())
		if l == nil {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s rate_limit %s", s.Name(), l.Limit), fmt.Sprintf("%s clients %d", s.Name(), l.Clients),
			fmt.Sprintf("%s refused %d", s.Name(), l.Refused))
		for _, c := range l.Top {
			lines = append(lines, fmt.Sprintf("%s client %s %d", s.Name(), c.Client, c.Count))
		}
	}
	return lines
}

func plugins(_ *Console, b *balancerd.Balancer) (lines []string) {
	for _, s := range b.Services() {
		if p := s.Config().Plugins; len(p) > 0 {
			lines = append(lines, s.Name()+" "+strings.Join(p, " "))
		}
	}
	return lines
}

// mime is MIME or MIME LIST; the others change something.
func (c *Console) mime(b *balancerd.Balancer, _ config.Command) (lines []string, err error) {
	table := balancer.MIMETypes(b.State().MIME)
	for _, ext := range slices.Sorted(maps.Keys(table)) {
		lines = append(lines, ext+" "+table[ext])
	}
	return lines, nil
}

func (c *Console) help(b *balancerd.Balancer) []string {
	lines := slices.Concat(slices.Collect(maps.Keys(queries())), others)
	for _, name := range b.State().Loaded {
		lines = append(lines, b.Language().Plugin(name).Verbs()...)
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

var xsForm = regexp.MustCompile(`^\w+ \w+$`)

// xs has nothing to show: there are no modules in C.
func (c *Console) xs(_ *balancerd.Balancer, cmd config.Command) ([]string, error) {
	switch {
	case xsForm.MatchString(cmd.Args):
		return nil, config.Fault("Known XS modules: .")
	case cmd.Args != "":
		return nil, badSyntax(cmd.Verb)
	}
	return []string{
		"XS module status:", "", "   No modules available.", "", "To enable a module: xs enable <module>", "To disable a module: xs disable <module>",
	}, nil
}

func leaks(*Console, *balancerd.Balancer, config.Command) ([]string, error) {
	return nil, config.Fault("command disabled without $ENV{PERLBAL_DEBUG} set")
}

// stateChanges is STATE CHANGES, which Perlbal fills only where it was told to by its environment.
func stateChanges(_ *Console, _ *balancerd.Balancer, cmd config.Command) ([]string, error) {
	if !strings.EqualFold(cmd.Args, "changes") {
		return nil, badSyntax(cmd.Verb)
	}
	return nil, nil
}

func dump(_ *Console, b *balancerd.Balancer) []string { return b.Language().Dump(b.Current()) }
