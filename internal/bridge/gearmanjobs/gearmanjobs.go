// Package gearmanjobs keeps a Gearman job server's background jobs in a job queue, so that they survive the server.
//
// Each is a job of the function "gearman:" and its name, which no worker of the queue does: the queue is where they are
// kept, and where operators see them. The server that has them proves by a lease that it is the only one.
package gearmanjobs

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"wheelhouse/gearman/gearmand"
	"wheelhouse/jobs"
)

const (
	// Prefix is what the functions of kept jobs begin with, before the queue's name and a colon.
	Prefix     = "gearman:"
	lockPrefix = "gearman.server:"

	lockLease  = 5 * time.Second
	lockSure   = 4500 * time.Millisecond // leaves the server time to end
	lockRenew  = 1500 * time.Millisecond
	lockRetry  = 250 * time.Millisecond
	openPage   = 1000
	deletePage = 500

	// maxArg leaves room for a head, in which texts of 1200 bytes may be escaped.
	maxArg = jobs.MaxArg - 8<<10
)

// Queue is what is asked of a job queue.
type Queue interface {
	Insert(ctx context.Context, list []jobs.Job) ([]jobs.ID, error)
	Grab(ctx context.Context, r jobs.GrabRequest) ([]jobs.Job, error)
	Renew(ctx context.Context, list []jobs.Job, lease time.Duration) ([]jobs.Job, error)
	Finish(ctx context.Context, results []jobs.Result) error
	List(ctx context.Context, f jobs.Filter) ([]jobs.Record, error)
	Delete(ctx context.Context, f jobs.Filter) (int, error)
}

// ErrTaken says that another job server has the queue of this name.
var ErrTaken = errors.New("gearmanjobs: another job server keeps its jobs under this name")

// Store keeps one job server's jobs.
type Store struct {
	q    Queue
	name string

	adding sync.Mutex // held from before jobs are inserted until their ids are known; taken before mu

	mu    sync.Mutex         // guards what follows
	lock  []jobs.Job         // the same, with all ends that its lease may have
	ids   map[string]jobs.ID // by the server's keys
	doubt bool               // an Add has failed, and may have added nevertheless
}

var _ gearmand.Store = (*Store)(nil)

// Open takes the queue of a name ("" is "default"; letters, digits, - and _). A server that was killed has it for up to five
// seconds more, which Open waits for; then ErrTaken. The queue stays the caller's. Close the store.
func Open(ctx context.Context, q Queue, name string) (*Store, error) {
	name = cmp.Or(name, "default")
	if len(name) > 60 || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) {
		return nil, fmt.Errorf("gearmanjobs: name %.80q: want at most 60 letters, digits, - and _", name)
	}
	s := &Store{q: q, name: name, ids: make(map[string]jobs.ID)}
	fn := lockPrefix + name
	if _, err := q.Insert(ctx, []jobs.Job{{Func: fn, Unique: "lock"}}); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(lockLease + 2*time.Second)
	for {
		got, err := q.Grab(ctx, jobs.GrabRequest{Funcs: []string{fn}, N: 1, Lease: lockLease, Owner: "gearmand"})
		if err != nil {
			return nil, err
		}
		if len(got) == 1 {
			s.lock = got
			return s, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%w: %s", ErrTaken, name)
		}
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Run proves again and again that the server is there, until ctx ends. When it returns an error the queue may be another's:
// the server must stop at once.
func (s *Store) Run(ctx context.Context) error {
	var sweep sync.WaitGroup
	defer sweep.Wait()
	sweeping := make(chan struct{}, 1)
	lastSure, wait := time.Now(), lockRenew
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		began, end := time.Now(), lastSure.Add(lockSure)
		err := s.renew(ctx, end)
		switch {
		case err == nil:
			lastSure, wait = began, lockRenew
			select {
			case sweeping <- struct{}{}:
				sweep.Go(func() {
					s.sweep(ctx)
					<-sweeping
				})
			default:
			}
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrTaken):
			return err
		case time.Until(end) <= lockRetry:
			return fmt.Errorf("gearmanjobs: the queue %s does not let itself be kept, and another job server may have it soon: %w", s.name, err)
		default:
			wait = lockRetry
		}
	}
}

func (s *Store) renew(ctx context.Context, end time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	s.mu.Lock()
	lock := s.lock
	s.mu.Unlock()
	kept, err := s.q.Renew(ctx, lock, lockLease)
	if err == nil && len(kept) == 0 {
		return fmt.Errorf("%w: %s", ErrTaken, s.name)
	}
	if err != nil { // it may have been renewed nevertheless
		kept = slices.Concat(lock, kept)
	}
	s.mu.Lock()
	s.lock = kept
	s.mu.Unlock()
	return err
}

// Close gives the name back, after Run has returned.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var results []jobs.Result
	for _, lock := range s.lock {
		results = append(results, jobs.Result{Job: lock, Verdict: jobs.Done})
	}
	return s.q.Finish(ctx, results)
}

// head is what stands before a job's argument, as one line of JSON.
type head struct {
	Key     string    `json:"key"`
	Func    bytesText `json:"func,omitempty"` // where the row's is not the whole of it
	Unique  bytesText `json:"unique,omitempty"`
	Reducer bytesText `json:"reducer,omitempty"`
	Handle  bytesText `json:"handle"`
	Retries int       `json:"retries,omitempty"`
	Delayed bool      `json:"delayed,omitempty"` // RunAfter is the client's wish
}

// bytesText is any bytes. In JSON, what is no text is a list of its base64.
type bytesText string

// MarshalJSON is as in [json.Marshaler].
func (b bytesText) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(b)) {
		return json.Marshal(string(b))
	}
	return json.Marshal([1][]byte{[]byte(b)})
}

// UnmarshalJSON is as in [json.Unmarshaler].
func (b *bytesText) UnmarshalJSON(data []byte) error {
	if !bytes.HasPrefix(data, []byte("[")) {
		return json.Unmarshal(data, (*string)(b))
	}
	var raw [1][]byte
	err := json.Unmarshal(data, &raw)
	*b = bytesText(raw[0])
	return err
}

func (s *Store) prefix() string { return Prefix + s.name + ":" }

// Check is as in [gearmand.Store].
func (s *Store) Check(j *gearmand.StoredJob) error {
	switch {
	case len(j.Arg) > maxArg:
		return fmt.Errorf("its workload has %d bytes; the store takes %d", len(j.Arg), maxArg)
	case j.RunAt.Unix() > jobs.MaxTime:
		return fmt.Errorf("its time is after %s", time.Unix(jobs.MaxTime, 0).UTC().Format(time.DateOnly))
	}
	return nil
}

// toJob is a kept job as the queue has it. Larger priorities come first there.
func (s *Store) toJob(j gearmand.StoredJob) (jobs.Job, error) {
	h := head{
		Key: j.Key, Unique: bytesText(j.Unique), Reducer: bytesText(j.Reducer), Handle: bytesText(j.Handle),
		Retries: j.Retries, Delayed: !j.RunAt.IsZero(),
	}
	name := jobs.Text(s.prefix() + j.Func)
	if name != s.prefix()+j.Func {
		h.Func = bytesText(j.Func)
	}
	line, err := json.Marshal(h)
	if err != nil {
		return jobs.Job{}, err
	}
	arg := make([]byte, 0, len(line)+1+len(j.Arg))
	arg = append(append(append(arg, line...), '\n'), j.Arg...)
	return jobs.Job{
		Func: name, Arg: arg, RunAfter: j.RunAt, Priority: int(gearmand.Normal) - int(j.Priority),
	}, nil
}

func (s *Store) fromJob(j *jobs.Job) (gearmand.StoredJob, error) {
	var h head
	line, arg, ok := bytes.Cut(j.Arg, []byte{'\n'})
	if !ok {
		return gearmand.StoredJob{}, fmt.Errorf("gearmanjobs: job %d is none of a job server", j.ID)
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return gearmand.StoredJob{}, fmt.Errorf("gearmanjobs: job %d: %w", j.ID, err)
	}
	out := gearmand.StoredJob{
		Key: h.Key, Func: cmp.Or(string(h.Func), strings.TrimPrefix(j.Func, s.prefix())), Unique: string(h.Unique), Arg: arg,
		Reducer: string(h.Reducer), Handle: string(h.Handle), Retries: h.Retries, Priority: gearmand.Priority(int(gearmand.Normal) - j.Priority),
	}
	if h.Delayed {
		out.RunAt = j.RunAfter
	}
	return out, nil
}

// Add is as in [gearmand.Store].
func (s *Store) Add(ctx context.Context, list []gearmand.StoredJob) error {
	rows := make([]jobs.Job, len(list))
	for i := range list {
		var err error
		if rows[i], err = s.toJob(list[i]); err != nil {
			return err
		}
	}
	replaced, err := s.insert(ctx, rows, list)
	if err == nil {
		err = s.delete(ctx, replaced)
	}
	if err != nil {
		s.mu.Lock()
		s.doubt = true
		s.mu.Unlock()
	}
	return err
}

// insert inserts the rows of jobs and notes their ids. It returns those of older rows.
func (s *Store) insert(ctx context.Context, rows []jobs.Job, list []gearmand.StoredJob) (replaced []jobs.ID, err error) {
	s.adding.Lock()
	defer s.adding.Unlock()
	ids, err := s.q.Insert(ctx, rows)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		if old, ok := s.ids[list[i].Key]; ok {
			replaced = append(replaced, old)
		}
		s.ids[list[i].Key] = ids[i]
	}
	return replaced, nil
}

// sweep removes what calls have left in the queue that failed: the server has refused such jobs. It does nothing unless one has.
func (s *Store) sweep(ctx context.Context) {
	s.mu.Lock()
	doubt := s.doubt
	s.doubt = false
	s.mu.Unlock()
	if !doubt {
		return
	}
	stray := make(map[jobs.ID]string)
	err := s.each(ctx, func(id jobs.ID, j gearmand.StoredJob) error {
		if !s.has(j.Key, id) {
			stray[id] = j.Key
		}
		return nil
	})
	if err == nil {
		err = s.deleteStray(ctx, stray)
	}
	if err != nil { // another time
		s.mu.Lock()
		s.doubt = true
		s.mu.Unlock()
	}
}

func (s *Store) has(key string, id jobs.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[key] == id
}

// deleteStray deletes rows that are still unknown when no call is under way that may have made them.
func (s *Store) deleteStray(ctx context.Context, stray map[jobs.ID]string) error {
	s.adding.Lock()
	defer s.adding.Unlock()
	var ids []jobs.ID
	for id, key := range stray {
		if !s.has(key, id) {
			ids = append(ids, id)
		}
	}
	return s.delete(ctx, ids)
}

// Remove is as in [gearmand.Store].
func (s *Store) Remove(ctx context.Context, keys []string) error {
	s.mu.Lock()
	var ids []jobs.ID
	for _, k := range keys {
		if id, ok := s.ids[k]; ok {
			ids = append(ids, id)
		}
	}
	s.mu.Unlock() // the lease is renewed meanwhile, however long the queue takes
	if err := s.delete(ctx, ids); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		delete(s.ids, k)
	}
	return nil
}

func (s *Store) delete(ctx context.Context, ids []jobs.ID) error {
	for len(ids) > 0 {
		n := min(len(ids), deletePage)
		if _, err := s.q.Delete(ctx, jobs.Filter{IDs: ids[:n]}); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// Load is as in [gearmand.Store]. It goes through the queue twice: first to find jobs of which an older copy is left, because a
// server ended between writing the new one and removing the old one.
func (s *Store) Load(ctx context.Context, f func(gearmand.StoredJob) error) error {
	var stale []jobs.ID
	err := s.each(ctx, func(id jobs.ID, j gearmand.StoredJob) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if old, ok := s.ids[j.Key]; ok && old != id {
			stale = append(stale, old)
		}
		s.ids[j.Key] = id
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.delete(ctx, stale); err != nil {
		return err
	}
	return s.each(ctx, func(_ jobs.ID, j gearmand.StoredJob) error { return f(j) })
}

// each calls f with all kept jobs, oldest first.
func (s *Store) each(ctx context.Context, f func(jobs.ID, gearmand.StoredJob) error) error {
	for after := jobs.ID(0); ; {
		page, err := s.q.List(ctx, jobs.Filter{After: after, Limit: openPage})
		if err != nil {
			return err
		}
		for i := range page {
			r := &page[i]
			after = r.ID
			if !strings.HasPrefix(r.Func, s.prefix()) || r.State != jobs.StateReady && r.State != jobs.StateDelayed {
				continue
			}
			j, err := s.fromJob(&r.Job)
			if err == nil {
				err = f(r.ID, j)
			}
			if err != nil {
				return err
			}
		}
		if len(page) == 0 { // a page of long arguments is shorter than was asked for
			return nil
		}
	}
}
