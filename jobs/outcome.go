package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// outcome is what is to be told to the queue about a job. A Verdict of 0: nothing.
type outcome struct {
	held   *held
	result Result
	since  time.Time // when it was told for the first time, in vain
}

// outcomes says what becomes of the jobs of a task, and counts it. f.mu must be held.
func (f *function) outcomes(t *task, list []outcome) []outcome {
	if !t.returned {
		f.stats.Running -= int64(len(t.list))
		f.stats.Run.add(t.took)
	}
	each, isEach := errors.AsType[Verdicts](t.err)
	for i, h := range t.list {
		err := t.err
		if isEach {
			if len(each) != len(t.list) {
				err = fmt.Errorf("jobs: handler gave %d verdicts on %d jobs", len(each), len(t.list))
			} else {
				err = each[i]
			}
		}
		list = append(list, outcome{held: h, result: f.outcome(t, h, err)})
	}
	return list
}

// outcome says what becomes of one job.
func (f *function) outcome(t *task, h *held, err error) Result {
	switch {
	case h.lost: // somebody else's now
		f.stats.Lost++
		return Result{}
	case t.returned, errors.Is(err, ErrStopping), err != nil && errors.Is(context.Cause(t), ErrStopping):
		f.stats.Returned++
		return Result{Verdict: Returned}
	case err == nil:
		f.stats.Done++
		return Result{Verdict: Done}
	case errors.Is(err, ErrDeclined):
		f.stats.Returned++
		return Result{}
	}
	if l, ok := errors.AsType[later](err); ok {
		f.stats.Returned++
		return Result{Verdict: Returned, After: max(0, time.Duration(l))}
	}
	if r, ok := errors.AsType[replaced](err); ok {
		result := Result{Verdict: Done, Replace: r}
		if err = result.Validate(); err == nil {
			f.stats.Done++
			return result
		}
	}
	return f.failure(h, err)
}

// failure says what becomes of a job that failed.
func (f *function) failure(h *held, err error) Result {
	n := h.job.Failures + 1
	r := Result{Verdict: Retry, Cause: Message(err)}
	if IsPermanent(err) || f.h.MaxFailures > 0 && n >= f.h.MaxFailures {
		r.Verdict, r.Status = Dead, 1
		if s, ok := errors.AsType[*withStatus](err); ok {
			r.Status = s.status
		}
		f.stats.Dead++
		f.w.opts.Logger.Error("job failed for good", "func", f.name, "job", h.job.ID, "failures", n, "err", err)
		return r
	}
	f.stats.Failed++
	if a, ok := errors.AsType[*retryAfter](err); ok {
		r.After = max(0, a.after)
	} else {
		r.After = f.h.Backoff(n)
	}
	return r
}
