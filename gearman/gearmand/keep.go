package gearmand

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// Bounds of one call of the store.
const (
	storeJobs  = 4096
	storeBytes = 16 << 20
	storeAlone = 1 << 20 // a job with more has a call to itself: what is wrong with it is not the others' harm
)

const (
	// storePause is how long the server waits before it asks a store again that has failed to forget.
	storePause = time.Second
	// storeTold is how often the log is told that the store fails.
	storeTold = 10 * time.Second
)

// write sends a job to the store. s.mu is held.
func (s *Server) write(j *job) {
	// Each attempt has a key of its own: the store may still be about to forget the last one.
	s.lastKey++
	j.writing, j.verdict, j.key = true, nil, s.epoch+"-"+strconv.FormatUint(s.lastKey, 10)
	s.adds = append(s.adds, add{j, j.due(), j.retries})
	s.wakeStore()
}

// add is a job on its way into the store, with what may change of it meanwhile.
type add struct {
	j       *job
	at      int64
	retries int
}

// due is when a job that waits for its time is due; 0: at once.
func (j *job) due() int64 {
	if j.state == delayed || j.state == storing {
		return j.at
	}
	return 0
}

func (s *Server) wakeStore() {
	select {
	case s.work <- struct{}{}:
	default: // it will look
	}
}

// keep carries jobs to the store and out of it, until the server is closed and all is done. All submissions that have come
// while one call ran share the next one.
func (s *Server) keep(ctx context.Context) {
	closing := false
	pause := time.NewTimer(storePause) // while it runs, nothing is to be forgotten
	pause.Stop()
	pausing := false
	for {
		for more := true; more; {
			failed := false
			more, failed = s.keepOnce(ctx, !pausing)
			if failed {
				pausing = true
				pause.Reset(storePause)
			}
		}
		if closing {
			return // what a store has failed to forget will be run again
		}
		select {
		case <-pause.C:
			pausing = false
		case <-s.work:
		case <-s.quit:
			closing, pausing = true, false
		}
	}
}

// keepOnce makes one call each; to forget only if it may. more says that something is left to be done now, failed that the store
// failed to forget.
func (s *Server) keepOnce(ctx context.Context, forget bool) (more, failed bool) {
	s.mu.Lock()
	adds := s.takeAdds()
	updates := s.stillStored(s.updates)
	var removes []string
	if forget {
		n := min(len(s.removes), storeJobs)
		removes = s.removes[:n:n]
	}
	s.updates, s.removes = nil, s.removes[len(removes):]
	s.mu.Unlock()

	if len(adds) > 0 {
		err := s.call(ctx, "add", len(adds), func(ctx context.Context) error { return s.opts.Store.Add(ctx, storedJobs(adds)) })
		s.settle(adds, err)
	}
	if len(updates) > 0 { // an old number of retries is no reason to stop
		s.call(ctx, "update", len(updates), func(ctx context.Context) error { return s.opts.Store.Add(ctx, updates) })
	}
	if len(removes) > 0 {
		if err := s.call(ctx, "remove", len(removes), func(ctx context.Context) error { return s.opts.Store.Remove(ctx, removes) }); err != nil {
			failed = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if failed {
		s.removes = append(removes, s.removes...)
	}
	return len(s.adds)+len(s.updates) > 0 || (len(s.removes) > 0 && forget && !failed), failed
}

// call calls the store, within its time.
func (s *Server) call(ctx context.Context, what string, jobs int, f func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.StoreTimeout)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("store panicked: %v", v)
		}
		if err != nil {
			s.counts.storeErrors.Add(1)
			if n, ok := s.told.Pass(storeTold); ok {
				s.log.Error("store failed", "op", what, "jobs", jobs, "failures", n, "err", err)
			}
		}
	}()
	return f(ctx)
}

// takeAdds takes what goes into the next call. s.mu is held.
func (s *Server) takeAdds() []add {
	n, bytes := 0, 0
	for n < len(s.adds) && n < storeJobs && bytes < storeBytes {
		size := len(s.adds[n].j.data)
		if n > 0 && size > storeAlone {
			break
		}
		bytes += size
		if n++; size > storeAlone {
			break
		}
	}
	list := s.adds[:n:n]
	if s.adds = s.adds[n:]; len(s.adds) == 0 {
		s.adds = nil
	}
	return list
}

// stillStored is the stored form of jobs that are in the store. s.mu is held.
func (s *Server) stillStored(list []*job) []StoredJob {
	var out []StoredJob
	for _, j := range list {
		if j.stored && j.state != done {
			out = append(out, add{j, j.due(), j.retries}.stored())
		}
	}
	return out
}

func storedJobs(list []add) []StoredJob {
	out := make([]StoredJob, len(list))
	for i, a := range list {
		out[i] = a.stored()
	}
	return out
}

// stored is the job's form in the store. It reads of the job only what does not change while it is on its way.
func (a add) stored() StoredJob {
	j := a.j
	st := StoredJob{
		Key: j.key, Func: j.fn.name, Unique: string(j.unique), Arg: j.data, Priority: j.prio, Reducer: j.reducer,
		Handle: string(j.handle), Retries: a.retries,
	}
	if a.at > 0 {
		st.RunAt = time.Unix(0, a.at)
	}
	return st
}

// settle answers those who wait for jobs that are now in the store, or are not.
func (s *Server) settle(list []add, err error) {
	s.mu.Lock()
	defer s.unlock(nil)
	for _, a := range list {
		s.settleJob(a.j, err)
	}
	for _, a := range list {
		for _, c := range a.j.waiters {
			c.release()
		}
		a.j.waiters = nil
	}
	s.stored.Broadcast()
}

func (s *Server) settleJob(j *job, err error) {
	j.writing, j.verdict = false, err
	switch {
	case err != nil:
		// It may be there all the same, as after a timeout; it must not be run later when its client was told otherwise.
		s.removes = append(s.removes, j.key)
		if j.state == storing {
			s.forgetJob(j)
		} else if j.state != done {
			s.abandoned(j)
		}
	case j.state == done:
		s.removes = append(s.removes, j.key)
	case j.cancelled && j.state == storing:
		j.stored = true
		s.fail(j)
	default:
		j.stored, j.background = true, true
		if j.state == storing {
			s.enqueue(j)
		}
	}
}

// load reads the store. It is called before anything else runs.
func (s *Server) load(ctx context.Context) error {
	s.mu.Lock()
	defer s.unlock(nil)
	var nameless []*job
	err := s.opts.Store.Load(ctx, func(st StoredJob) error {
		j, err := s.revive(st)
		if err == nil && st.Handle == "" {
			nameless = append(nameless, j)
			return nil
		}
		if err == nil {
			j.fill("", handleNumber(s.opts.HandlePrefix, []byte(st.Handle)), st.Handle, []byte(st.Unique), st.Arg)
			s.lastJob = max(s.lastJob, j.num)
			s.admit(j)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("gearmand: load the store: %w", err)
	}
	for _, j := range nameless { // they get new handles, above all others
		s.lastJob++
		j.fill(s.opts.HandlePrefix, s.lastJob, "", j.unique, j.data)
		s.admit(j)
	}
	if n := len(s.jobs) + len(s.foreign); n > 0 {
		s.log.Info("jobs loaded", "jobs", n)
	}
	return nil
}

func (s *Server) revive(st StoredJob) (*job, error) {
	if st.Func == "" || st.Key == "" {
		return nil, fmt.Errorf("job %q of function %q: both must have a name", st.Key, st.Func)
	}
	f, err := s.function([]byte(st.Func))
	if err != nil {
		return nil, fmt.Errorf("job %q: %w", st.Key, err)
	}
	j := &job{
		fn: f, coalesce: mergeKey([]byte(st.Unique), st.Arg), reducer: st.Reducer, prio: min(st.Priority, Low), background: true,
		retries: st.Retries, place: -1, key: st.Key, stored: true, unique: []byte(st.Unique), data: st.Arg,
	}
	if !st.RunAt.IsZero() {
		j.at = st.RunAt.UnixNano()
	}
	return j, nil
}

func (s *Server) admit(j *job) {
	s.register(j)
	s.enqueue(j)
}
