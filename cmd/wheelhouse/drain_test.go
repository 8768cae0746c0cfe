package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A cluster is emptied into another one under load, and then removed. No read fails, and nothing is lost.
func TestDrainOfACluster(t *testing.T) {
	s := startParts(t)
	l := newLoad(t, func() string { return s.url })
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { l.run(3, stop) })
	eventually(t, "some objects are stored", func() bool { return l.count() > 200 })
	s.addCluster()
	if out := s.run("cluster", "drain", "1"); !strings.Contains(out, "done: ") {
		t.Errorf("cluster drain: %s", out)
	}
	enough := l.count() + 100
	eventually(t, "requests go on", func() bool { return l.count() >= enough })
	close(stop)
	running.Wait()
	http.DefaultClient.CloseIdleConnections()
	l.verify()
	if out := s.run("fsck", "--cluster", "2"); !strings.Contains(out, "done: ") {
		t.Errorf("fsck: %s", out)
	}
	// When what was left behind has been deleted, the cluster can go.
	eventually(t, "the old storages are removed", func() bool {
		for id := 1; id <= 3; id++ {
			status, _, errOut := runOnce(t, "storage", "rm", fmt.Sprint(id), "--server", s.url)
			if status != 0 && !strings.Contains(errOut, "no such storage") {
				return false
			}
		}
		return true
	})
	s.run("cluster", "rm", "1")
	l.verify()
}

func (s *parts) startAs(name, role string) {
	s.t.Helper()
	file := writeFile(s.t, filepath.Join(s.dir, name+".toml"), s.configs[name])
	s.running[name] = start(s.t, role, "--config", file)
}
