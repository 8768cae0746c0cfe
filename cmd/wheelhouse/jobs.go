package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"wheelhouse/jobs"
	"wheelhouse/jobs/sqlqueue"
	"wheelhouse/store/control"
)

const jobsHelp = `usage: wheelhouse jobs WHAT [ARGUMENTS]

Looks after a job queue: that of the running store (--server URL), or any other one (--database URL), which may be
sqlite:PATH, mysql://USER:PASSWORD@HOST/DB or postgres://USER:PASSWORD@HOST/DB; also by WHEELHOUSE_JOBS.

See what is there
  stats                           how many jobs there are, by function, and what is set for it
  list [FILTER]                   jobs and records of jobs, the oldest first; 100, or --limit N; go on with --after ID
  show ID                         all about one job, with its errors and its whole argument

Change it                         (these want IDs or a FILTER)
  retry  [ID...] [FILTER]         dead, cancelled and finished jobs run once more; delayed ones run now
  cancel [ID...] [FILTER]         out of the queue, running ones too (they stop within five seconds); a record is kept
  delete [ID...] [FILTER]         gone without a record; running ones are not touched
  insert FUNC [ARG|-]             one job; - reads the argument from standard input
    --unique KEY --key KEY --coalesce VALUE --priority N --run-after 90s|2026-11-21T12:00:00Z

Slow it down                      (holds for all processes, from now on; what runs goes on)
  pause FUNC...                   none is begun any more
  resume FUNC...
  limit FUNC                      what is not named stays as it is; 0 or none takes a limit away
    --running N --rate 100/1m                    at a time; begun in a time
    --running-per-key N --rate-per-key 10/1s     the same for each Key
    --keep-done 1h --keep-dead 240h              how long records are kept

Again and again
  cron list
  cron set NAME --spec '*/5 * * * *' --func FUNC [--zone Europe/Berlin] [--arg TEXT] [--key KEY] [--priority N]
  cron rm NAME

Do the work                       (with --database; see: wheelhouse jobs work -h)
  work --func FUNC -- COMMAND [ARGUMENTS]

FILTER: --func FUNC --state ready|running|delayed|done|dead|cancelled --key KEY --unique KEY --coalesce VALUE
        --limit N --after ID; all that are given must match.
--json gives machine-readable output of stats, list, show and cron list. The key to ask the server with is --access-key
or WHEELHOUSE_KEY, as --key is that of jobs.

When dead jobs pile up:           wheelhouse jobs list --state dead      (why? the last column says)
                                  wheelhouse jobs retry --state dead --func FUNC     (when it has been mended)
When a job harms the others:      wheelhouse jobs pause FUNC
`

// runJobs looks after a queue of jobs.
func runJobs(ctx context.Context, env *environment, args []string) error {
	if len(args) > 0 && isHelp(args[0]) {
		fmt.Fprint(env.stdout, jobsHelp)
		return nil
	}
	return subcommand(args, map[string]func([]string) error{
		"stats":  func(args []string) error { return jobsStats(ctx, env, args) },
		"list":   func(args []string) error { return jobsList(ctx, env, args) },
		"show":   func(args []string) error { return jobsShow(ctx, env, args) },
		"retry":  func(args []string) error { return jobsChange(ctx, env, "retry", args) },
		"cancel": func(args []string) error { return jobsChange(ctx, env, "cancel", args) },
		"delete": func(args []string) error { return jobsChange(ctx, env, "delete", args) },
		"insert": func(args []string) error { return jobsInsert(ctx, env, args) },
		"pause":  func(args []string) error { return jobsPause(ctx, env, true, args) },
		"resume": func(args []string) error { return jobsPause(ctx, env, false, args) },
		"limit":  func(args []string) error { return jobsLimit(ctx, env, args) },
		"cron":   func(args []string) error { return jobsCron(ctx, env, args) },
		"work":   func(args []string) error { return jobsWork(ctx, env, args) },
	})
}

// jobsFlags are the flags of all commands that look after a queue.
type jobsFlags struct {
	*clientFlags
	database, prefix string
}

func newJobsFlags(name string, env *environment) *jobsFlags {
	f := newDatabaseFlags(name, env)
	f.register("access-key") // --key is that of jobs
	return f
}

// newDatabaseFlags are the flags of commands that need a database.
func newDatabaseFlags(name string, env *environment) *jobsFlags {
	f := &jobsFlags{clientFlags: &clientFlags{FlagSet: newFlags("jobs "+name, env.stderr)}}
	f.StringVar(&f.database, "database", os.Getenv("WHEELHOUSE_JOBS"), "`URL` of the database that holds the queue (default: WHEELHOUSE_JOBS)")
	f.StringVar(&f.prefix, "table-prefix", "", "`prefix` of the names of its tables, as TheSchwartz's option")
	return f
}

// open parses the flags and reaches the queue. The caller must call close.
func (f *jobsFlags) open(ctx context.Context, args []string, least, most int) (j control.Jobs, rest []string, closeQueue func(), err error) {
	c, rest, err := f.parse(args, least, most)
	if err != nil {
		return nil, nil, nil, err
	}
	if f.database == "" {
		return remoteJobs{c}, rest, func() {}, nil
	}
	q, err := f.openDatabase(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	return localJobs{q}, rest, func() { _ = q.Close() }, nil // what was to be done has been answered
}

func (f *jobsFlags) openDatabase(ctx context.Context) (*sqlqueue.Queue, error) {
	return sqlqueue.OpenURL(ctx, f.database, sqlqueue.Options{Prefix: f.prefix})
}

// withFilter adds the flags of a filter.
func (f *jobsFlags) withFilter() *control.JobFilter {
	var k control.JobFilter
	f.StringVar(&k.Func, "func", "", "jobs of this `function`")
	f.StringVar(&k.State, "state", "", "jobs in this `state`: ready, running, delayed, done, dead or cancelled")
	f.StringVar(&k.Key, "key", "", "jobs with this `key`, by which limits per key count")
	f.StringVar(&k.Unique, "unique", "", "jobs with this unique `key`")
	f.StringVar(&k.Coalesce, "coalesce", "", "jobs with this coalescing `value`")
	f.Int64Var(&k.After, "after", 0, "jobs with an `id` above this one")
	f.IntVar(&k.Limit, "limit", 0, "so `many` at most")
	return &k
}

func jobsStats(ctx context.Context, env *environment, args []string) error {
	f := newJobsFlags("stats", env)
	f.withJSON()
	j, _, closeQueue, err := f.open(ctx, args, 0, 0)
	if err != nil {
		return err
	}
	defer closeQueue()
	list, err := j.Functions(ctx)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(env.stdout, list)
	}
	return table(env.stdout, "FUNCTION\tREADY\tRUNNING\tDELAYED\tDEAD\tDONE\tWAITS\tSET", func(row func(...any)) {
		for _, s := range list {
			row(s.Func, s.Ready, s.Running, s.Delayed, s.Dead, s.Done, since(s.OldestDue), cmp.Or(describeControl(s.Control), "-"))
		}
	})
}

// since is how long ago something was.
func since(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return time.Since(t).Round(time.Second).String()
}

func describeControl(c control.JobControl) string {
	var parts []string
	if c.Paused != nil && *c.Paused {
		parts = append(parts, "paused")
	}
	add := func(name string, value any, set bool) {
		if set {
			parts = append(parts, fmt.Sprintf("%s=%v", name, value))
		}
	}
	if c.MaxRunning != nil {
		add("running", *c.MaxRunning, true)
	}
	if c.MaxRunningPerKey != nil {
		add("running-per-key", *c.MaxRunningPerKey, true)
	}
	for _, s := range []struct {
		name string
		text *string
	}{{"rate", c.Rate}, {"rate-per-key", c.RatePerKey}, {"keep-done", c.KeepDone}, {"keep-dead", c.KeepDead}} {
		if s.text != nil {
			add(s.name, *s.text, true)
		}
	}
	return strings.Join(parts, " ")
}

func jobsList(ctx context.Context, env *environment, args []string) error {
	f := newJobsFlags("list", env)
	f.withJSON()
	filter := f.withFilter()
	j, _, closeQueue, err := f.open(ctx, args, 0, 0)
	if err != nil {
		return err
	}
	defer closeQueue()
	list, err := j.List(ctx, *filter)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(env.stdout, list)
	}
	return table(env.stdout, "ID\tFUNCTION\tSTATE\tPRIO\tFAILURES\tWHEN\tARGUMENT\tNOTE", func(row func(...any)) {
		for _, k := range list {
			row(k.ID, k.Func, k.State, k.Priority, k.Failures, jobWhen(k), brief(k.Arg, 40), brief(jobNote(k), 60))
		}
	})
}

// jobWhen is the time that matters in a job's state.
func jobWhen(k control.Job) string {
	t := k.RunAfter
	switch {
	case !k.Finished.IsZero():
		t = k.Finished
	case k.State == string(jobs.StateRunning):
		t = k.Started
	}
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

// jobNote is what there is to say about a job in one line.
func jobNote(k control.Job) string {
	switch {
	case k.State == string(jobs.StateRunning):
		s := k.Owner
		if k.Total > 0 {
			s += fmt.Sprintf(" %d%%", k.Done*100/k.Total)
		} else if k.Done > 0 {
			s += fmt.Sprintf(" %d done", k.Done)
		}
		return strings.TrimSpace(s + " " + k.Note)
	case k.LastError != "":
		return k.LastError
	}
	return "-"
}

// brief is text on one line, in at most n characters.
func brief(s string, n int) string {
	if s == "" {
		return "-"
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func jobsShow(ctx context.Context, env *environment, args []string) error {
	f := newJobsFlags("show", env)
	f.withJSON()
	j, rest, closeQueue, err := f.open(ctx, args, 1, 1)
	if err != nil {
		return err
	}
	defer closeQueue()
	ids, err := jobIDs(rest)
	if err != nil {
		return err
	}
	k, err := j.Show(ctx, ids[0])
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(env.stdout, k)
	}
	return printJob(env.stdout, k)
}

func printJob(w io.Writer, k control.Job) error {
	var b bytes.Buffer
	line := func(name string, value any) {
		if s := fmt.Sprint(value); s != "" && s != "0" {
			fmt.Fprintf(&b, "%-12s %s\n", name+":", s)
		}
	}
	at := func(name string, t time.Time) {
		if !t.IsZero() {
			line(name, t.Local().Format(time.DateTime))
		}
	}
	line("id", k.ID)
	line("function", k.Func)
	line("state", k.State)
	line("priority", k.Priority)
	line("unique", k.Unique)
	line("coalesce", k.Coalesce)
	line("key", k.Key)
	line("owner", k.Owner)
	at("inserted", k.Inserted)
	at("run after", k.RunAfter)
	at("started", k.Started)
	at("lease until", k.LeaseUntil)
	at("finished", k.Finished)
	line("exit status", k.Status)
	if k.Done != 0 || k.Total != 0 || k.Note != "" {
		line("progress", strings.TrimSpace(fmt.Sprintf("%d of %d %s", k.Done, k.Total, k.Note)))
	}
	line("failures", k.Failures)
	for _, e := range k.Errors {
		fmt.Fprintf(&b, "  %s  %s\n", e.Time.Local().Format(time.DateTime), e.Message)
	}
	fmt.Fprintf(&b, "argument:    %d bytes\n", k.ArgBytes)
	if k.ArgBinary != nil {
		fmt.Fprintf(&b, "%q\n", k.ArgBinary)
	} else if k.Arg != "" {
		fmt.Fprintln(&b, k.Arg)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func jobIDs(args []string) ([]int64, error) {
	var ids []int64
	for _, a := range args {
		id, err := strconv.ParseInt(a, 10, 64)
		if err != nil || id <= 0 {
			return nil, usagef("not the id of a job: %q", a)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func jobsChange(ctx context.Context, env *environment, what string, args []string) error {
	f := newJobsFlags(what, env)
	filter := f.withFilter()
	j, rest, closeQueue, err := f.open(ctx, args, 0, -1)
	if err != nil {
		return err
	}
	defer closeQueue()
	if filter.IDs, err = jobIDs(rest); err != nil {
		return err
	}
	if err := jobFilterGiven(*filter); err != nil {
		return err
	}
	n, err := j.Change(ctx, what, *filter)
	if err != nil {
		return err
	}
	if len(filter.IDs) > 0 && n == 0 {
		return errors.New("no such job, or none that this can be done to")
	}
	fmt.Fprintf(env.stdout, "%s: %d jobs\n", what, n)
	return nil
}

// jobFilterGiven refuses to change everything.
func jobFilterGiven(f control.JobFilter) error {
	k := jobFilter(f)
	if _, err := k.ForChange(); errors.Is(err, jobs.ErrAll) {
		return usagef("which jobs? name ids, or a filter such as --func or --state")
	}
	return nil
}

func jobsInsert(ctx context.Context, env *environment, args []string) error {
	f := newJobsFlags("insert", env)
	var n control.NewJob
	f.StringVar(&n.Unique, "unique", "", "fold it into a job of the function that waits with the same `key`")
	f.StringVar(&n.Key, "key", "", "`key` by which limits per key count")
	f.StringVar(&n.Coalesce, "coalesce", "", "`value` of jobs that can be done in one go")
	f.IntVar(&n.Priority, "priority", 0, "larger first")
	after := f.String("run-after", "", "not before: a `time` from now, 90s, or of the clock, 2026-11-21T12:00:00Z")
	j, rest, closeQueue, err := f.open(ctx, args, 1, 2)
	if err != nil {
		return err
	}
	defer closeQueue()
	n.Func = rest[0]
	if n.RunAfter, err = parseWhen(*after); err != nil {
		return err
	}
	if len(rest) > 1 {
		n.Arg = []byte(rest[1])
		if rest[1] == "-" {
			if n.Arg, err = io.ReadAll(io.LimitReader(env.stdin, jobs.MaxArg+1)); err != nil {
				return err
			}
		}
	}
	id, err := j.Insert(ctx, n)
	if err != nil {
		return err
	}
	if id == 0 {
		fmt.Fprintln(env.stdout, "folded into the job that waits with this key")
		return nil
	}
	fmt.Fprintf(env.stdout, "job %d\n", id)
	return nil
}

func parseWhen(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		if d <= 0 {
			return time.Time{}, nil // at once, not at the end of this second
		}
		return time.Now().Add(d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, usagef("--run-after %s: want a time from now such as 90s, or 2026-11-21T12:00:00Z", s)
	}
	return t, nil
}
