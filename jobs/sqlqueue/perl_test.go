package sqlqueue_test

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/jobs"
	"wheelhouse/jobs/sqlqueue"
	"wheelhouse/jobs/storable"
)

// perl is a Perl program with TheSchwartz on some database.
type perl struct {
	t    *testing.T
	args []string
	kind string
}

func newPerl(t *testing.T, address string) *perl {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	p := &perl{t: t, kind: u.Scheme}
	db := strings.TrimPrefix(u.Path, "/")
	switch u.Scheme {
	case "sqlite":
		p.args = []string{"dbi:SQLite:dbname=" + u.Opaque + u.Path, ""}
	case "mysql":
		p.args = []string{"dbi:mysql:database=" + db + ";mysql_socket=" + u.Query().Get("socket"), u.User.Username()}
	case "postgres":
		p.args = []string{fmt.Sprintf("dbi:Pg:dbname=%s;host=%s;port=%s", db, u.Hostname(), u.Port()), u.User.Username()}
	}
	p.args = append(p.args, "")
	return p
}

func (p *perl) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "perl", append(append([]string{"testdata/schwartz.pl"}, p.args...), args...)...)
}

// run returns the lines that it prints.
func (p *perl) run(args ...string) []string {
	p.t.Helper()
	lines, err := p.try(args...)
	if err != nil {
		p.t.Fatal(err)
	}
	return lines
}

func (p *perl) try(args ...string) ([]string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := p.command(ctx, args...)
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil || problems.Len() > 0 {
		return nil, fmt.Errorf("perl %v: %w: %s", args, err, problems.String())
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"), nil
}

// makeTables makes the tables as a Perl installation has them.
func (p *perl) makeTables() {
	p.t.Helper()
	p.run("make", "testdata/schwartz-"+p.kind+".sql")
}

// eachPerl runs a test on all databases, in which Perl has made the tables.
func eachPerl(t *testing.T, f func(t *testing.T, p *perl, url string)) {
	each(t, func(t *testing.T, url string) {
		p := newPerl(t, url)
		p.makeTables()
		f(t, p, url)
	})
}

// TestPerlInserts: Perl inserts before there is anything of ours, and Go takes over and does the jobs.
func TestPerlInserts(t *testing.T) {
	eachPerl(t, func(t *testing.T, p *perl, url string) {
		lines := p.run("insert")
		ids := make(map[string]string)
		for _, line := range lines {
			name, id, _ := strings.Cut(line, " ")
			ids[name] = id
		}
		if len(lines) != 12 || ids["again"] != "none" || ids["string"] == "none" {
			t.Fatalf("Perl says %q", lines)
		}
		q := openURL(t, url, sqlqueue.Options{})
		folded, err := q.Insert(t.Context(), []jobs.Job{{Func: "fromperl", Unique: "same"}})
		if err != nil || folded[0] != 0 {
			t.Errorf("Insert under Perl's key = %v, %v; want it to be folded", folded, err)
		}
		got := grabAll(t, q, "fromperl")
		var args []string
		for _, j := range got {
			args = append(args, string(j.Arg))
		}
		if len(got) != 7 || args[0] != "now" || got[0].Priority != 9 || args[1] != "plain \xff" || args[2] != `{"a":[1,2]}` || got[6].Arg != nil {
			t.Fatalf("Grab = %q", args)
		}
		var hash struct {
			To string
			N  int
		}
		if err := storable.Unmarshal(got[3].Arg, &hash); err != nil || hash.To != "bob" || hash.N != 3 {
			t.Errorf("hash = %+v, %v", hash, err)
		}
		if got[4].Unique != "same" || got[5].Coalesce != "host%1" {
			t.Errorf("unique, grouped = %+v", got[4:6])
		}
		if batch := grabAll(t, q, "batch"); len(batch) != 3 {
			t.Errorf("batch: %+v", batch)
		}
		later, err := q.List(t.Context(), jobs.Filter{Func: "fromperl", State: jobs.StateDelayed})
		if err != nil || len(later) != 1 || string(later[0].Arg) != "wait" {
			t.Errorf("later: %+v, %v", later, err)
		}
		finish(t, q, got, jobs.Result{Verdict: jobs.Done})
		if more := p.run("work", "fromperl"); len(more) != 1 || more[0] != "" {
			t.Errorf("Perl does again %q", more)
		}
	})
}

func grabAll(t *testing.T, q *sqlqueue.Queue, funcs ...string) []jobs.Job {
	t.Helper()
	got, err := q.Grab(t.Context(), jobs.GrabRequest{Funcs: funcs, N: 100, Lease: time.Minute, Owner: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// finish gives all jobs the same result.
func finish(t *testing.T, q *sqlqueue.Queue, list []jobs.Job, r jobs.Result) {
	t.Helper()
	var results []jobs.Result
	for _, j := range list {
		r.Job = j
		results = append(results, r)
	}
	if err := q.Finish(t.Context(), results); err != nil {
		t.Fatal(err)
	}
}

// TestPerlWorks: Go inserts, and Perl does with the jobs all that a worker can do.
func TestPerlWorks(t *testing.T) {
	eachPerl(t, func(t *testing.T, p *perl, url string) {
		q := openURL(t, url, sqlqueue.Options{})
		ctx := t.Context()
		hash, err := storable.Marshal(map[string]any{"a": 1, "b": "x"})
		if err != nil {
			t.Fatal(err)
		}
		ids, err := q.Insert(ctx, []jobs.Job{
			{Func: "done", Arg: []byte("plain \xff")},
			{Func: "done", Arg: []byte(`{"a":1}`), Priority: -3},
			{Func: "done", Arg: hash, Priority: 7},
			{Func: "retry", Arg: []byte("r")},
			{Func: "permanent", Arg: []byte("p")},
			{Func: "decline", Arg: []byte("d")},
			{Func: "replace", Arg: []byte("s"), Unique: "k"},
			{Func: "die"},
			{Func: "coalesce", Arg: []byte("1"), Coalesce: "x"},
			{Func: "coalesce", Arg: []byte("2"), Coalesce: "x"},
		})
		if err != nil {
			t.Fatal(err)
		}
		lines := p.run("work", "done", "retry", "permanent", "decline", "replace", "die", "coalesce")
		slices.Sort(lines)
		want := []string{
			fmt.Sprintf("done %d plain \xff", ids[0]), fmt.Sprintf(`done %d {"a":1}`, ids[1]), fmt.Sprintf("done %d a=1,b=x", ids[2]),
			fmt.Sprintf("retry %d r", ids[3]), fmt.Sprintf("retry %d r", ids[3]), fmt.Sprintf("retry %d r", ids[3]),
			fmt.Sprintf("permanent %d p", ids[4]), fmt.Sprintf("decline %d d", ids[5]), fmt.Sprintf("replace %d s", ids[6]), fmt.Sprintf("die %d undef", ids[7]),
		}
		for _, line := range lines {
			if strings.HasPrefix(line, "coal") { // which of the two is the first is chance
				want = append(want, line)
			}
		}
		slices.Sort(want)
		if d := cmp.Diff(want, lines); d != "" || len(lines) != 12 {
			t.Errorf("what Perl did (-want +got):\n%s", d)
		}
		if got := grabAll(t, q, "replacement"); len(got) != 1 || string(got[0].Arg) != "of s" {
			t.Errorf("replacement: %+v", got)
		}
		for i, want := range map[int]jobs.Record{
			0: {State: jobs.StateDone}, 3: {State: jobs.StateDead, Status: 1, LastErr: "try again"}, 4: {State: jobs.StateDead, Status: 42, LastErr: "never"},
			5: {State: jobs.StateDelayed}, 6: {State: jobs.StateDone}, 7: {State: jobs.StateDead, Status: 1, LastErr: "ouch\n"},
		} {
			rec, err := q.Show(ctx, ids[i])
			if err != nil || rec.State != want.State || rec.Status != want.Status || rec.LastErr != want.LastErr {
				t.Errorf("Show of job %d = %+v, %v; want %+v", i, rec, err, want)
			}
			if i == 3 && (len(rec.Errors) != 3 || rec.Failures != 3) {
				t.Errorf("of job %d: %d failures, %+v", i, rec.Failures, rec.Errors)
			}
		}
	})
}

// TestPerlSees: Perl knows what became of jobs that Go did.
func TestPerlSees(t *testing.T) {
	eachPerl(t, func(t *testing.T, p *perl, url string) {
		q := openURL(t, url, sqlqueue.Options{})
		ctx := t.Context()
		if err := q.SetControl(ctx, "kept", func(c *jobs.Control) { c.KeepDone = time.Hour }); err != nil {
			t.Fatal(err)
		}
		ids, err := q.Insert(ctx, []jobs.Job{{Func: "kept"}, {Func: "f"}, {Func: "f"}, {Func: "f"}})
		if err != nil {
			t.Fatal(err)
		}
		finish(t, q, grabAll(t, q, "kept"), jobs.Result{Verdict: jobs.Done})
		got := grabAll(t, q, "f")
		finish(t, q, got[:1], jobs.Result{Verdict: jobs.Retry, Cause: "first", After: time.Hour})
		finish(t, q, got[1:2], jobs.Result{Verdict: jobs.Dead, Cause: strings.Repeat("ü", 300), Status: 300})
		finish(t, q, got[2:], jobs.Result{Verdict: jobs.Done})
		var args []string
		for _, id := range ids {
			args = append(args, fmt.Sprint(id))
		}
		lines := p.run(append([]string{"status"}, args...)...)
		long := strings.Repeat("ü", 127)
		want := []string{
			args[0] + " pending=0 status=0 failures=0 log=", args[1] + " pending=1 status=undef failures=1 log=first",
			args[2] + " pending=0 status=300 failures=1 log=" + long, args[3] + " pending=0 status=undef failures=0 log=",
		}
		if p.kind == "postgres" { // Perl has it as text, and prints that so
			lines[2] = strings.ReplaceAll(lines[2], "\xfc", "ü")
		}
		if d := cmp.Diff(want, lines); d != "" {
			t.Errorf("Perl sees (-want +got):\n%s", d)
		}
	})
}

// TestTogether: both insert and both work on the same table at the same time, and each job is done once.
func TestTogether(t *testing.T) {
	eachPerl(t, func(t *testing.T, p *perl, url string) {
		q := openURL(t, url, sqlqueue.Options{})
		const ours, theirs = 300, 100
		var mu sync.Mutex // guards done
		done := make(map[string]int)
		var all, inserted sync.WaitGroup
		inserted.Go(func() {
			if _, err := p.try("many", fmt.Sprint(theirs)); err != nil {
				t.Error(err)
			}
		})
		inserted.Go(func() {
			for i := range ours / 10 {
				var list []jobs.Job
				for k := range 10 {
					list = append(list, jobs.Job{Func: "both", Arg: fmt.Appendf(nil, "go/%d", 10*i+k)})
				}
				if _, err := q.Insert(t.Context(), list); err != nil {
					t.Error(err)
				}
			}
		})
		count := func(arg string) {
			mu.Lock()
			defer mu.Unlock()
			done[arg]++
		}
		for range 2 {
			all.Go(func() {
				lines, err := p.try("work", "both")
				if err != nil {
					t.Error(err)
				}
				for _, line := range lines {
					if f := strings.Fields(line); len(f) == 3 {
						count(f[2])
					}
				}
			})
		}
		stop := make(chan struct{})
		all.Go(func() { workUntil(t, q, stop, count) })
		inserted.Wait()
		var left jobs.FuncStats
		if !within(time.Minute, func() bool {
			left = statsOf(t, q, "both")
			return left.Ready+left.Running+left.Delayed == 0
		}) {
			t.Errorf("after a minute there is left: %+v", left)
		}
		close(stop)
		all.Wait()
		if len(done) != ours+theirs {
			t.Errorf("%d jobs were done; want %d", len(done), ours+theirs)
		}
		for _, arg := range slices.Sorted(maps.Keys(done)) {
			if done[arg] != 1 {
				t.Errorf("%s was done %d times", arg, done[arg])
			}
		}
	})
}

// workUntil does jobs of function both, few at a time so that Perl gets some too.
func workUntil(t *testing.T, q *sqlqueue.Queue, stop chan struct{}, count func(string)) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(5 * time.Millisecond):
		}
		got, err := q.Grab(t.Context(), jobs.GrabRequest{Funcs: []string{"both"}, N: 3, Lease: time.Minute})
		if err != nil {
			t.Error(err)
			return
		}
		results := make([]jobs.Result, len(got))
		for i, j := range got {
			count(string(j.Arg))
			results[i] = jobs.Result{Job: j, Verdict: jobs.Done}
		}
		if err := q.Finish(t.Context(), results); err != nil {
			t.Error(err)
			return
		}
	}
}

func statsOf(t *testing.T, q *sqlqueue.Queue, fn string) jobs.FuncStats {
	t.Helper()
	list, err := q.Stats(t.Context())
	if err != nil {
		t.Error(err)
	}
	for _, s := range list {
		if s.Func == fn {
			return s
		}
	}
	return jobs.FuncStats{}
}

// within polls until something is true, and reports whether it became so in time.
func within(limit time.Duration, ok func() bool) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}
