package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"wheelhouse/store"
)

// operation asks for one.
func (s *parts) operation(id string) store.OperationStatus {
	s.t.Helper()
	status, out, errOut := runOnce(s.t, "operation", "show", "--json", "--server", s.url, id)
	if status != 0 {
		s.t.Fatal(errOut)
	}
	var op store.OperationStatus
	if err := json.Unmarshal([]byte(out), &op); err != nil {
		s.t.Fatal(err)
	}
	return op
}

func (s *parts) run(args ...string) string {
	s.t.Helper()
	status, out, errOut := runOnce(s.t, append(args, "--server", s.url)...)
	if status != 0 {
		s.t.Fatalf("%s: %d\n%s%s", strings.Join(args, " "), status, out, errOut)
	}
	return out
}

// A disk is lost and replaced under load; the worker that fills the new one is killed half-way. In the end the new disk
// alone gives every object, byte for byte.
func TestRebuildOfALostDisk(t *testing.T) {
	t.Parallel()
	s := startParts(t)
	l := newLoad(t, func() string { return s.url })
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { l.run(4, stop) })
	eventually(t, "some objects are stored", func() bool { return l.count() > 300 })

	s.running["storaged2"].kill()
	if err := os.RemoveAll(filepath.Join(s.dir, "disks", "2")); err != nil {
		t.Fatal(err)
	}
	enough := l.count() + 50
	eventually(t, "requests go on without the disk", func() bool { return l.count() >= enough })
	s.start("storaged2") // a new disk, empty

	s.run("operation", "limit", "rebuild.bytes", "20kB")
	out := s.run("storage", "rebuild", "2", "--no-wait")
	id := strings.TrimSpace(strings.TrimPrefix(out, "operation "))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%+v\n%s", s.operation(id), s.run("storage", "list"))
		}
	})
	if status, _, errOut := runOnce(t, "storage", "rebuild", "2", "--server", s.url); status != 1 || !strings.Contains(errOut, "exists") {
		t.Errorf("a second rebuild: %d %s", status, errOut)
	}
	eventually(t, "the rebuild is under way", func() bool { op := s.operation(id); return op.Bytes > 0 && op.Throttled == "limit" })
	// Those who probe it may take until now to see that it is not down any more.
	eventually(t, "the storage is filling", func() bool { return strings.Contains(s.run("storage", "list"), "filling") })
	// Whoever has it dies.
	owner := s.operation(id).Owner
	for _, name := range []string{"worker1", "worker2"} {
		if strings.Contains(owner, "/"+strconv.Itoa(s.running[name].cmd.Process.Pid)+"/") {
			s.running[name].kill()
		}
	}
	before := s.operation(id)
	s.run("operation", "limit", "rebuild.bytes", "0")
	eventually(t, "the other worker goes on", func() bool {
		op := s.operation(id)
		return op.State != store.OpRunning || op.Owner != owner && op.Owner != ""
	})
	out = s.run("operation", "wait", id)
	if !strings.Contains(out, "done: ") {
		t.Errorf("operation wait: %s", out)
	}
	if after := s.operation(id); after.TotalObjects == 0 || after.Bytes < before.Bytes { // readers may have had all objects repaired before
		t.Errorf("before %+v, after %+v", before, after)
	}
	close(stop)
	running.Wait()
	http.DefaultClient.CloseIdleConnections()

	// Now that one alone, as soon as it has what it was too slow for.
	eventually(t, "nothing is owed", func() bool { return statusOf(t, s.url).Totals.Missing == 0 })
	for _, other := range []string{"1", "3"} {
		s.run("storage", "set-mode", other, "down")
	}
	eventually(t, "the dispatcher knows", func() bool { return strings.Count(s.run("storage", "list"), "down") == 2 })
	s.running["storaged1"].stop()
	s.running["storaged3"].stop()
	l.verify()
	s.start("storaged1")
	s.start("storaged3")
	for _, other := range []string{"1", "3"} {
		s.run("storage", "set-mode", other, "rw")
	}
	eventually(t, "fsck reaches all storages, and finds neither too little nor too much anywhere", func() bool {
		status, out, _ := runOnce(t, "fsck", "--fix", "--server", s.url) // a worker may not know yet that they are back
		return status == 0 && strings.Contains(out, "done: ")
	})
	if out := s.run("fsck", "--json"); !strings.Contains(out, `"problems": 0,`) {
		t.Errorf("fsck: %s", out)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "disks", "2", "packs")); err != nil {
		t.Error(err)
	}
	if out := s.run("operation", "list"); !strings.Contains(out, "rebuild") || !strings.Contains(out, "done") {
		t.Errorf("operation list:\n%s", out)
	}
}
