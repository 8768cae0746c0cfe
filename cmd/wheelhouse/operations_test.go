package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/internal/freeport"
	"wheelhouse/store"
)

// addCluster gives the installation a second cluster, of storages 4 to 6. From its end on it takes objects.
func (s *parts) addCluster() {
	s.t.Helper()
	// Read-only until it is complete: who knows only two of its storages would write to those alone.
	s.run("cluster", "add", "--name", "second", "--mode", "ro")
	for i := 4; i <= 6; i++ {
		name := fmt.Sprint("storaged", i)
		s.addrs[name] = freeport.ForTest(s.t)
		s.configs[name] = strings.NewReplacer(s.addrs["storaged1"], s.addrs[name], "id = 1\n", fmt.Sprintf("id = %d\n", i),
			filepath.Join(s.dir, "disks", "1"), filepath.Join(s.dir, "disks", fmt.Sprint(i))).Replace(s.configs["storaged1"])
		s.startAs(name, "storaged")
		s.run("storage", "add", "--cluster", "2", "--uri", fmt.Sprintf("http://%s/dev%d", s.addrs[name], i))
	}
	begun := time.Now()
	eventually(s.t, "everybody knows the new storages", func() bool { return time.Since(begun) > 2*time.Second })
	s.run("cluster", "set-mode", "2", "rw")
}

// clean demands that a check finds nothing.
func (s *parts) clean() {
	s.t.Helper()
	eventually(s.t, "nothing is owed or left to be deleted", func() bool {
		t := statusOf(s.t, s.url).Totals
		return t.Missing == 0 && t.DeletedObjects == 0
	})
	last := ""
	defer func() {
		if s.t.Failed() {
			s.t.Log(last)
		}
	}()
	eventually(s.t, "a check finds nothing", func() bool { // the worker may not have heard yet that a storage is back
		_, last, _ = runOnce(s.t, "fsck", "--json", "--server", s.url)
		return strings.Contains(last, `"problems": 0,`)
	})
}

// clusterOf is where an object is.
func (s *parts) clusterOf(name string) store.ClusterID {
	s.t.Helper()
	var o store.ObjectStatus
	c, err := store.NewClient(s.url, store.ClientOptions{})
	if err == nil {
		err = c.Call(s.t.Context(), http.MethodGet, "/-/objects?bucket=b&name="+name, nil, &o)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return o.Cluster
}

// Objects are moved from a full cluster to a new one under load, while the worker that does it is killed. No request fails, and
// each object is in one place.
func TestRebalanceBetweenClusters(t *testing.T) {
	t.Parallel()
	s := startParts(t)
	bodies := putSome(t, s.url, 150, 20_000)
	s.addCluster()
	l := newLoad(t, func() string { return s.url })
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { l.run(2, stop) })
	s.run("operation", "limit", "rebalance.objects", "20")
	out := s.run("cluster", "rebalance", "--from", "1", "--to", "2", "--bytes", "2MB", "--no-wait")
	id := strings.TrimSpace(strings.TrimPrefix(out, "operation "))
	eventually(t, "some are moved", func() bool { return s.operation(id).Objects > 5 })
	owner := s.operation(id).Owner
	for _, name := range []string{"worker1", "worker2"} {
		if strings.Contains(owner, fmt.Sprintf("/%d/", s.running[name].cmd.Process.Pid)) {
			s.running[name].kill()
		}
	}
	s.run("operation", "limit", "rebalance.objects", "0")
	if out := s.run("operation", "wait", id); !strings.Contains(out, "done: ") {
		t.Errorf("operation wait: %s", out)
	}
	close(stop)
	running.Wait()
	http.DefaultClient.CloseIdleConnections()
	moved := 0
	for name := range bodies {
		if s.clusterOf(name) == 2 {
			moved++
		}
	}
	if moved < 50 || moved == len(bodies) { // 2 MB of them, or a little more, and what the load has written
		t.Errorf("%d of %d objects were moved", moved, len(bodies))
	}
	wantBodies(t, s.url, bodies)
	l.verify()
	s.clean()
}

// A storage of which others lack something is emptied into them, and taken out.
func TestDrainOfAStorage(t *testing.T) {
	s := startParts(t)
	s.running["storaged2"].kill() // what is written now only 1 and 3 have
	bodies := putSome(t, s.url, 40, 10_000)
	s.run("storage", "set-mode", "3", "drain")
	s.start("storaged2")
	eventually(t, "storage 2 is back", func() bool { return storageMode(t, s.url, 2) == "rw" })
	if out := s.run("storage", "drain", "3"); !strings.Contains(out, "done: ") {
		t.Errorf("storage drain: %s", out)
	}
	eventually(t, "nothing is owed", func() bool { return statusOf(t, s.url).Totals.Missing == 0 })
	s.run("storage", "set-mode", "3", "dead")
	s.running["storaged3"].stop()
	s.run("storage", "rm", "3")
	if err := os.RemoveAll(filepath.Join(s.dir, "disks", "3")); err != nil {
		t.Fatal(err)
	}
	wantBodies(t, s.url, bodies)
	// Storage 2 alone has everything, too.
	s.run("storage", "set-mode", "1", "down")
	s.running["storaged1"].stop()
	wantBodies(t, s.url, bodies)
	s.start("storaged1")
	s.run("storage", "set-mode", "1", "rw")
	s.clean()
}

// A delete log that is lost, or with the index everything that tells what was deleted: nobody can read what was deleted, a rebuild
// from that storage does not spread it for good, and a check that mends removes it.
func TestLostDeleteLog(t *testing.T) {
	t.Parallel()
	for _, lost := range [][]string{{".del"}, {".del", ".idx"}} {
		t.Run(strings.Join(lost, ","), func(t *testing.T) {
			dir := t.TempDir()
			args := surviveArgs(dir)
			p := start(t, args...)
			url := p.ready["http"]
			again := func() { p = start(t, append(args, "--listen", strings.TrimPrefix(url, "http://"))...) }
			createBucket(t, url)
			bodies := putSome(t, url, 30, 30_000)
			gone := map[string]store.ObjectID{}
			for i := range 12 {
				name := fmt.Sprint("o", i)
				gone[name] = objectID(t, url, name)
				if status, err := request(http.DefaultClient, "DELETE", url+"/b/"+name, nil); err != nil || status != 204 {
					t.Fatal(status, err)
				}
				delete(bodies, name)
			}
			eventually(t, "the deleted ones are gone from the storages", func() bool { return entities(t, url) == 3*len(bodies) })
			p.stop()
			for _, ext := range lost {
				removePacks(t, filepath.Join(dir, "storage", "1"), ext)
			}
			again()
			hidden := func() {
				t.Helper()
				for name := range gone {
					if status, _, err := fetchSum(url + "/b/" + name); err != nil || status != 404 {
						t.Errorf("GET of the deleted %s = %d, %v", name, status, err)
					}
				}
				wantBodies(t, url, bodies)
			}
			hidden()

			// Storage 2 is filled from the one that does not know.
			must(t, "storage", "set-mode", "2", "down", "--server", url)
			p.stop()
			if err := os.RemoveAll(filepath.Join(dir, "storage", "2")); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(dir, "storage", "2"), 0o755); err != nil {
				t.Fatal(err)
			}
			again()
			must(t, "storage", "rebuild", "2", "--from", "1", "--server", url)
			hidden()
			must(t, "fsck", "--fix", "--server", url)
			eventually(t, "the storages hold what there is, and no more", func() bool { return entities(t, url) == 3*len(bodies) })
			p.stop()
			again() // nor does it come back with the next start
			hidden()
			if got := entities(t, url); got != 3*len(bodies) {
				t.Errorf("%d entities; want %d", got, 3*len(bodies))
			}
			for _, s := range statusOf(t, url).Storages {
				for name, id := range gone {
					if status, _, err := fetchSum(s.URI + "/" + store.EntityPath(id)); err != nil || status != 404 {
						t.Errorf("storage %d gives the deleted %s: %d, %v", s.ID, name, status, err)
					}
				}
			}
			if out := must(t, "fsck", "--json", "--server", url); !strings.Contains(out, `"problems": 0,`) {
				t.Errorf("fsck: %s", out)
			}
		})
	}
}

func objectID(t *testing.T, url, name string) store.ObjectID {
	t.Helper()
	c, err := store.NewClient(url, store.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var o store.ObjectStatus
	if err := c.Call(t.Context(), http.MethodGet, "/-/objects?bucket=b&name="+name, nil, &o); err != nil {
		t.Fatal(err)
	}
	return o.ID
}
