// Command river is the peer of the line jobs-postgres: River does jobs that do nothing, on the same server.
//
//	river URL JOBS BATCH WORKERS
//
// It prints the seconds that inserting and working took.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "river:", err)
		os.Exit(1)
	}
}

type noop struct {
	Object int `json:"object"`
}

func (noop) Kind() string { return "noop" }

type worker struct {
	river.WorkerDefaults[noop]
	done atomic.Int64
	want int64
	all  chan struct{}
}

func (w *worker) Work(context.Context, *river.Job[noop]) error {
	if w.done.Add(1) == w.want {
		close(w.all)
	}
	return nil
}

func run(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("want URL JOBS BATCH WORKERS")
	}
	var n [3]int
	for i := range n {
		var err error
		if n[i], err = strconv.Atoi(args[i+1]); err != nil {
			return err
		}
	}
	pool, err := pgxpool.New(ctx, args[0])
	if err != nil {
		return err
	}
	defer pool.Close()
	driver := riverpgxv5.New(pool)
	migrator, err := rivermigrate.New(driver, nil)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	return measure(ctx, driver, n[0], n[1], n[2])
}

func measure(ctx context.Context, driver *riverpgxv5.Driver, jobs, batch, workers int) error {
	w := &worker{want: int64(jobs), all: make(chan struct{})}
	all := river.NewWorkers()
	river.AddWorker(all, w)
	// As River's own benchmark has it.
	client, err := river.NewClient[pgx.Tx](driver, &river.Config{
		FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond, JobTimeout: -1,
		Logger: slog.New(slog.DiscardHandler), Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}}, Workers: all,
	})
	if err != nil {
		return err
	}
	begun := time.Now()
	for left := jobs; left > 0; left -= batch {
		list := make([]river.InsertManyParams, min(left, batch))
		for i := range list {
			list[i] = river.InsertManyParams{Args: noop{12345}}
		}
		if _, err := client.InsertManyFast(ctx, list); err != nil {
			return err
		}
	}
	inserted := time.Now()
	if err := client.Start(ctx); err != nil {
		return err
	}
	<-w.all
	if err := client.Stop(ctx); err != nil { // it records what is done
		return err
	}
	fmt.Printf("%.4f %.4f\n", inserted.Sub(begun).Seconds(), time.Since(inserted).Seconds())
	return nil
}
