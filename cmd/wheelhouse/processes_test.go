package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

// rolesOf are the roles of the processes that an installation knows to run.
func rolesOf(s store.Status) (roles []string) {
	for _, p := range s.Processes {
		roles = append(roles, p.Role)
	}
	return roles
}

// Processes know of each other, and of how long clients of the dispatchers wait; doctor tells when they differ.
func TestProcessesKnowEachOther(t *testing.T) {
	s := startParts(t)
	s.running["dispatcher"].stop()
	s.configs["dispatcher"] += "hot_cache = 0\n" // what is read from memory tells nothing of the storages
	s.start("dispatcher")
	all := []string{"dispatcher", "worker", "worker"}
	eventually(t, "all processes are known", func() bool { return slices.Equal(rolesOf(statusOf(t, s.url)), all) })
	tr := startTraffic(t, s.url, 4, 10_000)
	eventually(t, "the dispatcher tells how long its clients wait", func() bool {
		p := statusOf(t, s.url).Processes[0]
		return p.Role == "dispatcher" && p.Reads > 0 && p.P99 > 0
	})
	tr.verify()
	doctor := func() string {
		_, out, _ := runOnce(t, "doctor", "--server", s.url, "--data", s.dir+"/data")
		return out
	}
	// The dispatcher is counted twice: by what it says of itself, and by what answers at its address.
	if out := doctor(); !strings.Contains(out, "7 processes run devel") {
		t.Errorf("doctor:\n%s", out)
	}
	s.running["worker2"].stop()
	if got := rolesOf(statusOf(t, s.url)); !slices.Equal(got, all[:2]) {
		t.Errorf("after a worker has stopped: %q", got)
	}

	// A process of another version, made for a later catalog.
	cat, err := catalog.OpenSQLite(t.Context(), filepath.Join(s.dir, "data", "catalog.db"), catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Close()
	other := store.Process{Name: "elsewhere/1/x", Role: "worker", Version: "v99", Schema: catalog.SchemaVersion() + 1, Started: time.Now()}
	if err := cat.ReportProcess(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	out := doctor()
	for _, want := range []string{"processes run different programs: devel", "; v99: worker elsewhere/1/x", "made for version "} {
		if !strings.Contains(out, want) {
			t.Errorf("doctor does not say %q:\n%s", want, out)
		}
	}
}

// doctor says when the catalog is of another version than the program.
func TestDoctorSchema(t *testing.T) {
	dir := t.TempDir()
	p := start(t, upArgs(dir)...)
	p.stop()
	for _, tt := range []struct {
		by   int
		want string
	}{{-1, "warn  the catalog is of version "}, {1, "FAIL  the catalog is of version "}} {
		setSchema(t, filepath.Join(dir, "catalog.db"), catalog.SchemaVersion()+tt.by)
		if _, out, _ := runOnce(t, "doctor", "--server", "http://127.0.0.1:1", "--data", dir); !strings.Contains(out, tt.want) {
			t.Errorf("doctor does not say %q:\n%s", tt.want, out)
		}
	}
}

func setSchema(t *testing.T, path string, version int) {
	t.Helper()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := sqlitex.ExecuteTransient(conn, "UPDATE schema_component SET version=? WHERE name='catalog'", &sqlitex.ExecOptions{Args: []any{version}}); err != nil {
		t.Fatal(err)
	}
}

// The setting that keeps background work from making room for clients is set and listed beside the limits.
func TestYieldSetting(t *testing.T) {
	p := start(t, upArgs(t.TempDir())...)
	url := p.ready["http"]
	limit := func(args ...string) (int, string) {
		status, out, errOut := runOnce(t, slices.Concat([]string{"operation", "limit"}, args, []string{"--server", url})...)
		return status, out + errOut
	}
	if status, out := limit("background.yield", "0"); status != 0 {
		t.Fatalf("%d %s", status, out)
	}
	if _, out := limit(); !strings.Contains(out, "background.yield  0") {
		t.Errorf("the list:\n%s", out)
	}
	for _, bad := range []string{"1", "2000", "x"} {
		if status, out := limit("background.yield", bad); status != 1 || !strings.Contains(out, "how many times longer") {
			t.Errorf("%s: %d %s", bad, status, out)
		}
	}
}
