package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/internal/freeport"
	"wheelhouse/store"
)

// diskChapters are those of docs/ops/disks.md.
var diskChapters = map[string]chapter{
	"A storage does not answer": {after: func(s *site) { s.only("2") }},
	"A disk was not mounted, or was pulled out": {happens: func(s *site) {
		if err := os.Rename(s.disk(2), s.disk(2)+".pulled"); err != nil {
			s.t.Fatal(err)
		}
		eventually(s.t, "it is down", func() bool { return s.mode(2) == "down" })
		s.fill("without storage 2")
		if _, err := os.Stat(s.disk(2)); err == nil {
			s.t.Error("something was written where the disk was")
		}
	}, after: func(s *site) {
		eventually(s.t, "it is back", func() bool { return s.mode(2) == "rw" })
		s.only("2")
	}},
	"A disk died":        {happens: func(s *site) { s.lose(2) }, after: func(s *site) { s.only("2") }},
	"Faster, or slower":  {after: func(s *site) { s.fill("afterwards") }},
	"A spare takes over": {happens: (*site).addSpare, after: func(s *site) { s.only("4") }},
	"A disk is full":     {happens: (*site).noRoom, after: (*site).roomElsewhere},
}

// TestDisksDocument runs the commands of docs/ops/disks.md, chapter by chapter, after what they are for has happened.
func TestDisksDocument(t *testing.T) { playDocument(t, "docs/ops/disks.md", diskChapters) }

func (s *site) status() (all store.Status) {
	s.t.Helper()
	if err := s.client.Call(s.t.Context(), http.MethodGet, "/-/status", nil, &all); err != nil {
		s.t.Fatal(err)
	}
	return all
}

func (s *site) mode(id store.StorageID) string {
	s.t.Helper()
	for _, st := range s.status().Storages {
		if st.ID == id {
			return st.Mode
		}
	}
	return "gone"
}

// addSpare gives the cluster a fourth storage, as a spare. It cannot be promoted before it has everything.
func (s *site) addSpare() {
	s.t.Helper()
	s.stop()
	config, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	writeFile(s.t, s.config, fmt.Sprintf("%s[[storage]]\nid = 4\ndir = %q\n", config, s.disk(4)))
	s.start()
	eventually(s.t, "it is filled, as any new storage", func() bool { return s.mode(4) == "rw" })
	must(s.t, "storage", "set-mode", "4", "dead") // nothing is owed to it
	s.put("first/without", 1000)
	must(s.t, "storage", "set-mode", "4", "spare")
	s.fill("with a spare")
	status, _, errOut := runOnce(s.t, "storage", "promote", "4")
	if status != 1 || !strings.Contains(errOut, "rebuild it first") && !strings.Contains(errOut, "still owed") {
		s.t.Errorf("a spare that lacks what is older than it was promoted: %d %s", status, errOut)
	}
	if status, _, errOut := runOnce(s.t, "storage", "promote", "1"); status != 1 || !strings.Contains(errOut, "not spare") {
		s.t.Errorf("promote of a member: %d %s", status, errOut)
	}
	must(s.t, "storage", "rebuild", "4")
	must(s.t, "storage", "set-mode", "4", "spare")
	s.put("before the promotion", 5000)
	s.put("first/03", 3)
	s.want = s.contents()
	eventually(s.t, "what was deleted is gone", func() bool { t := totals(s.t, s.client); return t.DeletedObjects == 0 && t.Missing == 0 })
}

// noRoom lets no storage take anything any more, and runs a node with two others.
func (s *site) noRoom() {
	s.t.Helper()
	for id := 1; id <= 3; id++ {
		must(s.t, "storage", "set-mode", fmt.Sprint(id), "ro")
	}
	eventually(s.t, "nothing can be written", func() bool {
		_, err := s.client.Put(s.t.Context(), "b", "no-room", strings.NewReader("x"), 1, store.PutOptions{})
		return err != nil
	})
	text := fmt.Sprintf("secret_file = %q\n[storaged]\nlisten = %q\n", filepath.Join(s.data, "secret"), freeport.ForTest(s.t))
	for id := 5; id <= 6; id++ {
		text += fmt.Sprintf("[[storage]]\nid = %d\ndir = %q\n", id, s.disk(id))
	}
	node := start(s.t, "storaged", "--config", writeFile(s.t, filepath.Join(s.dir, "node.toml"), text))
	s.env = append(s.env, "NODE="+node.ready["storaged"])
	s.want = s.contents() // what eventually managed to write before, too
}

// roomElsewhere demands that new objects are taken, by the second cluster.
func (s *site) roomElsewhere() {
	s.t.Helper()
	eventually(s.t, "it can be written again", func() bool {
		_, err := s.client.Put(s.t.Context(), "b", "room", strings.NewReader("x"), 1, store.PutOptions{})
		return err == nil
	})
	var o store.ObjectStatus
	if err := s.client.Call(s.t.Context(), http.MethodGet, "/-/objects?bucket=b&name=room", nil, &o); err != nil || o.Cluster != 2 {
		s.t.Errorf("the object is in cluster %d; %v", o.Cluster, err)
	}
}

// A catalog that was restored and not brought up to date yet does not know what came after the backup. Neither a check that mends
// nor the sweep deletes any of it.
func TestFsckFixSparesWhatIsFenced(t *testing.T) {
	s := newSite(t, "2s")
	s.later()
	s.run(`systemctl stop wheelhouse
mkdir "$DATA/lost" && mv "$DATA"/catalog.db* "$DATA/lost/"
wheelhouse catalog restore --config "$CONFIG" "$KEPT/catalog.sqlite.gz"
systemctl start wheelhouse
`)
	if all := s.status(); len(all.Problems) == 0 || !strings.Contains(fmt.Sprint(all.Problems), "restored from a backup") {
		t.Errorf("status does not say that the catalog is an old one: %+v", all.Problems)
	}
	for range 3 {
		status, out, errOut := runOnce(t, "fsck", "--fix")
		t.Logf("fsck --fix = %d\n%s%s", status, out, errOut)
	}
	s.run(`systemctl stop wheelhouse
wheelhouse catalog readopt --config "$CONFIG"
systemctl start wheelhouse
`)
	if d := cmp.Diff(s.want, s.contents()); d != "" {
		t.Errorf("-before +after:\n%s", d)
	}
	if p := s.status().Problems; strings.Contains(fmt.Sprint(p), "restored from a backup") {
		t.Errorf("after readopt: %+v", p)
	}
	for id := 1; id <= 3; id++ { // and all of it is everywhere
		eventually(t, "nothing is owed", func() bool { return totals(t, s.client).Missing == 0 })
		s.only(fmt.Sprint(id))
	}
}
