// Package jobsgearman wakes the workers of a job queue in other processes at once, through Gearman job servers: who inserts
// jobs announces them, and a worker process that sleeps is called. What is lost here costs time alone, since workers also
// poll.
package jobsgearman

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"wheelhouse/gearman"
	"wheelhouse/jobs"
)

// funcName is the Gearman function that is called; several queues on the same job servers have different names.
func funcName(name string) string { return "wheelhouse.jobs.ready:" + cmp.Or(name, "default") }

// announceTimeout bounds one announcement.
const announceTimeout = 2 * time.Second

// Announcer tells workers of other processes that there are jobs.
type Announcer struct {
	client *gearman.Client
	name   string
	log    *slog.Logger
	ready  chan struct{}
}

// NewAnnouncer announces the jobs of the queue of a name. The client stays the caller's.
func NewAnnouncer(c *gearman.Client, name string, log *slog.Logger) *Announcer {
	return &Announcer{client: c, name: funcName(name), log: log, ready: make(chan struct{}, 1)}
}

// Announce is for sqlqueue.Options.Announce: it notes that there are jobs, and returns at once.
func (a *Announcer) Announce([]string) {
	select {
	case a.ready <- struct{}{}:
	default: // that will do for these, too
	}
}

// Run announces until ctx ends. Each announcement is a background job that is folded into one that waits already.
func (a *Announcer) Run(ctx context.Context) error {
	failing := false
	for {
		select {
		case <-a.ready:
		case <-ctx.Done():
			return nil
		}
		err := a.announce(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			a.log.Warn("workers of other processes are not called; they find jobs by polling", "err", err)
		}
		failing = err != nil
	}
}

func (a *Announcer) announce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	_, err := a.client.Submit(ctx, gearman.Job{Func: a.name, Unique: "ready", Priority: gearman.High})
	return err
}

// Listener is called when there are jobs.
type Listener struct {
	worker *gearman.Worker
	wake   chan struct{}
}

// NewListener listens for announcements on job servers.
func NewListener(servers []string, name string, log *slog.Logger) (*Listener, error) {
	w, err := gearman.NewWorker(servers, gearman.WorkerOptions{Logger: log})
	if err != nil {
		return nil, err
	}
	l := &Listener{worker: w, wake: make(chan struct{}, 1)}
	return l, w.Handle(funcName(name), func(context.Context, *gearman.Call) ([]byte, error) {
		select {
		case l.wake <- struct{}{}:
		default:
		}
		return nil, nil
	}, 0)
}

// Wake has the worker that is made with o called.
func (l *Listener) Wake(o *jobs.Options) { o.Wake = l.wake }

// Run listens until ctx ends.
func (l *Listener) Run(ctx context.Context) error { return l.worker.Run(ctx) }
