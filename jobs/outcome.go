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
	failed error     // why, of one that has just failed
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
		o := outcome{held: h}
		o.result, o.failed = f.outcome(t, h, err)
		list = append(list, o)
	}
	return list
}

// outcome says what becomes of one job. If it failed, failure says the rest. f.mu must be held.
func (f *function) outcome(t *task, h *held, err error) (r Result, failed error) {
	switch {
	case h.lost: // somebody else's now
		f.stats.Lost++
		return Result{}, nil
	case t.returned, errors.Is(err, ErrStopping), err != nil && errors.Is(context.Cause(t), ErrStopping):
		f.stats.Returned++
		return Result{Verdict: Returned}, nil
	case err == nil:
		f.stats.Done++
		return Result{Verdict: Done}, nil
	case errors.Is(err, ErrDeclined):
		f.stats.Returned++
		return Result{}, nil
	}
	if l, ok := errors.AsType[later](err); ok {
		f.stats.Returned++
		return Result{Verdict: Returned, After: max(0, time.Duration(l))}, nil
	}
	if list, ok := errors.AsType[replaced](err); ok {
		r = Result{Verdict: Done, Replace: list}
		if err = r.Validate(); err == nil {
			f.stats.Done++
			return r, nil
		}
	}
	r = Result{Verdict: Retry, Cause: Message(err)}
	if n := h.job.Failures + 1; IsPermanent(err) || f.h.MaxFailures > 0 && n >= f.h.MaxFailures {
		r.Verdict = Dead
		f.stats.Dead++
	} else {
		f.stats.Failed++
	}
	return r, err
}

// failure completes the result of a job that has failed: with f.mu not held, as others than us are asked.
func (f *function) failure(o *outcome) {
	n := o.held.job.Failures + 1
	if o.result.Verdict == Dead {
		o.result.Status = 1
		if s, ok := errors.AsType[*withStatus](o.failed); ok {
			o.result.Status = s.status
		}
		f.w.opts.Logger.Error("job failed for good", "func", f.name, "job", o.held.job.ID, "failures", n, "err", o.failed)
	} else if a, ok := errors.AsType[*retryAfter](o.failed); ok {
		o.result.After = max(0, a.after)
	} else {
		o.result.After = f.h.Backoff(n)
	}
	o.failed = nil
}
