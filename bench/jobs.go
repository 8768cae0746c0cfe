package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/internal/testenv"
	"wheelhouse/jobs"
	"wheelhouse/jobs/sqlqueue"
)

// How many jobs a round has: about a second's work.
const (
	jobsOurs  = 12_000
	jobsPerl  = 300
	jobsRiver = 15_000
)

// The least that the lines should reach.
const (
	jobsTimesPerl  = 20
	jobsRateTarget = 10_000
)

// doJobs inserts jobs in batches and does them with a worker whose handler does nothing.
func doJobs(ctx context.Context, url string, n, batch int, times *halves) (r reading, err error) {
	q, err := sqlqueue.OpenURL(ctx, url, sqlqueue.Options{})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	begun, cpu := time.Now(), ownCPU()
	if err := insertJobs(ctx, q, n, batch); err != nil {
		return r, err
	}
	inserted := time.Now()
	if err := workJobs(ctx, q, n); err != nil {
		return r, err
	}
	elapsed := time.Since(begun)
	times.add(float64(n)/inserted.Sub(begun).Seconds(), float64(n)/time.Since(inserted).Seconds())
	stats, err := q.Stats(ctx)
	if err == nil && (len(stats) != 1 || stats[0] != jobs.FuncStats{Func: "noop"}) {
		err = fmt.Errorf("jobs are left: %+v", stats)
	}
	return reading{Rate: float64(n) / elapsed.Seconds(), CPU: micros(ownCPU()-cpu) / float64(n)}, err
}

func insertJobs(ctx context.Context, q *sqlqueue.Queue, n, batch int) error {
	list := make([]jobs.Job, batch)
	for i := range list {
		list[i] = jobs.Job{Func: "noop", Arg: []byte(`{"object":12345}`)}
	}
	for left := n; left > 0; left -= batch {
		if _, err := q.Insert(ctx, list[:min(left, batch)]); err != nil {
			return err
		}
	}
	return nil
}

// workJobs returns when n jobs are done and the queue knows it.
func workJobs(ctx context.Context, q *sqlqueue.Queue, n int) error {
	w := jobs.New(q, jobs.Options{})
	var done atomic.Int64
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	err := w.Handle("noop", jobs.Handler{Concurrency: 4, Prefetch: 2000, Work: func(context.Context, *jobs.Job) error {
		if done.Add(1) == int64(n) {
			stop() // Run returns when all is reported
		}
		return nil
	}})
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

// peerJobs runs a peer's program, which prints how many seconds it took to insert and to work.
func peerJobs(ctx context.Context, n int, times *halves, name string, args ...string) (reading, error) {
	cmd := command(ctx, name, args...)
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		return reading{}, fmt.Errorf("%s: %w: %s", filepath.Base(name), err, problems.String())
	}
	var insert, work float64
	if _, err := fmt.Sscan(string(out), &insert, &work); err != nil {
		return reading{}, fmt.Errorf("%s printed %q: %w", filepath.Base(name), out, err)
	}
	times.add(float64(n)/insert, float64(n)/work)
	return reading{Rate: float64(n) / (insert + work)}, nil
}

// halves are the rates of the two halves of what a side does.
type halves struct {
	mu           sync.Mutex // guards both
	insert, work []float64
}

func (p *halves) add(insert, work float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.insert, p.work = append(p.insert, insert), append(p.work, work)
}

func (p *halves) String() string {
	return fmt.Sprintf("%.0f jobs/s inserted, %.0f jobs/s done", median(p.insert), median(p.work))
}

// database starts a server that flushes each commit, for one line.
func (l *lab) database(kind testenv.Kind) (*testenv.Server, error) {
	if err := os.Chmod(l.dir, 0o755); err != nil { // the server runs as a user of its own
		return nil, err
	}
	return testenv.Start(kind, l.dir, true)
}

// perlNote says how the peer is run.
func perlNote(workers int) string {
	return fmt.Sprintf("peer: Perl's TheSchwartz at its best: 100 jobs a transaction, connections kept (driver_cache_expiration), worker processes: %d", workers)
}

func jobsMariaDB(ctx context.Context, l *lab) (rows []Result, err error) {
	s, err := l.database(testenv.MariaDBServer)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	fresh := func(who string, round int) (string, error) {
		name := fmt.Sprintf("%s%d", who, round+1)
		return name, s.Create(ctx, name)
	}
	return perlDuel(ctx, l, "jobs-mariadb",
		func(round int) (string, error) {
			name, err := fresh("ours", round)
			return s.URL(name), err
		},
		func(round int) ([]string, error) {
			name, err := fresh("perl", round)
			return []string{"dbi:mysql:database=" + name + ";mysql_socket=" + s.Socket(), "root"}, err
		}, "schwartz-mysql.sql", 2)
}

func jobsSQLite(ctx context.Context, l *lab) ([]Result, error) {
	dir, err := l.mkdir("jobs")
	if err != nil {
		return nil, err
	}
	return perlDuel(ctx, l, "jobs-sqlite",
		func(round int) (string, error) { return fmt.Sprintf("sqlite:%s/ours%d.db", dir, round+1), nil },
		func(round int) ([]string, error) {
			return []string{fmt.Sprintf("dbi:SQLite:dbname=%s/perl%d.db", dir, round+1), ""}, nil
		}, "schwartz-sqlite.sql", 1) // two are in each other's way
}

// perlDuel compares with TheSchwartz on the same database; ours and peer make a fresh one and say where it is.
func perlDuel(ctx context.Context, l *lab, name string, ours func(round int) (string, error), peer func(round int) ([]string, error), schema string, workers int) ([]Result, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, "jobs", "sqlqueue", "testdata", schema))
	if err != nil {
		return nil, err
	}
	statements := strings.Split(strings.TrimSuffix(strings.TrimSpace(string(text)), ";"), ";\n")
	load := filepath.Join(root, "bench", "peers", "theschwartz", "load.pl")
	var own, times halves
	d, err := alternate(ctx, l.opt.rounds,
		func(ctx context.Context, round int) (reading, error) {
			url, err := ours(round)
			if err != nil {
				return reading{}, err
			}
			return doJobs(ctx, url, l.count(jobsOurs), 100, &own)
		},
		func(ctx context.Context, round int) (reading, error) {
			where, err := peer(round)
			if err != nil {
				return reading{}, err
			}
			n := max(200, l.count(jobsPerl))
			args := append([]string{load}, append(where, fmt.Sprint(n), fmt.Sprint(workers))...)
			return peerJobs(ctx, n, &times, "perl", append(args, statements...)...)
		})
	if err != nil {
		return nil, err
	}
	return []Result{{
		Name: name, Target: atLeast(jobsTimesPerl), Ratio: d.ratio(rateOf), Rounds: d,
		Ours: Figure{median(over(d.Ours, rateOf)), "jobs/s"}, Peer: Figure{median(over(d.Peer, rateOf)), "jobs/s"},
		Notes: []string{"jobs inserted, 100 at a time, and then done, each commit flushed", perlNote(workers), "ours: " + own.String() + "; peer: " + times.String()},
	}}, nil
}

// jobsPostgres compares with River on the same server.
func jobsPostgres(ctx context.Context, l *lab) (rows []Result, err error) {
	s, err := l.database(testenv.PostgreSQLServer)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	river := filepath.Join(l.dir, "river")
	build := exec.CommandContext(ctx, "go", "build", "-o", river, ".")
	build.Dir = filepath.Join(root, "bench", "peers", "river")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building River's program: %w: %s", err, out)
	}
	const batch, workers = 1000, 2000
	var own, times halves
	fresh := func(who string, round int) (string, error) {
		name := fmt.Sprintf("%s%d", who, round+1)
		return s.URL(name), s.Create(ctx, name)
	}
	d, err := alternate(ctx, l.opt.rounds,
		func(ctx context.Context, round int) (reading, error) {
			url, err := fresh("ours", round)
			if err != nil {
				return reading{}, err
			}
			return doJobs(ctx, url, l.count(jobsRiver), batch, &own)
		},
		func(ctx context.Context, round int) (reading, error) {
			url, err := fresh("river", round)
			if err != nil {
				return reading{}, err
			}
			n := l.count(jobsRiver)
			return peerJobs(ctx, n, &times, river, url, fmt.Sprint(n), fmt.Sprint(batch), fmt.Sprint(workers))
		})
	if err != nil {
		return nil, err
	}
	ours := Figure{median(over(d.Ours, rateOf)), "jobs/s"}
	return []Result{
		{
			Name: "jobs-postgres", Target: rateAtLeast(jobsRateTarget, "jobs/s"), Ours: ours,
			Notes: []string{fmt.Sprintf("%d jobs inserted, %d at a time, and then done by one worker, each commit flushed", l.count(jobsRiver), batch)},
		},
		{
			Name: "jobs-postgres river", Target: atLeast(1), Ratio: d.ratio(rateOf), Rounds: d,
			Ours: ours, Peer: Figure{median(over(d.Peer, rateOf)), "jobs/s"},
			Notes: []string{fmt.Sprintf("peer: River, InsertManyFast and the settings of its own benchmark: %d workers, 2 ms between fetches", workers), "ours: " + own.String() + "; peer: " + times.String()},
		},
	}, nil
}
