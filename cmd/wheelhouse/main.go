// Command wheelhouse is the whole of Wheelhouse in one binary: the servers, the clients, and the operator's tools.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// command is one subcommand.
type command struct {
	name string
	args string // what follows the name, in the list of commands
	help string // one line
	run  func(ctx context.Context, env *environment, args []string) error
}

// environment is what a command sees of the world.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

// usageError is a command line that makes no sense: exit status 2.
type usageError struct{ reason string }

func (e *usageError) Error() string { return e.reason }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// exitError ends a command with the words and the exit status of the program that it stands in for.
type exitError struct {
	status int
	words  string
}

func (e *exitError) Error() string { return e.words }

// errHelp is the wish for a command's help, where its subcommands are what there is to be said of it.
var errHelp = errors.New("help is wanted")

func isHelp(arg string) bool {
	return arg == "-h" || arg == "-help" || arg == "--help" || arg == "help"
}

// errUnhealthy is the end of a command that has shown what is wrong: exit status 1.
var errUnhealthy = errors.New("not healthy")

func main() {
	os.Exit(run(os.Args[1:], &environment{os.Stdin, os.Stdout, os.Stderr}))
}

// commands are listed in the order in which help shows them.
func commands() []command {
	return []command{
		{"up", "[--data DIR] [--listen ADDR] [--auth keys|none]", "run everything in one process", runUp},
		{"dispatcher", "--config FILE", "run the HTTP API alone", runDispatcher},
		{"storaged", "--config FILE", "run storages alone", runStoraged},
		{"worker", "--config FILE", "run background work alone", runWorker},
		{"balancer", "[--config FILE] | check FILE | tunables", "run a load balancer, web server and reverse proxy in Perlbal's language", runBalancer},
		{"gearmand", "[-p PORT] [-L ADDR]... [-h]", "run a Gearman job server", runGearmand},
		{"memcached", "[-p PORT] [-l ADDR]... [-m MB] [-h]", "run a memcached cache server", runMemcached},
		{"restart", "[--data DIR]", "hand a running server over to a new process of this program", runRestart},
		{"put", "BUCKET[/PREFIX] FILE...", "store files; - is standard input", runPut},
		{"get", "BUCKET/NAME [FILE]", "fetch an object; to standard output when no FILE is named", runGet},
		{"ls", "[BUCKET[/PREFIX]]", "list buckets or objects", runLs},
		{"rm", "BUCKET/NAME...", "delete objects", runRm},
		{"undelete", "[--list] BUCKET[/NAME]", "bring back what was deleted or overwritten a short while ago", runUndelete},
		{"mv", "BUCKET/NAME BUCKET/NAME", "rename an object", runMv},
		{"stat", "BUCKET/NAME", "describe an object", runStat},
		{"bucket", "create|list|set|rename|rm", "manage buckets", runBucket},
		{"object", "stat|sign|repair", "an object's entities; signed URLs", runObject},
		{"storage", "add|list|set-mode|rebuild|drain|accept|promote|rm", "manage storages", runStorage},
		{"cluster", "add|list|set-mode|drain|rebalance|rm", "manage clusters", runCluster},
		{"operation", "list|show|wait|problems|pause|resume|cancel|limit", "look after long work: rebuilds, drains, checks", runOperation},
		{"fsck", "[--fix] [--bucket B | --cluster ID | --storage ID]", "compare the catalog with the storages", runFsck},
		{"scrub", "[--storage ID]", "read and verify all bytes of the storages", runScrub},
		{"class", "set|list", "manage classes", runClass},
		{"account", "add|list|rm|key-add|key-list|key-rm", "manage accounts and access keys", runAccount},
		{"catalog", "backup|backups|restore|readopt|rebuild", "back the catalog up; bring it back when it is lost", runCatalog},
		{"status", "[--watch] [--json]", "show the whole installation; exit status 1 when it is not healthy", runStatus},
		{"doctor", "[disk DIR | disk-witness] [--config FILE]", "check configuration, clocks, disks and catalog; whether disks keep promises", runDoctor},
		{"jobs", "stats|list|show|retry|cancel|delete|insert|…", "look after a job queue (see: wheelhouse jobs help)", runJobs},
		{"gearman", "-f FUNC [DATA...] | -w -f FUNC [COMMAND...] | --status | worker images", "call and serve functions, ask job servers", runGearman},
		{"bench", "[--n N] [--c N] [--size BYTES]", "measure a running store with uploads and downloads", runBench},
		{"config", "describe|check", "list what can be configured; check a file", runConfig},
		{"version", "", "print the version", runVersion},
	}
}

func run(args []string, env *environment) int {
	if len(args) == 0 || isHelp(args[0]) {
		printHelp(env.stdout)
		if len(args) == 0 {
			return 2
		}
		return 0
	}
	for _, c := range commands() {
		if c.name == args[0] {
			// Servers handle their signals themselves; for the others an interrupt ends what they are doing.
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			if isServer(c.name) {
				stop()
				ctx = context.Background()
			}
			defer stop()
			return report(env, c, c.run(ctx, env, args[1:]))
		}
	}
	fmt.Fprintf(env.stderr, "wheelhouse: no such command: %s (see: wheelhouse help)\n", args[0])
	return 2
}

func isServer(name string) bool {
	return name == "up" || name == "dispatcher" || name == "storaged" || name == "worker" || name == "gearmand" || name == "memcached" ||
		name == "balancer"
}

// report turns a command's error into an exit status: 0 done, 1 failed, 2 wrong usage.
func report(env *environment, c command, err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		fmt.Fprintln(env.stderr, e.words)
		return e.status
	}
	switch bad, isUsage := errors.AsType[*usageError](err); {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errHelp):
		fmt.Fprintf(env.stdout, "usage: wheelhouse %s %s\n\n%s. Each of them has a help of its own: wheelhouse %[1]s … -h\n", c.name, c.args, c.help)
		return 0
	case errors.Is(err, errUnhealthy): // it has said why
		return 1
	case isUsage:
		if bad.reason != "" {
			fmt.Fprintf(env.stderr, "wheelhouse %s: %s\n", c.name, bad.reason)
		}
		fmt.Fprintf(env.stderr, "usage: wheelhouse %s %s\n", c.name, c.args)
		return 2
	case errors.Is(err, syscall.EPIPE): // whoever read our output has had enough
		return 1
	}
	for i, line := range strings.Split(err.Error(), "\n") {
		if i == 0 {
			line = "wheelhouse " + c.name + ": " + line
		}
		fmt.Fprintln(env.stderr, visible(line))
	}
	return 1
}

func printHelp(w io.Writer) {
	fmt.Fprint(w, "Wheelhouse keeps other people's files.\n\nusage: wheelhouse COMMAND [ARGUMENTS]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-11s %-46s %s\n", c.name, c.args, c.help)
	}
	fmt.Fprint(w, `
Clients find the server by --server or WHEELHOUSE_SERVER (default http://127.0.0.1:8080) and authenticate by --key,
WHEELHOUSE_KEY (ID:SECRET), or the root key in DIR/root.key (--data DIR, default ./data).
`)
}
