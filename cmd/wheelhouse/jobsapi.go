package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // periodic jobs have time zones, also on machines that have none
	"unicode/utf8"

	"wheelhouse/jobs"
	"wheelhouse/jobs/cron"
	"wheelhouse/store"
	"wheelhouse/store/control"
)

// localJobs shows a queue of this process as the operator's API does.
type localJobs struct{ q jobs.Backend }

var (
	_ control.Jobs = localJobs{}
	_ control.Jobs = remoteJobs{}
)

// mistake marks an error as the client's.
func mistake(err error) error {
	if err == nil {
		return nil
	}
	return control.BadRequest(err)
}

func jobFilter(f control.JobFilter) jobs.Filter {
	out := jobs.Filter{
		Func: f.Func, State: jobs.State(f.State), Unique: f.Unique, Coalesce: f.Coalesce, Key: f.Key, After: jobs.ID(f.After), Limit: f.Limit,
	}
	for _, id := range f.IDs {
		out.IDs = append(out.IDs, jobs.ID(id))
	}
	return out
}

func (l localJobs) Functions(ctx context.Context) ([]control.JobFunction, error) {
	stats, err := l.q.Stats(ctx)
	if err != nil {
		return nil, err
	}
	controls, err := l.q.Controls(ctx)
	if err != nil {
		return nil, err
	}
	set := make(map[string]jobs.Control, len(controls))
	for _, c := range controls {
		set[c.Func] = c
	}
	var list []control.JobFunction
	add := func(s jobs.FuncStats) {
		list = append(list, control.JobFunction{
			Func: s.Func, Ready: s.Ready, Running: s.Running, Delayed: s.Delayed, Dead: s.Dead, Done: s.Done, OldestDue: s.OldestDue,
			Control: publicControl(set[s.Func]),
		})
		delete(set, s.Func)
	}
	for _, s := range stats {
		add(s)
	}
	for _, c := range controls { // of functions that have had no jobs yet
		if _, ok := set[c.Func]; ok {
			add(jobs.FuncStats{Func: c.Func})
		}
	}
	return list, nil
}

func publicControl(c jobs.Control) (out control.JobControl) {
	out.Func = c.Func
	if c.Paused {
		out.Paused = &c.Paused
	}
	for _, n := range []struct {
		value int
		to    **int
	}{{c.MaxRunning, &out.MaxRunning}, {c.MaxRunningPerKey, &out.MaxRunningPerKey}} {
		if n.value != 0 {
			*n.to = &n.value
		}
	}
	text := func(to **string, set bool, s string) {
		if set {
			*to = &s
		}
	}
	text(&out.Rate, c.Rate.N > 0, formatRate(c.Rate))
	text(&out.RatePerKey, c.RatePerKey.N > 0, formatRate(c.RatePerKey))
	text(&out.KeepDone, c.KeepDone > 0, c.KeepDone.String())
	text(&out.KeepDead, c.KeepDead > 0, c.KeepDead.String())
	return out
}

func formatRate(r jobs.Rate) string { return fmt.Sprintf("%d/%s", r.N, shortDuration(r.Per)) }

// shortDuration writes 1m rather than 1m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// parseRate reads N/DURATION.
func parseRate(s string) (jobs.Rate, error) {
	if s == "" || s == "none" || s == "0" {
		return jobs.Rate{}, nil
	}
	n, per, ok := strings.Cut(s, "/")
	count, err := strconv.Atoi(n)
	if !ok || err != nil || count < 1 {
		return jobs.Rate{}, fmt.Errorf("rate %q: want N/TIME such as 100/1m, or none", s)
	}
	if per != "" && (per[0] < '0' || per[0] > '9') { // 100/h is 100/1h
		per = "1" + per
	}
	d, err := time.ParseDuration(per)
	if err != nil {
		return jobs.Rate{}, fmt.Errorf("rate %q: want N/TIME such as 100/1m, or none", s)
	}
	return jobs.Rate{N: count, Per: d}, nil
}

// applyControl makes the change that the client wants.
func applyControl(in control.JobControl, c *jobs.Control) (err error) {
	if in.Paused != nil {
		c.Paused = *in.Paused
	}
	if in.MaxRunning != nil {
		c.MaxRunning = *in.MaxRunning
	}
	if in.MaxRunningPerKey != nil {
		c.MaxRunningPerKey = *in.MaxRunningPerKey
	}
	for _, r := range []struct {
		text *string
		to   *jobs.Rate
	}{{in.Rate, &c.Rate}, {in.RatePerKey, &c.RatePerKey}} {
		if r.text != nil {
			if *r.to, err = parseRate(*r.text); err != nil {
				return err
			}
		}
	}
	for _, d := range []struct {
		text *string
		to   *time.Duration
	}{{in.KeepDone, &c.KeepDone}, {in.KeepDead, &c.KeepDead}} {
		if d.text != nil {
			if *d.to, err = time.ParseDuration(*d.text); err != nil {
				return fmt.Errorf("%q: want a duration such as 36h", *d.text)
			}
		}
	}
	return c.Validate()
}

func (l localJobs) SetControl(ctx context.Context, in control.JobControl) error {
	// Tried before, for what is wrong with it whatever is set now.
	if err := applyControl(in, &jobs.Control{Func: in.Func}); err != nil {
		return mistake(err)
	}
	var bad error
	err := l.q.SetControl(ctx, in.Func, func(c *jobs.Control) { bad = applyControl(in, c) })
	return errors.Join(err, mistake(bad))
}

// listedArg is how much of an argument a listing shows.
const listedArg = 200

func publicJob(r jobs.Record, whole bool) control.Job {
	out := control.Job{
		ID: int64(r.ID), Func: r.Func, State: string(r.State), ArgBytes: len(r.Arg), Unique: r.Unique, Coalesce: r.Coalesce, Key: r.Key,
		Priority: r.Priority, Failures: r.Failures, Inserted: r.InsertTime, RunAfter: r.RunAfter, Started: r.Started, Finished: r.Finished,
		Owner: r.Owner, Status: r.Status, Done: r.Progress.Done, Total: r.Progress.Total, Note: r.Progress.Note, LastError: r.LastErr,
	}
	if r.State == jobs.StateRunning {
		out.LeaseUntil = r.GrabbedUntil
	}
	arg := r.Arg
	if !whole {
		arg = arg[:min(len(arg), listedArg)]
	} else if !utf8.Valid(arg) {
		out.ArgBinary = arg
	}
	out.Arg = strings.ToValidUTF8(string(arg), "\uFFFD")
	for _, e := range r.Errors {
		out.Errors = append(out.Errors, control.JobError(e))
	}
	return out
}

func (l localJobs) List(ctx context.Context, in control.JobFilter) ([]control.Job, error) {
	f, err := jobFilter(in).ForList()
	if err != nil {
		return nil, mistake(err)
	}
	records, err := l.q.List(ctx, f)
	list := make([]control.Job, len(records))
	for i, r := range records {
		list[i] = publicJob(r, false)
	}
	return list, err
}

func (l localJobs) Show(ctx context.Context, id int64) (control.Job, error) {
	r, err := l.q.Show(ctx, jobs.ID(id))
	if errors.Is(err, jobs.ErrNotFound) {
		return control.Job{}, control.NotFound(fmt.Sprintf("job: %d", id))
	}
	return publicJob(r, true), err
}

func (l localJobs) Insert(ctx context.Context, in control.NewJob) (int64, error) {
	j := jobs.Job{
		Func: in.Func, Arg: in.Arg, Unique: in.Unique, Coalesce: in.Coalesce, Key: in.Key, Priority: in.Priority, RunAfter: in.RunAfter,
	}
	if err := j.Validate(); err != nil {
		return 0, mistake(err)
	}
	ids, err := l.q.Insert(ctx, []jobs.Job{j})
	if err != nil {
		return 0, err
	}
	return int64(ids[0]), nil
}

func (l localJobs) Change(ctx context.Context, what string, in control.JobFilter) (int, error) {
	f := jobFilter(in)
	if _, err := f.ForChange(); err != nil {
		return 0, mistake(err)
	}
	switch what {
	case "retry":
		return l.q.Revive(ctx, f)
	case "cancel":
		return l.q.Cancel(ctx, f)
	case "delete":
		return l.q.Delete(ctx, f)
	}
	return 0, mistake(fmt.Errorf("no such change: %s", what))
}

func (l localJobs) Periodics(ctx context.Context) ([]control.PeriodicJob, error) {
	list, err := l.q.Periodics(ctx)
	var out []control.PeriodicJob
	for _, p := range list {
		out = append(out, control.PeriodicJob(p))
	}
	return out, err
}

func (l localJobs) Schedule(ctx context.Context, in control.PeriodicJob) error {
	p := jobs.Periodic(in)
	_, errSpec := cron.Parse(p.Spec)
	_, errZone := cron.Zone(p.Zone)
	if err := errors.Join(p.Validate(), errSpec, errZone); err != nil {
		return mistake(err)
	}
	return l.q.Schedule(ctx, []jobs.Periodic{p})
}

func (l localJobs) Unschedule(ctx context.Context, name string) error {
	if err := l.q.Unschedule(ctx, name); !errors.Is(err, jobs.ErrNotFound) {
		return err
	}
	return control.NotFound("periodic job: " + strconv.Quote(name))
}

// remoteJobs asks a server for what localJobs does.
type remoteJobs struct{ c *store.Client }

func (r remoteJobs) Functions(ctx context.Context) (list []control.JobFunction, err error) {
	err = r.c.Call(ctx, http.MethodGet, "/-/jobs/functions", nil, &list)
	return list, err
}

func (r remoteJobs) List(ctx context.Context, f control.JobFilter) (list []control.Job, err error) {
	err = r.c.Call(ctx, http.MethodGet, "/-/jobs?"+f.Query().Encode(), nil, &list)
	return list, err
}

func (r remoteJobs) Show(ctx context.Context, id int64) (j control.Job, err error) {
	err = r.c.Call(ctx, http.MethodGet, fmt.Sprintf("/-/jobs/%d", id), nil, &j)
	return j, err
}

func (r remoteJobs) Insert(ctx context.Context, j control.NewJob) (int64, error) {
	var out struct{ ID int64 }
	err := r.c.Call(ctx, http.MethodPost, "/-/jobs", j, &out)
	return out.ID, err
}

func (r remoteJobs) Change(ctx context.Context, what string, f control.JobFilter) (int, error) {
	var out struct{ Jobs int }
	err := r.c.Call(ctx, http.MethodPost, "/-/jobs/"+what, f, &out)
	return out.Jobs, err
}

func (r remoteJobs) SetControl(ctx context.Context, c control.JobControl) error {
	return r.c.Call(ctx, http.MethodPost, "/-/jobs/functions", c, nil)
}

func (r remoteJobs) Periodics(ctx context.Context) (list []control.PeriodicJob, err error) {
	err = r.c.Call(ctx, http.MethodGet, "/-/jobs/periodic", nil, &list)
	return list, err
}

func (r remoteJobs) Schedule(ctx context.Context, p control.PeriodicJob) error {
	return r.c.Call(ctx, http.MethodPost, "/-/jobs/periodic", p, nil)
}

func (r remoteJobs) Unschedule(ctx context.Context, name string) error {
	return r.c.Call(ctx, http.MethodDelete, "/-/jobs/periodic?"+url.Values{"name": {name}}.Encode(), nil, nil)
}
