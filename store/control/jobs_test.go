package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"wheelhouse/store/control"
)

// fakeJobs is one job, with the id 7, and remembers what was asked for.
type fakeJobs struct{ asked string }

func (f *fakeJobs) Functions(context.Context) ([]control.JobFunction, error) { return nil, nil }

func (f *fakeJobs) List(_ context.Context, k control.JobFilter) ([]control.Job, error) {
	f.asked = fmt.Sprintf("list %+v", k)
	if k.State == "broken" {
		return nil, errors.New("disk full")
	}
	return []control.Job{{ID: 7, Func: "f", Arg: "x"}}, nil
}

func (f *fakeJobs) Show(_ context.Context, id int64) (control.Job, error) {
	if id != 7 {
		return control.Job{}, control.NotFound(fmt.Sprint("job: ", id))
	}
	return control.Job{ID: 7}, nil
}

func (f *fakeJobs) Insert(_ context.Context, j control.NewJob) (int64, error) {
	f.asked = fmt.Sprintf("insert %s %d bytes", j.Func, len(j.Arg))
	return 7, nil
}

func (f *fakeJobs) Change(_ context.Context, what string, k control.JobFilter) (int, error) {
	f.asked = fmt.Sprintf("%s %v %s", what, k.IDs, k.Func)
	if k.Func == "" && len(k.IDs) == 0 {
		return 0, control.BadRequest(errors.New("restricts nothing"))
	}
	return 3, nil
}

func (f *fakeJobs) SetControl(_ context.Context, c control.JobControl) error {
	f.asked = fmt.Sprintf("control %s %v %v", c.Func, *c.MaxRunning, c.Paused)
	return nil
}

func (f *fakeJobs) Periodics(context.Context) ([]control.PeriodicJob, error) { return nil, nil }

func (f *fakeJobs) Schedule(_ context.Context, p control.PeriodicJob) error {
	f.asked = "schedule " + p.Name
	return nil
}

func (f *fakeJobs) Unschedule(_ context.Context, name string) error {
	f.asked = "unschedule " + name
	return nil
}

func TestJobs(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })
	for _, tt := range []struct {
		method, path, body string
		status             int
		want, asked        string
	}{
		{"GET", "/-/jobs?func=f&state=dead&after=5&limit=9&key=k&unique=u&coalesce=c", "", 200, `"arg":"x"`, "list {Func:f State:dead IDs:[] Unique:u Coalesce:c Key:k After:5 Limit:9}"},
		{"GET", "/-/jobs?fun=f", "", 400, `no such parameter: \"fun\"`, ""},
		{"GET", "/-/jobs?limit=x", "", 400, "limit: not a number", ""},
		{"GET", "/-/jobs?state=broken", "", 500, "disk full", "list {Func: State:broken IDs:[] Unique: Coalesce: Key: After:0 Limit:0}"},
		{"GET", "/-/jobs/7", "", 200, `"id":7`, ""},
		{"GET", "/-/jobs/8", "", 404, "no such job: 8", ""},
		{"GET", "/-/jobs/x", "", 400, "not the id of a job", ""},
		{"GET", "/-/jobs/functions", "", 200, "[]", ""},
		{"GET", "/-/jobs/periodic", "", 200, "[]", ""},
		{"POST", "/-/jobs", `{"func":"f","arg_base64":"eHl6"}`, 200, `"id":7`, "insert f 3 bytes"},
		{"POST", "/-/jobs", `{"func":"f","arg_base64":"` + strings.Repeat("A", 24<<20) + `"}`, 400, "too large", ""},
		{"POST", "/-/jobs", `{"function":"f"}`, 400, "unknown field", ""},
		{"POST", "/-/jobs/retry", `{"ids":[1,2]}`, 200, `"jobs":3`, "retry [1 2] "},
		{"POST", "/-/jobs/cancel", `{"func":"f"}`, 200, `"jobs":3`, "cancel [] f"},
		{"POST", "/-/jobs/delete", `{}`, 400, "restricts nothing", "delete [] "},
		{"POST", "/-/jobs/explode", `{}`, 404, "no such call", ""},
		{"POST", "/-/jobs/functions", `{"func":"f","max_running":3}`, 204, "", "control f 3 <nil>"},
		{"POST", "/-/jobs/periodic", `{"name":"p","spec":"@daily","func":"f"}`, 204, "", "schedule p"},
		{"DELETE", "/-/jobs/periodic?name=a+b", "", 204, "", "unschedule a b"},
		{"GET", "/-/status", "", 418, "", ""},
	} {
		f := new(fakeJobs)
		w := httptest.NewRecorder()
		control.WithJobs(next, f).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, strings.NewReader(tt.body)))
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) || f.asked != tt.asked {
			t.Errorf("%s %.60s %.60s = %d %s, asked %q; want %d with %s, %q", tt.method, tt.path, tt.body, w.Code, w.Body, f.asked, tt.status, tt.want, tt.asked)
		}
		if w.Body.Len() > 0 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s: not JSON: %s", tt.method, tt.path, w.Body)
		}
	}
}
