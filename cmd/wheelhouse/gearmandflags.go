package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"wheelhouse/gearman/gearmand"
)

// gearmandConfig is the command line of gearmand, or its file.
type gearmandConfig struct {
	opts           gearmand.Options
	port           string
	listen         []string
	backlog, files int
	logFile        string
	daemonFiles
	level                     string
	syslog, daemon, version   bool
	help                      bool
	keepalive                 keepalive
	tls                       bool
	caFile, certFile, keyFile string
	clientAuth                string
	http                      bool
	httpPort, httpListen      string
	allowShutdown             bool
	configFile                string
	unused                    []string // flags that were given and mean nothing here
	drain                     time.Duration
	queue                     gearmandQueue
}

// keepalive is how dead peers are found; what is negative is the system's.
type keepalive struct{ idle, interval, count int }

// daemonFlag is one flag: gearmand's or memcached's own, by its own names, or one of ours.
type daemonFlag struct {
	long  string
	short byte   // 0: none
	arg   string // "" for a switch
	help  string // "" for a flag of theirs that means nothing here
	set   func(string) error
}

// flags lists all, in the order in which -h shows them.
func (g *gearmandConfig) flags() []daemonFlag {
	o := &g.opts
	return append([]daemonFlag{
		{"listen", 'L', "ADDR", "address: HOST, HOST:PORT or unix:FILE; may be repeated (default 127.0.0.1)", appendTo(&g.listen)},
		{"port", 'p', "N", "port (default 4730, or GEARMAND_PORT); 0: any free one", text(&g.port)},
		{"backlog", 'b', "N", "connections that wait to be accepted", number(&g.backlog)},
		{"file-descriptors", 'f', "N", "file descriptors of the process", number(&g.files)},
		{"job-retries", 'j', "N", "how often a job may be lost by a worker before it is given up (default 0: no limit)", number(&o.Retries)},
		{"job-handle-prefix", 0, "TEXT", "prefix of job handles (default H:HOSTNAME)", text(&o.HandlePrefix)},
		{"round-robin", 'R', "", "a worker's functions take turns", yes(&o.RoundRobin)},
		{"worker-wakeup", 'w', "N", "workers to wake for a job (default 0: all that sleep)", number(&o.Wakeup)},
		{"exceptions", 0, "", "send exceptions to all clients", yes(&o.Exceptions)},
		{"timeout-fails", 0, "", "a job that outlives CAN_DO_TIMEOUT fails; default: another worker gets it", yes(&o.TimeoutFails)},
		{"allow-shutdown", 0, "", "obey the command shutdown from this machine", yes(&g.allowShutdown)},
		{"max-connections", 0, "N", "connections at once (default 20000)", number(&o.MaxConns)},
		{"max-packet", 0, "BYTES", "size of a packet (default 64 MiB)", number(&o.MaxPacket)},
		{"max-output", 0, "BYTES", "answers that wait for a slow reader before it is closed (default 16 MiB)", number(&o.MaxOutput)},
		{"max-memory", 0, "BYTES", "jobs and buffers of all connections (default 2 GiB)", number64(&o.MaxMemory)},
		{"max-functions", 0, "N", "functions known at once (default 65536)", number(&o.MaxFunctions)},
		{"max-queue", 0, "N", "jobs of a function for which maxqueue was not used (default 0: no limit)", number(&o.MaxQueue)},
		{"idle-timeout", 0, "TIME", "close connections that are silent and neither work nor wait, as 10m (default 0: never)", span(&o.IdleTimeout)},
		{"write-timeout", 0, "TIME", "close connections that take nothing for so long (default 1m)", span(&o.WriteTimeout)},
		{"graceful-timeout", 0, "TIME", "how long SIGUSR1 waits for running jobs (default 0: for ever)", span(&g.drain)},
		{"keepalive", 0, "", "find dead peers: always on here", func(string) error { return nil }},
		{"keepalive-idle", 0, "SECONDS", "silence before the first probe (default 60)", number(&g.keepalive.idle)},
		{"keepalive-interval", 0, "SECONDS", "between probes (default 15)", number(&g.keepalive.interval)},
		{"keepalive-count", 0, "N", "probes without answer (default 9)", number(&g.keepalive.count)},
		{"ssl", 0, "", "speak TLS", yes(&g.tls)},
		{"ssl-certificate", 0, "FILE", "certificate, PEM", text(&g.certFile)},
		{"ssl-key", 0, "FILE", "its key, PEM", text(&g.keyFile)},
		{"ssl-ca-file", 0, "FILE", "who signs clients' certificates, PEM", text(&g.caFile)},
		{"ssl-client-auth", 0, "MODE", "clients' certificates: off, optional (checked when given) or demand (default off)", text(&g.clientAuth)},
		{"protocol", 'r', "http", "serve HTTP too", g.setProtocol},
		{"http-port", 0, "N", "HTTP's port (default 8080), at the first address of --listen", text(&g.httpPort)},
		{"http-listen", 0, "ADDR", "HTTP's address, HOST:PORT", text(&g.httpListen)},
		{"config-file", 0, "FILE", "file of lines name=value (default /etc/gearmand.conf, if it is there)", text(&g.configFile)},
		{"log-file", 'l', "FILE", "log to a file, stderr or none (default stderr)", text(&g.logFile)},
		{"syslog", 0, "", "log to syslog", yes(&g.syslog)},
		{"verbose", 0, "LEVEL", "FATAL, ALERT, CRITICAL, ERROR, WARNING, NOTICE, INFO or DEBUG (default NOTICE)", g.setLevel},
		{"pid-file", 'P', "FILE", "write the process id to a file", text(&g.pidFile)},
		{"user", 'u', "NAME", "change to this user once the addresses are open", text(&g.user)},
		{"daemon", 'd', "", "go to the background once the server is ready", yes(&g.daemon)},
		{"version", 'V', "", "print the version", yes(&g.version)},
		{"help", 'h', "", "print this", yes(&g.help)},
		{"threads", 't', "N", "", g.nothing("threads")},
		{"hashtable-buckets", 0, "N", "", g.nothing("hashtable-buckets")},
		{"coredump", 0, "", "", g.nothing("coredump")},
	}, g.queue.flags(g.nothing)...)
}

func text(p *string) func(string) error { return func(v string) error { *p = v; return nil } }
func yes(p *bool) func(string) error    { return func(string) error { *p = true; return nil } }

func appendTo(p *[]string) func(string) error {
	return func(v string) error { *p = append(*p, v); return nil }
}

func number(p *int) func(string) error {
	return func(v string) (err error) {
		if *p, err = strconv.Atoi(v); err != nil {
			return fmt.Errorf("%q is not a number", v)
		}
		return nil
	}
}

func number64(p *int64) func(string) error {
	return func(v string) (err error) {
		if *p, err = strconv.ParseInt(v, 10, 64); err != nil {
			return fmt.Errorf("%q is not a number", v)
		}
		return nil
	}
}

func span(p *time.Duration) func(string) error {
	return func(v string) (err error) { *p, err = time.ParseDuration(v); return err }
}

func (g *gearmandConfig) nothing(name string) func(string) error {
	return func(string) error { g.unused = append(g.unused, name); return nil }
}

func (g *gearmandConfig) setProtocol(v string) error {
	switch strings.ToLower(v) {
	case "http":
		g.http = true
	case "gear", "gearman":
	default:
		return fmt.Errorf("there is no protocol %q; http is one", v)
	}
	return nil
}

func (g *gearmandConfig) setLevel(v string) error {
	v = strings.ToUpper(v)
	if _, ok := gearmandLevels[v]; !ok {
		return fmt.Errorf("%q is no level", v)
	}
	g.level = v
	return nil
}

// parseGearmand reads the environment, the file and the arguments; the last word counts.
func parseGearmand(args []string) (*gearmandConfig, error) {
	g := &gearmandConfig{port: cmp.Or(os.Getenv("GEARMAND_PORT"), "4730"), level: "NOTICE", httpPort: "8080", clientAuth: "off"}
	g.keepalive = keepalive{-1, -1, -1}
	probe := *g // to find the file, which comes first
	if err := probe.parse(args); err != nil {
		return nil, err
	}
	if err := g.readFile(probe.configFile); err != nil {
		return nil, err
	}
	g.listen = nilIf(g.listen, len(probe.listen) > 0) // addresses are replaced, not added to
	return g, g.parse(args)
}

func nilIf(list []string, b bool) []string {
	if b {
		return nil
	}
	return list
}

// parse reads arguments as getopt_long does: --name=value, --name value, -p4730, -p 4730, -dR, and @FILE for a file.
func (g *gearmandConfig) parse(args []string) error {
	flags := g.flags()
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case strings.HasPrefix(arg, "@") && len(arg) > 1:
			g.configFile = arg[1:]
		case strings.HasPrefix(arg, "--") && len(arg) > 2:
			name, value, given := strings.Cut(arg[2:], "=")
			f := findFlag(flags, func(f *daemonFlag) bool { return f.long == name })
			if f == nil {
				return usagef("there is no flag --%s", name)
			}
			var err error
			if args, err = f.apply("--"+name, value, given, args); err != nil {
				return err
			}
		case len(arg) > 1 && arg[0] == '-' && arg[1] != '-':
			for rest := arg[1:]; rest != ""; {
				f := findFlag(flags, func(f *daemonFlag) bool { return f.short == rest[0] })
				if f == nil {
					return usagef("there is no flag -%c", rest[0])
				}
				name := "-" + rest[:1]
				rest = rest[1:]
				value, given := "", false
				if f.arg != "" && rest != "" {
					value, given, rest = strings.TrimPrefix(rest, "="), true, ""
				}
				var err error
				if args, err = f.apply(name, value, given, args); err != nil {
					return err
				}
			}
		default:
			return usagef("unexpected argument: %s", arg)
		}
	}
	return nil
}

func findFlag(list []daemonFlag, is func(*daemonFlag) bool) *daemonFlag {
	for i := range list {
		if is(&list[i]) {
			return &list[i]
		}
	}
	return nil
}

// apply sets a flag and returns the arguments that are left.
func (f *daemonFlag) apply(name, value string, given bool, args []string) ([]string, error) {
	switch {
	case f.arg == "" && given:
		return nil, usagef("%s takes no value", name)
	case f.arg != "" && !given:
		if len(args) == 0 {
			return nil, usagef("%s wants a value", name)
		}
		value, args = args[0], args[1:]
	}
	if err := f.set(value); err != nil {
		return nil, usagef("%s: %v", name, err)
	}
	return args, nil
}

const gearmandConf = "/etc/gearmand.conf"

// readFile reads a file of lines name=value, as gearmand's; a switch is a name alone, or is set to 1 or true.
func (g *gearmandConfig) readFile(name string) error {
	file, err := os.Open(cmp.Or(name, gearmandConf))
	if err != nil {
		if name == "" && os.IsNotExist(err) {
			return nil
		}
		return err
	}
	defer file.Close()
	flags := g.flags()
	n := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		n++
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, value, given := strings.Cut(line, "=")
		key, value = strings.TrimPrefix(strings.TrimSpace(key), "--"), strings.TrimSpace(value)
		f := findFlag(flags, func(f *daemonFlag) bool { return f.long == key })
		if f == nil {
			return fmt.Errorf("%s:%d: there is no flag %s", file.Name(), n, key)
		}
		if f.arg == "" {
			switch strings.ToLower(value) {
			case "", "1", "true", "yes", "on":
				given = false
			case "0", "false", "no", "off":
				continue
			}
		}
		if _, err := f.apply(key, value, given, nil); err != nil {
			return fmt.Errorf("%s:%d: %w", file.Name(), n, err)
		}
	}
	return nil
}

func (g *gearmandConfig) printHelp(w io.Writer) {
	fmt.Fprint(w, "usage: wheelhouse gearmand [FLAGS]\n\n")
	var without []string
	for _, f := range g.flags() {
		name := "--" + f.long
		if f.help == "" {
			without = append(without, name)
			continue
		}
		if f.arg != "" {
			name += " " + f.arg
		}
		short := "    "
		if f.short != 0 {
			short = "-" + string(f.short) + ", "
		}
		fmt.Fprintf(w, "  %s%-27s %s\n", short, name, f.help)
	}
	fmt.Fprintf(w, "\nAccepted for the sake of existing unit files, without a meaning here: %s.\n", strings.Join(without, ", "))
}
