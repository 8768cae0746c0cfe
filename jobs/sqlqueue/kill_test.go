package sqlqueue_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/internal/testenv"
	"wheelhouse/jobs"
	"wheelhouse/jobs/sqlqueue"
)

// childEnv makes this test binary a worker on the database that it names.
const childEnv = "SQLQUEUE_TEST_WORKER"

// TestChild is that worker: it grabs jobs with a short lease and tells of each that the queue has acknowledged as done.
func TestChild(t *testing.T) {
	url := os.Getenv(childEnv)
	if url == "" {
		return // this is the parent
	}
	q := openURL(t, url, sqlqueue.Options{})
	for {
		got, err := q.Grab(t.Context(), jobs.GrabRequest{Funcs: []string{"f"}, N: 5, Lease: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		results := make([]jobs.Result, len(got))
		for i, j := range got {
			results[i] = jobs.Result{Job: j, Verdict: jobs.Done}
		}
		if err := q.Finish(t.Context(), results); err != nil {
			t.Fatal(err)
		}
		for _, j := range got {
			fmt.Printf("did %s\n", j.Arg)
		}
	}
}

// TestKilledWorkers: workers are killed in mid-work; what they had is done by others, and what they had finished is not done again.
func TestKilledWorkers(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		q := openURL(t, url, sqlqueue.Options{})
		const n = 600
		var list []jobs.Job
		for i := range n {
			list = append(list, jobs.Job{Func: "f", Arg: fmt.Append(nil, i)})
		}
		if _, err := q.Insert(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		did := make(map[string]int)
		for range 3 { // one after the other: what two do at a time is told elsewhere
			for _, arg := range runAndKill(t, url, 60) {
				did[arg]++
			}
		}
		if !within(time.Minute, func() bool {
			for _, j := range grabShort(t, q) {
				did[string(j.Arg)]++
			}
			return statsOf(t, q, "f").Ready+statsOf(t, q, "f").Running == 0
		}) {
			t.Fatalf("left: %+v", statsOf(t, q, "f"))
		}
		for arg, times := range did {
			if times != 1 {
				t.Errorf("%s was done %d times", arg, times)
			}
		}
		// A worker that is killed after the queue has acknowledged its work and before it says so leaves a gap.
		if len(did) < n-3*5 {
			t.Errorf("%d jobs were done; want %d", len(did), n)
		}
	})
}

func grabShort(t *testing.T, q *sqlqueue.Queue) []jobs.Job {
	t.Helper()
	got, err := q.Grab(t.Context(), jobs.GrabRequest{Funcs: []string{"f"}, N: 100, Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	finish(t, q, got, jobs.Result{Verdict: jobs.Done})
	return got
}

// runAndKill starts a worker and kills it after it has done some jobs. It returns which.
func runAndKill(t *testing.T, url string, some int) (did []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childEnv+"="+url)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if arg, ok := strings.CutPrefix(lines.Text(), "did "); ok {
			did = append(did, arg)
		}
		if len(did) == some {
			_ = cmd.Process.Kill() // it reads on to the end of what it said
		}
	}
	_ = cmd.Wait() // it was killed
	if len(did) < some {
		t.Errorf("the worker did %d jobs and ended by itself", len(did))
	}
	return did
}

// TestKilledServer: the database server is killed while jobs are inserted and done, and started again. What was
// acknowledged is there, errors come at once meanwhile, and the same Queue goes on afterwards.
func TestKilledServer(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MariaDBServer, testenv.PostgreSQLServer} {
		t.Run(fmt.Sprintf("%T", kind), func(t *testing.T) {
			t.Parallel()
			s := testenv.New(t, kind)
			if err := s.Create(t.Context(), "jobs"); err != nil {
				t.Fatal(err)
			}
			killServer(t, s, openURL(t, s.URL("jobs"), sqlqueue.Options{}))
		})
	}
}

// ledger is what the queue has acknowledged.
type ledger struct {
	mu             sync.Mutex // guards the rest
	inserted, done map[jobs.ID]bool
	maybe          map[jobs.ID]bool // finished, but the answer was lost
}

func killServer(t *testing.T, s *testenv.Server, q *sqlqueue.Queue) {
	l := &ledger{inserted: make(map[jobs.ID]bool), done: make(map[jobs.ID]bool), maybe: make(map[jobs.ID]bool)}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					l.insert(t.Context(), q)
					l.work(t.Context(), q)
				}
			}
		})
	}
	grown := func(by int) func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		from := len(l.done)
		return func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.done) >= from+by
		}
	}
	for range 2 {
		if !within(time.Minute, grown(100)) {
			t.Error("nothing is done")
		}
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
		begun := time.Now()
		if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "f"}}); err == nil || time.Since(begun) > 30*time.Second {
			t.Errorf("Insert with a dead server: %v after %s", err, time.Since(begun))
		}
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
	}
	if !within(time.Minute, grown(100)) {
		t.Error("nothing is done after the server was started again")
	}
	close(stop)
	wg.Wait()
	l.check(t, q)
}

func (l *ledger) insert(ctx context.Context, q *sqlqueue.Queue) {
	list := make([]jobs.Job, 7)
	for i := range list {
		list[i] = jobs.Job{Func: "f"}
	}
	ids, err := q.Insert(ctx, list)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		return // perhaps they are there, and done as well
	}
	for _, id := range ids {
		l.inserted[id] = true
	}
}

func (l *ledger) work(ctx context.Context, q *sqlqueue.Queue) {
	got, err := q.Grab(ctx, jobs.GrabRequest{Funcs: []string{"f"}, N: 5, Lease: time.Hour})
	if err != nil {
		return
	}
	results := make([]jobs.Result, len(got))
	for i, j := range got {
		results[i] = jobs.Result{Job: j, Verdict: jobs.Done}
	}
	err = q.Finish(ctx, results)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, j := range got {
		if err == nil {
			l.done[j.ID] = true
		} else {
			l.maybe[j.ID] = true
		}
	}
}

// check compares with what is in the queue.
func (l *ledger) check(t *testing.T, q *sqlqueue.Queue) {
	t.Helper()
	there := make(map[jobs.ID]bool)
	for after := jobs.ID(0); ; {
		list, err := q.List(t.Context(), jobs.Filter{Func: "f", After: after, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			there[r.ID] = true
			after = r.ID
		}
		if len(list) == 0 {
			break
		}
	}
	for id := range l.done {
		if there[id] {
			t.Errorf("job %d was acknowledged as done and is there again", id)
		}
	}
	lost := 0
	for id := range l.inserted {
		if !l.done[id] && !l.maybe[id] && !there[id] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d jobs are lost", lost, len(l.inserted))
	}
}
