package control

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Jobs is the job queue as operators see it, whatever keeps it. Its errors are answered as 500 unless they were made by
// BadRequest or NotFound.
type Jobs interface {
	Functions(ctx context.Context) ([]JobFunction, error)
	List(ctx context.Context, f JobFilter) ([]Job, error)
	Show(ctx context.Context, id int64) (Job, error)
	// Insert returns the new job's id; 0 if it was folded into another.
	Insert(ctx context.Context, j NewJob) (int64, error)
	// Change does what JobChanges names to the jobs that match, and returns how many they were.
	Change(ctx context.Context, what string, f JobFilter) (int, error)
	SetControl(ctx context.Context, c JobControl) error
	Periodics(ctx context.Context) ([]PeriodicJob, error)
	Schedule(ctx context.Context, p PeriodicJob) error
	Unschedule(ctx context.Context, name string) error
}

// JobChanges is what Change can do.
var JobChanges = [...]string{"retry", "cancel", "delete"}

// JobFilter chooses jobs. Fields that are zero do not restrict.
type JobFilter struct {
	Func     string  `json:"func,omitempty"`
	State    string  `json:"state,omitempty"`
	IDs      []int64 `json:"ids,omitempty"`
	Unique   string  `json:"unique,omitempty"`
	Coalesce string  `json:"coalesce,omitempty"`
	Key      string  `json:"key,omitempty"`
	After    int64   `json:"after,omitempty"`
	Limit    int     `json:"limit,omitempty"`
}

// Job is a job, or the record of one. In a listing Arg is cut after some 200 bytes and Errors is missing.
type Job struct {
	ID         int64      `json:"id"`
	Func       string     `json:"func"`
	State      string     `json:"state"`
	Arg        string     `json:"arg"` // not text: with \ufffd for what is none
	ArgBytes   int        `json:"arg_bytes"`
	ArgBinary  []byte     `json:"arg_base64,omitempty"` // of one job whose argument is not text
	Unique     string     `json:"unique,omitempty"`
	Coalesce   string     `json:"coalesce,omitempty"`
	Key        string     `json:"key,omitempty"`
	Priority   int        `json:"priority"`
	Failures   int        `json:"failures"`
	Inserted   time.Time  `json:"inserted,omitzero"`
	RunAfter   time.Time  `json:"run_after,omitzero"`
	LeaseUntil time.Time  `json:"lease_until,omitzero"`
	Started    time.Time  `json:"started,omitzero"`
	Finished   time.Time  `json:"finished,omitzero"`
	Owner      string     `json:"owner,omitempty"`
	Status     int        `json:"status,omitempty"`
	Done       int64      `json:"progress_done,omitempty"`
	Total      int64      `json:"progress_total,omitempty"`
	Note       string     `json:"progress_note,omitempty"`
	LastError  string     `json:"last_error,omitempty"`
	Errors     []JobError `json:"errors,omitempty"`
}

// JobError is one failure of a job.
type JobError struct {
	Time    time.Time `json:"time"`
	Message string    `json:"message"`
}

// NewJob is a job to be inserted.
type NewJob struct {
	Func     string    `json:"func"`
	Arg      []byte    `json:"arg_base64,omitempty"`
	Unique   string    `json:"unique,omitempty"`
	Coalesce string    `json:"coalesce,omitempty"`
	Key      string    `json:"key,omitempty"`
	Priority int       `json:"priority,omitempty"`
	RunAfter time.Time `json:"run_after,omitzero"`
}

// JobFunction is how many jobs of a function there are, and what has been set for it.
type JobFunction struct {
	Func      string     `json:"func"`
	Ready     int64      `json:"ready"`
	Running   int64      `json:"running"`
	Delayed   int64      `json:"delayed"`
	Dead      int64      `json:"dead"`
	Done      int64      `json:"done"`
	OldestDue time.Time  `json:"oldest_due,omitzero"`
	Control   JobControl `json:"control"`
}

// JobControl is what is set for a function. In a change, fields that are nil stay as they are.
type JobControl struct {
	Func             string  `json:"func"`
	Paused           *bool   `json:"paused,omitempty"`
	MaxRunning       *int    `json:"max_running,omitempty"`
	MaxRunningPerKey *int    `json:"max_running_per_key,omitempty"`
	Rate             *string `json:"rate,omitempty"` // "100/1m"; "" or "none" for none
	RatePerKey       *string `json:"rate_per_key,omitempty"`
	KeepDone         *string `json:"keep_done,omitempty"` // a duration
	KeepDead         *string `json:"keep_dead,omitempty"`
}

// PeriodicJob is a job that is inserted again and again.
type PeriodicJob struct {
	Name     string    `json:"name"`
	Spec     string    `json:"spec"`
	Zone     string    `json:"zone,omitempty"`
	Func     string    `json:"func"`
	Arg      []byte    `json:"arg_base64,omitempty"`
	Priority int       `json:"priority,omitempty"`
	Key      string    `json:"key,omitempty"`
	Next     time.Time `json:"next,omitzero"`
	Last     time.Time `json:"last,omitzero"`
}

// BadRequest and NotFound make errors that are the client's mistake.
func BadRequest(err error) error { return &inputError{http.StatusBadRequest, err.Error()} }

// NotFound: see BadRequest.
func NotFound(what string) error { return &inputError{http.StatusNotFound, "no such " + what} }

// WithJobs serves the calls below /-/jobs and leaves all others to next.
func WithJobs(next http.Handler, j Jobs) http.Handler {
	a := &jobsAPI{j}
	mux := http.NewServeMux()
	for pattern, f := range map[string]func(*http.Request) (any, error){
		"GET /-/jobs":             a.list,
		"POST /-/jobs":            a.insert,
		"GET /-/jobs/{id}":        a.show,
		"POST /-/jobs/{change}":   a.change,
		"GET /-/jobs/functions":   a.functions,
		"POST /-/jobs/functions":  a.setControl,
		"GET /-/jobs/periodic":    a.periodics,
		"POST /-/jobs/periodic":   a.schedule,
		"DELETE /-/jobs/periodic": a.unschedule,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			answer, err := f(r)
			reply(w, answer, err)
		})
	}
	mux.Handle("/", next)
	return mux
}

type jobsAPI struct{ jobs Jobs }

func (a *jobsAPI) functions(r *http.Request) (any, error) {
	return nonNil(a.jobs.Functions(r.Context()))
}

func (a *jobsAPI) periodics(r *http.Request) (any, error) {
	return nonNil(a.jobs.Periodics(r.Context()))
}

// nonNil makes an empty list [] rather than null.
func nonNil[T any](list []T, err error) (any, error) {
	if list == nil {
		list = []T{}
	}
	return list, err
}

func (a *jobsAPI) list(r *http.Request) (any, error) {
	f, err := parseJobFilter(r.URL.Query())
	if err != nil {
		return nil, err
	}
	return nonNil(a.jobs.List(r.Context(), f))
}

// Query writes the filter as parameters of GET /-/jobs, which has no IDs.
func (f JobFilter) Query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"func": f.Func, "state": f.State, "unique": f.Unique, "coalesce": f.Coalesce, "key": f.Key} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.After != 0 {
		q.Set("after", strconv.FormatInt(f.After, 10))
	}
	if f.Limit != 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	return q
}

// parseJobFilter reads what Query writes. A parameter that does not exist is a mistake: it was meant to restrict.
func parseJobFilter(q url.Values) (f JobFilter, err error) {
	for name, values := range q {
		value := values[0]
		switch name {
		case "func":
			f.Func = value
		case "state":
			f.State = value
		case "unique":
			f.Unique = value
		case "coalesce":
			f.Coalesce = value
		case "key":
			f.Key = value
		case "after":
			f.After, err = strconv.ParseInt(value, 10, 64)
		case "limit":
			f.Limit, err = strconv.Atoi(value)
		default:
			return f, badf("no such parameter: %q", name)
		}
		if err != nil {
			return f, badf("%s: not a number: %q", name, value)
		}
	}
	return f, nil
}

func (a *jobsAPI) show(r *http.Request) (any, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id <= 0 {
		return nil, badf("not the id of a job: %q", r.PathValue("id"))
	}
	return a.jobs.Show(r.Context(), id)
}

// maxJob bounds the JSON of a new job: an argument of 16 MiB in base64, and the rest.
const maxJob = 24 << 20

func (a *jobsAPI) insert(r *http.Request) (any, error) {
	var in NewJob
	if err := inputUpTo(r, maxJob, &in); err != nil {
		return nil, err
	}
	id, err := a.jobs.Insert(r.Context(), in)
	return map[string]int64{"id": id}, err
}

func (a *jobsAPI) change(r *http.Request) (any, error) {
	var f JobFilter
	if err := inputUpTo(r, maxJob, &f); err != nil {
		return nil, err
	}
	for _, what := range JobChanges {
		if what == r.PathValue("change") {
			n, err := a.jobs.Change(r.Context(), what, f)
			return map[string]int{"jobs": n}, err
		}
	}
	return nil, NotFound("call: " + r.Method + " " + r.URL.Path)
}

func (a *jobsAPI) setControl(r *http.Request) (any, error) {
	var c JobControl
	if err := input(r, &c); err != nil {
		return nil, err
	}
	return nil, a.jobs.SetControl(r.Context(), c)
}

func (a *jobsAPI) schedule(r *http.Request) (any, error) {
	var p PeriodicJob
	if err := inputUpTo(r, maxJob, &p); err != nil {
		return nil, err
	}
	return nil, a.jobs.Schedule(r.Context(), p)
}

func (a *jobsAPI) unschedule(r *http.Request) (any, error) {
	return nil, a.jobs.Unschedule(r.Context(), r.FormValue("name"))
}
