package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"wheelhouse/store"
)

// A normal installation in trouble fits on a screen of 80 columns and 24 lines, and says what matters.
func TestStatusScreen(t *testing.T) {
	now := time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC)
	s := &store.Status{
		Verdict: store.VerdictDegraded, Totals: store.Totals{Buckets: 4, Objects: 1_234_567_890, Bytes: 340 << 40, Missing: 1204, DeletedObjects: 99},
		Clusters: []store.ClusterStatus{{ID: 1, Name: "main", Mode: "rw", InForce: "ro"}, {ID: 2, Name: "new", Mode: "rw", InForce: "rw"}},
		Queue:    map[string]store.QueueStats{"replicate": {Ready: 1200, Running: 4}, "repair_object": {Failed: 2}, "idle": {}},
		Problems: []store.Problem{
			{
				Severity: store.VerdictDegraded, What: "storage 2 is down for 12m: dial tcp 10.0.0.7:7500: connect: " + strings.Repeat("connection refused ", 9) + "it belongs to storage 3",
				Do: "look at its machine; it is back by itself as soon as it answers, and declared dead in 11h48m; " + strings.Repeat("words ", 20),
			},
			{Severity: store.VerdictDegraded, What: "storage 2 is owed 1204 entities", Do: "it is caught up with as soon as it can be written"},
		},
		Operations: []store.OperationStatus{{ID: 7, Kind: "rebuild", Target: "storage 3", State: "running", Bytes: 41 << 30, TotalBytes: 100 << 30, Rate: 120 << 20, LeftSeconds: 500}},
	}
	for i := range 6 {
		s.Storages = append(s.Storages, store.StorageStatus{
			ID: store.StorageID(i + 1), Cluster: store.ClusterID(i/3 + 1), Mode: "rw", Capacity: 4 << 40, Used: int64(i) << 38,
		})
	}
	s.Storages[1].Mode, s.Storages[1].Owed, s.Storages[1].DownSince, s.Storages[1].Reason = "down", 1204, now.Add(-12*time.Minute), "no\nanswer"+strings.Repeat(" at all", 20)
	s.Lookups = &store.LookupStatus{
		Servers: []store.LookupServer{{Addr: "10.0.0.5:11211", State: "in"}, {Addr: "/run/cache.sock", State: "out"}}, Hits: 97, Misses: 2, Failures: 1,
	}
	text := statusScreen{now: now}.draw(s)
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) > 24 {
		t.Errorf("%d lines", len(lines))
	}
	for _, line := range lines {
		if n := len([]rune(line)); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
		if strings.ContainsRune(line, '\033') {
			t.Errorf("colour without a terminal: %q", line)
		}
	}
	if !strings.HasPrefix(text, "DEGRADED  storage 2 is down") {
		t.Errorf("the first line: %s", lines[0])
	}
	for _, want := range []string{
		"(and 1 more)", "\n! storage 2 is down for 12m: dial tcp 10.0.0.7:7500:", "it belongs to storage 3\n", "1204 entities owed", "CLUSTER 1 main  ro (set rw; others take the writes)", "CLUSTER 2 new  rw\n", "owed 1204", "since ",
		"replicate 1200 ready, 4 running", "repair_object 2 failed", "CACHES 1 of 2 in use, 97% hits; /run/cache.sock out; 10.0.0.5:11211 in\n",
		"7 rebuild storage 3 [####........] 41%  120 MiB/s  8:20 left",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	s.Clusters[1].InForce = "ro"
	if text := (statusScreen{now: now}).draw(s); strings.Contains(text, "others take") || !strings.Contains(text, "CLUSTER 2 new  ro (set rw; it cannot take any writes)") {
		t.Errorf("with no cluster that takes writes:\n%s", text)
	}
	if !strings.Contains((statusScreen{colour: true, now: now}).draw(s), yellow+"DEGRADED"+plain) {
		t.Error("no colour on a terminal")
	}
}

// Full disks: a write says so, and status that nothing can be written.
func TestUpOnFullDisks(t *testing.T) {
	p := start(t, upArgs(t.TempDir(), "--set", "disk.min_free=1000 TiB")...)
	url := p.ready["http"]
	createBucket(t, url)
	for _, size := range []int{10, 3 << 20} {
		if status, err := request(http.DefaultClient, "PUT", url+"/b/o", make([]byte, size)); err != nil || status != http.StatusInsufficientStorage {
			t.Errorf("PUT of %d bytes = %d, %v", size, status, err)
		}
	}
	eventually(t, "status says that nothing can be written", func() bool {
		s := statusOf(t, url)
		return s.Verdict == store.VerdictCritical && strings.HasSuffix(s.Problems[0].What, "the storages are full")
	})
}
