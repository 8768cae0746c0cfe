package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/gearman"
	"wheelhouse/gearman/gearmantest"
	"wheelhouse/gearman/packet"
)

func TestConninfoURL(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"host=/run/postgresql dbname=jobs", "postgres:///?dbname=jobs&host=%2Frun%2Fpostgresql"},
		{`user = 'o\'neil' password='a b'  port=5433`, "postgres:///?password=a+b&port=5433&user=o%27neil"},
		{"postgres://u@h/db", "postgres://u@h/db"},
	} {
		if got, err := conninfoURL(tt.in); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v; want %s", tt.in, got, err, tt.want)
		}
	}
	if _, err := conninfoURL("nonsense"); err == nil {
		t.Error("nonsense was taken")
	}
}

// startGearmand runs our job server on a free port.
func startGearmand(t *testing.T, flags ...string) (p *process, addr string) {
	t.Helper()
	p = start(t, append([]string{"gearmand", "-p", "0"}, flags...)...)
	return p, strings.TrimPrefix(p.ready["gearman"], "gearman://")
}

// What was answered JOB_CREATED is done, though the server is killed three times while clients submit and workers work, and no
// job is done by two workers at once.
func TestGearmandKilledWithJobs(t *testing.T) {
	t.Parallel()
	db := "sqlite:" + filepath.Join(t.TempDir(), "jobs.db")
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	done := map[string]int{}
	running := map[string]bool{}

	work := func(ctx context.Context, c *gearman.Call) ([]byte, error) {
		arg := string(c.Arg)
		mu.Lock()
		if running[arg] {
			t.Errorf("job %s runs twice at once", arg)
		}
		running[arg] = true
		mu.Unlock()
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done(): // the server is gone, and gives the job to somebody else
		}
		mu.Lock()
		defer mu.Unlock()
		delete(running, arg)
		if ctx.Err() == nil {
			done[arg]++
		}
		return nil, ctx.Err()
	}
	for round := range 4 {
		p, addr := startGearmand(t, "--queue-database", db)
		client := gearmantest.NewClient(t, addr)
		stop := gearmantest.StartWorker(t, []string{addr}, gearman.WorkerOptions{Concurrency: 4}, map[string]gearman.Func{"f": work})
		if round == 3 { // the last one lives
			eventually(t, "all that was acknowledged is done", func() bool {
				mu.Lock()
				defer mu.Unlock()
				for arg := range acknowledged {
					if done[arg] == 0 {
						return false
					}
				}
				return true
			})
			eventually(t, "nothing is left", func() bool {
				lines, err := gearman.Admin(t.Context(), addr, nil, "status")
				return err == nil && strings.HasPrefix(strings.Join(lines, "\n"), "f\t0\t0\t")
			})
			stop()
			p.stop()
			_, left, errText := runOnce(t, "jobs", "list", "--database", db)
			if strings.Contains(left, "gearman:") {
				t.Errorf("the queue still has %s%s", left, errText)
			}
			continue
		}
		var clients sync.WaitGroup
		for g := range 8 {
			clients.Go(func() {
				for i := 0; ; i++ {
					arg := fmt.Sprintf("%d-%d-%d", round, g, i)
					job := gearman.Job{Func: "f", Arg: []byte(arg)}
					if i%3 == 0 {
						job.Unique = arg
					}
					if _, err := client.Submit(t.Context(), job); err != nil {
						return // the server has been killed
					}
					mu.Lock()
					acknowledged[arg] = true
					mu.Unlock()
				}
			})
		}
		want := (round + 1) * 300
		eventually(t, "some jobs are done", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(done) >= want
		})
		p.kill()
		clients.Wait()
		stop()
	}
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d jobs acknowledged, %d done", len(acknowledged), len(done))
}

func TestGearmandQueueIsTaken(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "jobs.db")
	startGearmand(t, "-q", "libsqlite3", "--libsqlite3-db", db)
	status, _, text := runOnce(t, "gearmand", "-p", "0", "-q", "libsqlite3", "--libsqlite3-db="+db)
	if status != 1 || !strings.Contains(text, "another job server") {
		t.Errorf("status %d: %s", status, text)
	}
	startGearmand(t, "-q", "libsqlite3", "--libsqlite3-db="+db, "--queue-name", "other")
}

// The process stays near --max-memory, however fast jobs come and go.
func TestGearmandMemory(t *testing.T) {
	t.Parallel()
	const limit, size = 100 << 20, 100_000
	p, addr := startGearmand(t, "--max-memory", fmt.Sprint(limit))
	c, w := gearmantest.Dial(t, addr), gearmantest.Dial(t, addr).Worker("f")
	data := strings.Repeat("x", size)
	kept := limit * 9 / 10 / size
	for range kept {
		c.Submit(packet.SubmitJobBG, "f", "", data)
	}
	for range 3 * kept {
		h, _ := w.Grab()
		w.Send(packet.WorkComplete, h, "")
		c.Submit(packet.SubmitJobBG, "f", "", data)
	}
	if rss, most := residentSize(t, p.cmd.Process.Pid), int64(limit+limit/4+160<<20); rss > most {
		t.Errorf("the process has %d MB; want at most %d", rss>>20, most>>20)
	}
}
