// Command bench measures Wheelhouse on the machine it runs on, each figure beside that of a peer that does the same work in
// the same minute, and prints one table that says where a target is missed.
//
//	go run ./bench [-run REGEX] [-rounds N] [-quick] [-out FILE]
//
// It wants bin/wheelhouse (make build), nginx and wrk; bench/README.md says what each line measures, and how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// options are the command line.
type options struct {
	run     *regexp.Regexp
	rounds  int
	quick   bool
	out     string
	dir     string
	bin     string
	timeout time.Duration
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == fsync2Name {
		exit(fsync2Main(os.Args[2:]))
	}
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	endWithGo()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("the whole run took longer than %v (-timeout)", o.timeout))
	defer cancel()
	exit(measure(ctx, o))
}

// endWithGo has this process asked to end when it was started by "go run" and that is gone: go run does not pass signals on.
func endWithGo() {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", os.Getppid()))
	if err == nil && string(comm) == "go\n" {
		_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0) // a convenience: without it the run goes on to its end
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func parseOptions(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	run := fs.String("run", ".", "measure the lines whose names match this `regex`")
	fs.IntVar(&o.rounds, "rounds", 0, "rounds of each comparison; 0: 5, or 2 with -quick")
	fs.BoolVar(&o.quick, "quick", false, "fewer and shorter rounds, smaller sets: a look, not a measurement")
	fs.StringVar(&o.out, "out", "", "write the results as JSON to `file` too")
	fs.StringVar(&o.dir, "dir", "", "make all files below this `directory`; default: a temporary one on this directory's file system")
	fs.StringVar(&o.bin, "bin", "", "the program to measure; default: bin/wheelhouse of this module")
	fs.DurationVar(&o.timeout, "timeout", time.Hour, "give up after this long")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument: %s", fs.Arg(0))
	}
	var err error
	if o.run, err = regexp.Compile(*run); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	if o.rounds == 0 {
		o.rounds = 5
		if o.quick {
			o.rounds = 2
		}
	}
	if o.rounds < 1 || o.timeout <= 0 {
		return o, errors.New("want at least one round, and a positive timeout")
	}
	return o, nil
}

// line is one step of the run. Some give several rows of the table at once.
type line struct {
	names []string
	run   func(ctx context.Context, l *lab) ([]Result, error)
}

// suite lists all lines in the order in which they run. Those that delete many files come last: see README.md, "Traps".
func suite() []line {
	return append(slices.Concat(gearmanRows(), memcachedRows(), balancerRows()), []line{
		{[]string{"get-10k"}, get10k},
		{[]string{"get-1m"}, get1m},
		{[]string{"get-10k-storaged"}, get10kStoraged},
		{[]string{"put-10k-16"}, func(ctx context.Context, l *lab) ([]Result, error) { return put10k(ctx, l, 16) }},
		{[]string{"put-10k-64"}, func(ctx context.Context, l *lab) ([]Result, error) { return put10k(ctx, l, 64) }},
		{[]string{"catalog-commit"}, catalogCommit},
		{[]string{"catalog-lookup"}, catalogLookup},
		{[]string{"catalog-rows-1m"}, catalogRows1M},
		{[]string{"catalog-rows-5m"}, catalogRows5M},
		{[]string{"jobs-mariadb"}, jobsMariaDB},
		{[]string{"jobs-sqlite"}, jobsSQLite},
		{[]string{"jobs-postgres"}, jobsPostgres},
		{[]string{"rebuild-200k"}, rebuild200k},
		{[]string{"scrub"}, scrub},
		{[]string{"fsck-1m"}, fsck1M},
		{[]string{"detect-p50", "detect-max", "detect-stall"}, detection},
		{[]string{"memory-1m"}, memory1M},
		{[]string{"memory-5gb-put", "memory-5gb-get"}, memory5GB},
	}...)
}

func (n line) matches(re *regexp.Regexp) bool {
	for _, name := range n.names {
		if re.MatchString(name) {
			return true
		}
	}
	return false
}

// measure runs the lines that were asked for and prints the table. A target that is missed is a result; an error is a line
// that could not be measured.
func measure(ctx context.Context, o options) (err error) {
	l, err := newLab(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	report := Report{Machine: machineFacts(l.dir), Program: programFacts(l.bin), Quick: o.quick, Rounds: o.rounds, Begun: time.Now().UTC()}
	fmt.Printf("%s\n%s\n", report.Machine, report.Program)
	found := false
	for _, n := range suite() {
		if !n.matches(o.run) {
			continue
		}
		found = true
		begun := time.Now()
		rows, err := n.run(ctx, l)
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			rows = append(rows, Result{Name: n.names[0], Error: err.Error()})
		}
		if endErr := l.endChildren(); endErr != nil {
			l.logf("%s: %v", n.names[0], endErr)
		}
		report.Results = append(report.Results, rows...)
		l.logf("%s: %.0f s", n.names[0], time.Since(begun).Seconds())
		if ctx.Err() != nil {
			break
		}
	}
	if !found {
		return fmt.Errorf("no line matches %v", o.run)
	}
	report.LoadAfter = loadAverage()
	report.Seconds = time.Since(report.Begun).Seconds()
	report.print(os.Stdout)
	if o.out != "" {
		if err := report.write(o.out); err != nil {
			return err
		}
	}
	return report.failed()
}
