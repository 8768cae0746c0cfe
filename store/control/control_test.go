package control_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/catalog"
	"wheelhouse/store/control"
)

// nowhere is a fleet whose storages cannot be reached.
type nowhere struct{}

func (nowhere) Device(*store.Storage) store.Device { return unreachable{} }

type unreachable struct{ store.Device }

func (unreachable) Manifest(context.Context, store.ObjectID, store.ObjectID, int) ([]store.ManifestEntry, error) {
	return nil, store.ErrAbsent
}

func (unreachable) Stat(context.Context, store.ObjectID) (store.EntityInfo, error) {
	return store.EntityInfo{}, context.DeadlineExceeded
}

// openCatalog makes an empty catalog, which is closed at the test's end.
func openCatalog(t *testing.T, o catalog.Options) *catalog.SQLite {
	t.Helper()
	cat, err := catalog.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cat.Close() })
	return cat
}

// Each call, in an order in which they build on each other.
func TestCalls(t *testing.T) {
	cat := openCatalog(t, catalog.Options{})
	queue := func(context.Context) (map[string]store.QueueStats, error) {
		return map[string]store.QueueStats{"replicate": {Ready: 3}}, nil
	}
	h := control.Handler(cat, nowhere{}, queue, control.Options{})
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/-/clusters", `{"name":"main"}`, 200, `"id":1`},
		{"POST", "/-/clusters", `{"name":"x","mode":"odd"}`, 400, "want one of"},
		{"POST", "/-/clusters", `{"nonsense":1}`, 400, "unknown field"},
		{"POST", "/-/clusters", `{`, 400, "not the JSON"},
		{"POST", "/-/clusters", `null`, 400, "it is no object"},
		{"POST", "/-/clusters", `["x"]`, 400, "it is no object"},
		{"POST", "/-/clusters", `{"name":"x"} {"name":"y"}`, 400, "something behind it"},
		{"POST", "/-/clusters", ``, 400, "not the JSON"},
		{"POST", "/-/storages", `{"cluster":1,"uri":"http://10.0.0.1:7500/dev1/"}`, 200, `"uri":"http://10.0.0.1:7500/dev1"`},
		{"POST", "/-/storages", `{"cluster":1,"uri":"http://10.0.0.1:7500/dev1"}`, 409, "exists"},
		{"POST", "/-/storages", `{"cluster":9,"uri":"http://10.0.0.1:7500/dev2"}`, 404, "no such cluster"},
		{"POST", "/-/storages", `{"cluster":1,"uri":"file:///x"}`, 400, "want http"},
		{"POST", "/-/storages", `{"cluster":1,"uri":"http://10.0.0.1:7500/"}`, 400, "want http"},
		{"POST", "/-/storages", `{"cluster":1,"uri":"http://10.0.0.1:7500/dev07"}`, 400, "want http"},
		{"POST", "/-/storages", `{"cluster":1,"id":4,"uri":"http://10.0.0.1:7500/dev3"}`, 400, "storage 3, not of storage 4"},
		{"POST", "/-/storages", `{"cluster":1,"uri":"http://10.0.0.2:7500/dev1"}`, 409, "storage 1, at http://10.0.0.1:7500/dev1"},
		{"GET", "/-/storages", "", 200, `"mode":"rw"`},
		// The new address of one that is there changes nothing else.
		{"POST", "/-/clusters", `{"name":"second"}`, 200, `"id":2`},
		{"POST", "/-/storages", `{"cluster":2,"uri":"http://10.0.0.1:7500/dev8","mode":"drain"}`, 200, `"mode":"drain"`},
		{"POST", "/-/storages", `{"id":8,"uri":"http://10.0.0.3:7500/dev8"}`, 200, `"cluster":2,"uri":"http://10.0.0.3:7500/dev8","mode":"drain"`},
		{"POST", "/-/storages", `{"id":8,"uri":"http://10.0.0.3:7500/dev8","mode":"dead"}`, 200, `"cluster":2,"uri":"http://10.0.0.3:7500/dev8","mode":"dead"`},
		{"DELETE", "/-/storages/8", "", 204, ""},
		{"DELETE", "/-/clusters/2", "", 204, ""},
		{"POST", "/-/storages/1/mode", `{"Mode":"ro"}`, 200, `"id":1,"cluster":1,"uri":"http://10.0.0.1:7500/dev1","mode":"ro"`},
		{"POST", "/-/storages/x/mode", `{"Mode":"ro"}`, 400, "not an id"},
		{"POST", "/-/storages/5/mode", `{"Mode":"ro"}`, 404, "no such storage"},
		{"GET", "/-/clusters", "", 200, `"storages":[1]`},
		{"DELETE", "/-/clusters/1", "", 409, "in use"},
		{"POST", "/-/classes", `{"name":"careful","min_durable":3}`, 200, ""},
		{"POST", "/-/classes", `{"name":"","min_durable":3}`, 400, "name"},
		{"POST", "/-/classes", `{"name":"x","min_durable":99}`, 400, "min_durable"},
		{"GET", "/-/classes", "", 200, `"careful"`},
		{"POST", "/-/accounts", `{"name":"alice","role":"write"}`, 200, `"id":1`},
		{"POST", "/-/accounts", `{"name":"alice","role":"write"}`, 409, ""},
		{"POST", "/-/accounts", `{"name":"bob","role":"king"}`, 400, "want read, write or admin"},
		{"POST", "/-/accounts/1/keys", "", 200, `"secret":`},
		{"POST", "/-/accounts/9/keys", "", 404, "no such account"},
		{"GET", "/-/accounts/1/keys", "", 200, `"id":`},
		{"GET", "/-/accounts", "", 200, "alice"},
		{"POST", "/-/operations", `{"kind":"fsck","options":{"fix":true}}`, 200, `"target":"everything"`},
		{"POST", "/-/operations", `{"kind":"fsck"}`, 409, "operation 1"},
		{"POST", "/-/operations", `{"kind":"nonsense"}`, 400, "want one of"},
		{"POST", "/-/operations", `{"kind":"rebuild","storage":1}`, 409, "no sibling that can be read"},
		{"POST", "/-/operations", `{"kind":"rebuild","storage":77}`, 404, "no such storage"},
		{"POST", "/-/operations", `{"kind":"rebuild","cluster":1}`, 400, "rebuild takes a storage"},
		{"POST", "/-/operations", `{"kind":"drain","storage":1}`, 409, "drain its cluster"},
		{"POST", "/-/operations", `{"kind":"fsck","bucket":"none"}`, 404, "no such bucket"},
		{"POST", "/-/operations", `{"kind":"scrub","storage":1}`, 200, `"target":"storage 1"`},
		{"GET", "/-/operations", "", 200, `"options":{"fix":true}`},
		{"GET", "/-/operations?limit=x", "", 400, "not a positive number"},
		{"GET", "/-/operations/1", "", 200, `"state":"running"`},
		{"GET", "/-/operations/1/problems", "", 200, `[]`},
		{"GET", "/-/operations/99", "", 404, "no such operation"},
		{"POST", "/-/operations/1/state", `{"State":"done"}`, 400, "want running, paused or cancelled"},
		{"POST", "/-/operations/1/state", `{"State":"paused"}`, 204, ""},
		{"GET", "/-/operations/1", "", 200, `"state":"paused"`},
		{"POST", "/-/operations/1/state", `{"State":"cancelled"}`, 204, ""},
		{"POST", "/-/operations/1/state", `{"State":"running"}`, 409, "cancelled"},
		{"GET", "/-/status", "", 200, `"operations":[`},
		{"POST", "/-/settings", `{"key":"limit.rebuild.bytes","value":"fast"}`, 400, "want a number"},
		{"POST", "/-/settings", `{"key":"limit.nothing.bytes","value":"1"}`, 400, "kinds are"},
		{"POST", "/-/settings", `{"key":"limit.rebuild.bytes","value":"50MB"}`, 204, ""},
		{"GET", "/-/settings", "", 200, `"limit.rebuild.bytes":"50MB"`},
		{"POST", "/-/settings", `{"key":"limit.rebuild.bytes","value":""}`, 204, ""},
		{"DELETE", "/-/keys/none", "", 404, "no such account or key"},
		{"POST", "/-/buckets/none/owner", `{"Account":1}`, 404, "no such bucket"},
		{"GET", "/-/objects?bucket=b&name=o", "", 404, "no such bucket"},
		{"POST", "/-/settings", `{"Key":"a","Value":"1"}`, 204, ""},
		{"POST", "/-/settings", `{"Value":"1"}`, 400, "no key"},
		{"GET", "/-/settings", "", 200, `{"a":"1"}`},
		{"GET", "/-/status", "", 200, `"replicate":{"ready":3`},
		{"GET", "/-/nonsense", "", 404, "no such call: GET /-/nonsense"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, strings.NewReader(tt.body)))
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s %s = %d %s; want %d with %s", tt.method, tt.path, tt.body, w.Code, w.Body, tt.status, tt.want)
		}
		if w.Code != http.StatusNoContent && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s: not JSON: %s", tt.method, tt.path, w.Body)
		}
	}
}

// Secrets are told when a key is made and never again.
func TestSecretsAreToldOnce(t *testing.T) {
	cat := openCatalog(t, catalog.Options{})
	a, err := cat.CreateAccount(t.Context(), store.Account{Name: "a", Role: store.RoleRead})
	if err != nil {
		t.Fatal(err)
	}
	k := control.NewKey(a.ID)
	if len(k.ID) != 20 || len(k.Secret) != 40 || control.NewKey(a.ID).Secret == k.Secret {
		t.Errorf("NewKey = %+v", k)
	}
	if err := cat.PutKey(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	control.Handler(cat, nowhere{}, nil, control.Options{}).ServeHTTP(w, httptest.NewRequest("GET", "/-/accounts/1/keys", nil))
	if !strings.Contains(w.Body.String(), k.ID) || strings.Contains(w.Body.String(), k.Secret) {
		t.Errorf("keys: %s", w.Body)
	}
}

// Backups that stay out are told of after two intervals; a catalog that was restored says so for as long as it holds.
func TestCatalogProblems(t *testing.T) {
	cat := openCatalog(t, catalog.Options{})
	now := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	queue := func(context.Context) (map[string]store.QueueStats, error) { return nil, nil }
	h := control.Handler(cat, nowhere{}, queue, control.Options{BackupEvery: time.Hour, Now: func() time.Time { return now }})
	problem := func(text string) *store.Problem {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/-/status", nil))
		var s store.Status
		if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		for _, p := range s.Problems {
			if strings.Contains(p.What, text) {
				return &p
			}
		}
		return nil
	}
	now = now.Add(2 * time.Hour)
	if p := problem("backup"); p != nil {
		t.Errorf("two hours after the start: %+v", p)
	}
	now = now.Add(time.Second)
	if p := problem("there is no backup of the catalog"); p == nil || p.Severity != store.VerdictDegraded {
		t.Errorf("without any: %+v", p)
	}
	cluster, err := cat.PutCluster(t.Context(), store.Cluster{Name: "main"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := cat.CreateBucket(t.Context(), store.Bucket{Name: store.CatalogBucket})
	if err != nil {
		t.Fatal(err)
	}
	id, err := cat.LeaseIDs(t.Context(), "test", 10)
	if err != nil {
		t.Fatal(err)
	}
	for i, age := range []time.Duration{3 * time.Hour, time.Hour} {
		o := store.Object{ID: id + store.ObjectID(i), Bucket: b.ID, Name: store.BackupName(now.Add(-age)), Cluster: cluster, Size: 1, Created: now}
		if _, err := cat.Commit(t.Context(), store.Commit{Object: o}); err != nil {
			t.Fatal(err)
		}
	}
	if p := problem("backup"); p != nil {
		t.Errorf("an hour after the newest: %+v", p)
	}
	now = now.Add(90 * time.Minute)
	if p := problem("the newest backup of the catalog is 2h30m old; there should be one every 1h00m"); p == nil {
		t.Error("two and a half hours after the newest it says nothing")
	}
	if p := problem("restored"); p != nil {
		t.Errorf("not restored: %+v", p)
	}
	if err := cat.Fence(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	if p := problem("was restored from a backup"); p == nil || p.Severity != store.VerdictHealthy || !strings.Contains(p.Do, "catalog readopt") {
		t.Errorf("restored: %+v", p)
	}
	if err := cat.Unfence(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := problem("restored"); p != nil {
		t.Errorf("readopted: %+v", p)
	}
}

// What keeps processes from their work is told: that the catalog takes no changes, that no worker runs, that repairs fail.
func TestStatusOfProcesses(t *testing.T) {
	now := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	cat := openCatalog(t, catalog.Options{Now: clock})
	var waiting map[string]store.QueueStats
	queue := func(context.Context) (map[string]store.QueueStats, error) { return waiting, nil }
	var refused error
	options := control.Options{Now: clock, Changes: func() error { return refused }}
	split := control.Handler(cat, nowhere{}, queue, options)
	options.Worker = true
	alone := control.Handler(cat, nowhere{}, queue, options)
	wantOf := func(what string, h http.Handler, want string) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/-/status", nil))
		var s store.Status
		if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range s.Problems {
			if !strings.Contains(p.What, "no cluster takes objects") { // there is none
				got = append(got, p.Severity+" "+p.What+": "+p.Do)
			}
		}
		if text := strings.Join(got, "\n"); (text == "") != (want == "") || !strings.Contains(text, want) {
			t.Errorf("%s: %q; want %q", what, text, want)
		}
	}
	wantOf("just begun", split, "")
	now = now.Add(store.ProcessWindow + time.Second)
	wantOf("no worker", split, "degraded no worker runs")
	wantOf("no other worker", alone, "")
	if err := cat.ReportProcess(t.Context(), store.Process{Name: "w", Role: "worker"}); err != nil {
		t.Fatal(err)
	}
	wantOf("a worker", split, "")
	waiting = map[string]store.QueueStats{store.TaskRepairObject: {Ready: 1, Delayed: 2}}
	wantOf("repairs that failed", split, "degraded 2 repairs of entities have failed and are tried again: see why: wheelhouse jobs list --func repair_object")
	waiting = nil
	refused = fmt.Errorf("%w: the disk is full", store.ErrNoChanges)
	now = now.Add(store.ProcessWindow + time.Second)
	for _, h := range []http.Handler{split, alone} {
		wantOf("no changes", h, "critical the catalog takes no changes: nothing can be stored or deleted: the disk is full")
	}
}

// When the storages are full nothing can be written, which is critical, and status says what to do.
func TestStatusOfFullStorages(t *testing.T) {
	cat := openCatalog(t, catalog.Options{TopologyAge: time.Nanosecond})
	cluster, err := cat.PutCluster(t.Context(), store.Cluster{Name: "main"})
	if err != nil {
		t.Fatal(err)
	}
	queue := func(context.Context) (map[string]store.QueueStats, error) { return nil, nil }
	h := control.Handler(cat, nowhere{}, queue, control.Options{})
	for i := range 3 {
		uri := "http://10.0.0.1:7500/dev" + strconv.Itoa(i+1)
		if _, err := cat.PutStorage(t.Context(), store.Storage{Cluster: cluster, URI: uri, Capacity: 1000, Used: 500}); err != nil {
			t.Fatal(err)
		}
	}
	for full, want := range []string{store.VerdictHealthy, store.VerdictDegraded, store.VerdictCritical, store.VerdictCritical} {
		if full > 0 {
			if err := cat.SetStorageUsage(t.Context(), store.StorageID(full), 1000, 1000); err != nil {
				t.Fatal(err)
			}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/-/status", nil))
		var s store.Status
		if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		says := len(s.Problems) > 0 && s.Problems[0].What == "no cluster takes objects of class default: the storages are full" &&
			strings.Contains(s.Problems[0].Do, "cluster add")
		if s.Verdict != want || says != (full > 1) {
			t.Errorf("%d of 3 storages are full: %s, %+v", full, s.Verdict, s.Problems)
		}
	}
	if _, err := cat.PutCluster(t.Context(), store.Cluster{ID: cluster, Name: "main", Mode: store.ClusterRetire}); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/-/status", nil))
	if !strings.Contains(w.Body.String(), "no cluster takes objects of class default: none is rw") {
		t.Errorf("with a retired cluster alone: %s", w.Body)
	}
}

// A storage that may lack something does not count as complete because an operator says so.
func TestModeOfIncompleteStorage(t *testing.T) {
	const dead, filling, spare, rw, ro, drain, down = store.ModeDead, store.ModeFilling, store.ModeSpare, store.ModeRW, store.ModeRO, store.ModeDrain, store.ModeDown
	const refused = store.StorageMode(99)
	for _, tt := range []struct{ was, sibling, asked, want store.StorageMode }{
		{rw, rw, down, down},
		{down, rw, rw, rw},
		{drain, rw, rw, rw},
		{dead, rw, rw, filling},
		{dead, down, ro, filling},
		{dead, rw, drain, filling},
		{dead, rw, spare, spare},
		{dead, rw, down, refused},
		{filling, rw, rw, filling},
		{filling, rw, dead, dead},
		{filling, rw, down, refused},
		{spare, rw, rw, refused},
		{spare, rw, down, down},
		{dead, dead, rw, rw}, // it has what there is
		{filling, filling, rw, rw},
	} {
		t.Run(fmt.Sprintf("%v beside %v to %v", tt.was, tt.sibling, tt.asked), func(t *testing.T) {
			cat := openCatalog(t, catalog.Options{})
			cluster, err := cat.PutCluster(t.Context(), store.Cluster{Name: "main"})
			if err != nil {
				t.Fatal(err)
			}
			for i, mode := range []store.StorageMode{tt.was, tt.sibling} {
				id, err := cat.PutStorage(t.Context(), store.Storage{Cluster: cluster, URI: "http://10.0.0.1:7500/dev" + strconv.Itoa(i+1)})
				if err != nil {
					t.Fatal(err)
				}
				if err := cat.SetStorageMode(t.Context(), id, mode); err != nil {
					t.Fatal(err)
				}
			}
			h := control.Handler(cat, nowhere{}, nil, control.Options{})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("POST", "/-/storages/1/mode", strings.NewReader(`{"Mode":"`+tt.asked.String()+`"}`)))
			top, err := cat.Topology(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, want, status := top.Storages[0].Set, tt.want, 200
			if want == refused {
				want, status = tt.was, 409
			}
			if got != want || w.Code != status || status == 200 && !strings.Contains(w.Body.String(), `"mode":"`+want.String()+`"`) {
				t.Errorf("it is %v, answer %d %s; want %v, %d", got, w.Code, w.Body, want, status)
			}
		})
	}
}
