// Package failover uses several queues as one, as TheSchwartz does with its databases: jobs are inserted wherever there is a
// queue that lives, and workers visit all.
//
// What is counted is counted in each queue: limits and rates hold for each by itself. Jobs with a Unique key go to the queue
// that the key belongs to as long as that lives; only while it does not can the key be in two queues.
package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"wheelhouse/jobs"
)

// MaxMembers is the most queues that are used as one.
const MaxMembers = 64

// Member is one of the queues.
type Member struct {
	Name  string // for people; 1 to 64 bytes, no blanks
	Queue jobs.Backend
}

// Options are the choices of a [Queue]. The zero value is usable.
type Options struct {
	// Retry is how long a queue that failed is left alone. Default 30 s.
	Retry time.Duration
	// Timeout is how long a queue may take to insert or hand out jobs before another is asked. Default 10 s. Jobs that it
	// has inserted nevertheless are done twice.
	Timeout time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Logger takes queues that fail and that come back (Warn). Default: nothing is logged.
	Logger *slog.Logger
}

// Queue is several queues. Safe for concurrent use. An ID is made of the one in its queue and the queue's place in the
// list, so the list may grow at its end but not change its order; Format shows it as NAME-ID.
type Queue struct {
	opts    Options
	members []*member
}

type member struct {
	Member
	index int64

	mu   sync.Mutex // guards dead
	dead time.Time  // since when it is left alone; zero: it lives
}

var _ jobs.Backend = (*Queue)(nil)

// New returns the members as one queue. They stay the caller's to close.
func New(members []Member, opts Options) (*Queue, error) {
	if len(members) == 0 || len(members) > MaxMembers {
		return nil, fmt.Errorf("failover: %d queues: want 1 to %d", len(members), MaxMembers)
	}
	opts.Retry = cmp.Or(opts.Retry, 30*time.Second)
	opts.Timeout = cmp.Or(opts.Timeout, 10*time.Second)
	if opts.Retry < 0 || opts.Timeout < 0 {
		return nil, fmt.Errorf("failover: Retry is %s, Timeout %s: want more than 0", opts.Retry, opts.Timeout)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	q := &Queue{opts: opts}
	for i, m := range members {
		if m.Name == "" || len(m.Name) > 64 || strings.ContainsAny(m.Name, " \t\r\n") {
			return nil, fmt.Errorf("failover: name of a queue %q: want 1 to 64 bytes without blanks", m.Name)
		}
		if q.named(m.Name) != nil {
			return nil, fmt.Errorf("failover: two queues with the name %s", m.Name)
		}
		if m.Queue == nil {
			return nil, fmt.Errorf("failover: %s: no queue", m.Name)
		}
		q.members = append(q.members, &member{Member: m, index: int64(i)})
	}
	return q, nil
}

func (q *Queue) named(name string) *member {
	for _, m := range q.members {
		if m.Name == name {
			return m
		}
	}
	return nil
}

// Format shows an ID as NAME-ID.
func (q *Queue) Format(id jobs.ID) string {
	if i := int(id % MaxMembers); id > 0 && i < len(q.members) {
		return q.members[i].Name + "-" + strconv.FormatInt(int64(id/MaxMembers), 10)
	}
	return strconv.FormatInt(int64(id), 10)
}

// ParseID reads what Format writes.
func (q *Queue) ParseID(text string) (jobs.ID, error) {
	i := strings.LastIndexByte(text, '-')
	if i < 0 {
		return 0, fmt.Errorf("failover: %q: want NAME-ID", text)
	}
	m := q.named(text[:i])
	if m == nil {
		return 0, fmt.Errorf("failover: no queue with the name %q", text[:i])
	}
	n, err := strconv.ParseInt(text[i+1:], 10, 64)
	if err != nil || n < 1 || n > (1<<63-1)/MaxMembers {
		return 0, fmt.Errorf("failover: %q is not an id", text[i+1:])
	}
	return m.global(jobs.ID(n)), nil
}

func (m *member) global(id jobs.ID) jobs.ID { return id*MaxMembers + jobs.ID(m.index) }

// local returns the IDs that are this member's, as it knows them.
func (m *member) local(ids []jobs.ID) []jobs.ID {
	var list []jobs.ID
	for _, id := range ids {
		if int64(id)%MaxMembers == m.index && id > 0 {
			list = append(list, id/MaxMembers)
		}
	}
	return list
}

// inside and outside translate a job.
func (m *member) inside(j jobs.Job) jobs.Job {
	j.ID, j.Queue = j.ID/MaxMembers, ""
	return j
}

func (m *member) outside(j jobs.Job) jobs.Job {
	j.ID, j.Queue = m.global(j.ID), m.Name
	return j
}

// lives reports whether a member is to be asked.
func (q *Queue) lives(m *member) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead.IsZero() || q.opts.Now().Sub(m.dead) >= q.opts.Retry
}

// check notes how a call of a member ended, and returns the error as the member's. Mistakes of the caller's, and a caller
// that gave up, say nothing about the member; one whose time ran out does.
func (q *Queue) check(ctx context.Context, m *member, err error) error {
	if err != nil && (errors.Is(ctx.Err(), context.Canceled) || errors.Is(err, jobs.ErrNotFound) || errors.Is(err, jobs.ErrAll)) {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		if !m.dead.IsZero() {
			q.opts.Logger.Warn("job queue answers again", "queue", m.Name)
		}
		m.dead = time.Time{}
		return nil
	}
	if m.dead.IsZero() {
		q.opts.Logger.Warn("job queue fails", "queue", m.Name, "err", err)
	}
	m.dead = q.opts.Now()
	return fmt.Errorf("failover: %s: %w", m.Name, err)
}

// try calls a member, but not for longer than Timeout.
func (q *Queue) try(ctx context.Context, m *member, do func(ctx context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, q.opts.Timeout)
	defer cancel()
	return q.check(ctx, m, do(limited))
}

// ErrDead is why nothing was done: all queues have failed a short while ago and are left alone.
var ErrDead = errors.New("failover: no queue answers; tried again soon")

// shuffled lists the members that live, in random order.
func (q *Queue) shuffled() []*member {
	var list []*member
	for _, i := range rand.Perm(len(q.members)) {
		if q.lives(q.members[i]) {
			list = append(list, q.members[i])
		}
	}
	return list
}

// Insert is as in [jobs.Queue]: all jobs go to the same queue, the first that takes them.
func (q *Queue) Insert(ctx context.Context, list []jobs.Job) ([]jobs.ID, error) {
	for i := range list {
		if err := list[i].Validate(); err != nil {
			return nil, err
		}
	}
	var errs []error
	for _, m := range q.candidates(list) {
		var ids []jobs.ID
		err := q.try(ctx, m, func(ctx context.Context) (err error) { ids, err = m.Queue.Insert(ctx, list); return err })
		if err == nil {
			for i := range ids {
				if ids[i] != 0 {
					ids[i] = m.global(ids[i])
				}
			}
			return ids, nil
		}
		if errs = append(errs, err); ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return nil, ErrDead
	}
	return nil, errors.Join(errs...)
}

// candidates lists the members in the order in which they are tried for jobs.
func (q *Queue) candidates(list []jobs.Job) []*member {
	order := q.shuffled()
	for i := range list {
		if list[i].Unique == "" {
			continue
		}
		home := q.home(list[i].Func + "\x00" + list[i].Unique)
		for k, m := range order {
			if m == home {
				order[0], order[k] = order[k], order[0]
			}
		}
		break
	}
	return order
}

// home is the member that a name belongs to.
func (q *Queue) home(name string) *member {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	return q.members[h.Sum32()%uint32(len(q.members))]
}

// Grab is as in [jobs.Queue]: it visits the queues in random order until it has enough.
func (q *Queue) Grab(ctx context.Context, r jobs.GrabRequest) ([]jobs.Job, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	var got []jobs.Job
	var errs []error
	answers := 0
	for _, m := range q.shuffled() {
		part := r
		part.N = r.N - len(got)
		if part.IDs = m.local(r.IDs); part.N <= 0 || len(r.IDs) > 0 && len(part.IDs) == 0 {
			continue
		}
		var list []jobs.Job
		err := q.try(ctx, m, func(ctx context.Context) (err error) { list, err = m.Queue.Grab(ctx, part); return err })
		if err != nil {
			errs = append(errs, err)
			continue
		}
		answers++
		for _, j := range list {
			got = append(got, m.outside(j))
		}
	}
	if answers > 0 {
		return got, nil // those that failed have been noted
	}
	return nil, errors.Join(errs...)
}

// Renew is as in [jobs.Queue]. Jobs of a queue that does not answer are returned as they were: nobody knows. All queues are
// asked at the same time, so that one that hangs costs the others nothing.
func (q *Queue) Renew(ctx context.Context, list []jobs.Job, lease time.Duration) ([]jobs.Job, error) {
	var mu sync.Mutex // guards both
	var kept []jobs.Job
	var errs []error
	parts := split(q, list, func(j *jobs.Job) string { return j.Queue })
	var all sync.WaitGroup
	for m, mine := range parts {
		all.Go(func() {
			got, err := q.renew(ctx, m, mine, lease)
			mu.Lock()
			defer mu.Unlock()
			kept = append(kept, got...)
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	all.Wait()
	if len(errs) > 0 && len(errs) == len(parts) {
		return nil, errors.Join(errs...) // what may have happened nevertheless is not told of several queues
	}
	return kept, nil
}

func (q *Queue) renew(ctx context.Context, m *member, mine []jobs.Job, lease time.Duration) ([]jobs.Job, error) {
	inside := make([]jobs.Job, len(mine))
	for i, j := range mine {
		inside[i] = m.inside(j)
	}
	kept, err := m.Queue.Renew(ctx, inside, lease)
	if err = q.check(ctx, m, err); err != nil {
		return slices.CompactFunc(mine, func(a, b jobs.Job) bool { return a.ID == b.ID }), err // as they were shown first
	}
	for i, j := range kept {
		kept[i] = m.outside(j)
	}
	return kept, nil
}

// split sorts items by the queue they are in. Those of no queue of this list are left out: they are nobody's.
func split[T any](q *Queue, list []T, queue func(*T) string) map[*member][]T {
	parts := make(map[*member][]T)
	for i := range list {
		if m := q.named(queue(&list[i])); m != nil {
			parts[m] = append(parts[m], list[i])
		}
	}
	return parts
}

// Finish is as in [jobs.Queue], with a transaction for each queue: with an error some may have been done.
func (q *Queue) Finish(ctx context.Context, results []jobs.Result) error {
	for i := range results {
		if err := results[i].Validate(); err != nil {
			return err
		}
	}
	var mu sync.Mutex // guards errs
	var errs []error
	var all sync.WaitGroup
	for m, part := range split(q, results, func(r *jobs.Result) string { return r.Job.Queue }) {
		all.Go(func() {
			for i := range part {
				part[i].Job = m.inside(part[i].Job)
			}
			err := q.check(ctx, m, m.Queue.Finish(ctx, part))
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// Tend is as in [jobs.Queue].
func (q *Queue) Tend(ctx context.Context) (next time.Time, err error) {
	var errs []error
	answers := 0
	for _, m := range q.shuffled() {
		var t time.Time
		err := q.try(ctx, m, func(ctx context.Context) (err error) { t, err = m.Queue.Tend(ctx); return err })
		if err != nil {
			errs = append(errs, err)
			continue
		}
		answers++
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if answers > 0 {
		return next, nil
	}
	return next, errors.Join(errs...)
}

// Notify is as in [jobs.Queue].
func (q *Queue) Notify() (<-chan struct{}, func()) {
	ready := make(chan struct{}, 1)
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, m := range q.members {
		ch, stop := m.Queue.Notify()
		all.Go(func() {
			defer stop()
			for {
				select {
				case <-ch:
					select {
					case ready <- struct{}{}:
					default:
					}
				case <-done:
					return
				}
			}
		})
	}
	return ready, sync.OnceFunc(func() { close(done); all.Wait() })
}
