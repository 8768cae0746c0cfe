package disk

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

// TestAdopt takes over a directory that mogstored has kept.
func TestAdopt(t *testing.T) {
	dir := t.TempDir()
	write := func(rel, text string) {
		t.Helper()
		path := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, created, created); err != nil {
			t.Fatal(err)
		}
	}
	write("usage", "available: 1000\n")
	write("test-write/test-write-1", "x")
	write("0/000/000/0000000025.fid", "twenty-five")
	write("0/000/001/0000001007.fid", "one thousand and seven")
	write("1/234/567/12345678901.fid", "long")
	write("0/000/000/notes.txt", "not ours")
	o := testOptions(t)
	o.Layout = LayoutFiles
	d := open(t, dir, o)
	wantContent(t, d, 25, []byte("twenty-five"))
	wantContent(t, d, 12345678901, []byte("long"))
	info, err := d.Stat(t.Context(), 25)
	if want := (store.EntityInfo{ID: 25, Size: 11, Created: info.Created, Stored: info.Stored}); err != nil || info != want || !info.Created.Equal(created) {
		t.Errorf("Stat of an adopted entity = %+v, %v", info, err)
	}
	data := content(26, 3<<20)
	put(t, d, 26, data)
	put(t, d, 25, []byte("TWENTY-FIVE"))
	check := func() {
		t.Helper()
		m, err := d.Manifest(t.Context(), 0, maxID, 10)
		if err != nil || len(m) != 4 || m[0].ID != 25 || m[1].ID != 26 || m[2].ID != 1007 || m[3].ID != 12345678901 {
			t.Fatalf("Manifest = %+v, %v", m, err)
		}
		if m[0].CRC == 0 || m[2].CRC != 0 || m[2].Size != 22 {
			t.Errorf("Manifest = %+v: want no checksum for what was adopted, and one for what was stored", m)
		}
		wantContent(t, d, 25, []byte("TWENTY-FIVE"))
		wantContent(t, d, 26, data)
	}
	check()
	d = reopen(t, d)
	check()
	if err := d.files.countFiles(func() bool { return false }); err != nil {
		t.Fatal(err)
	}
	if u, _ := d.Usage(t.Context()); u.Entities != 4 || u.Live != 11+3<<20+22+4 {
		t.Errorf("Usage = %+v", u)
	}
	if m, err := d.Manifest(t.Context(), 26, 1008, 10); err != nil || len(m) != 2 {
		t.Errorf("Manifest of a part = %+v, %v", m, err)
	}
	if err := d.Delete(t.Context(), []store.ObjectID{26, 1007}); err != nil {
		t.Fatal(err)
	}
	wantGone(t, d, 26)
	if _, err := os.Stat(filepath.Join(dir, store.EntityPath(26)) + metaExt); err == nil {
		t.Error("the record of a deleted entity is still there")
	}
	if got := xattr(t, filepath.Join(dir, store.EntityPath(25)), mimeXattr); got != "image/jpeg" {
		t.Errorf("%s = %q", mimeXattr, got)
	}
}

// TestLargeFiles looks at what is on disk for a large entity.
func TestLargeFiles(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, testOptions(t))
	data := content(25, 2<<20+3)
	put(t, d, 25, data)
	path := filepath.Join(dir, filesDir, "0/000/000/0000000025.fid")
	if got, err := os.ReadFile(path); err != nil || string(got) != string(data) {
		t.Errorf("%s does not hold exactly the entity: %v", path, err)
	}
	text, err := os.ReadFile(path + metaExt)
	if err != nil {
		t.Fatal(err)
	}
	if metas, err := parseMetas(text); err != nil || len(metas) != 1 || len(metas[0].blocks) != 3 {
		t.Errorf("record %s: %v", text, err)
	}
	d.Close()
	for _, left := range []string{path + ".tmp-ABCDEFGHIJKLMNOPQRSTUVWXYZ", filepath.Join(filepath.Dir(path), "0000000026.fid"), filepath.Join(filepath.Dir(path), "0000000027.fid.meta")} {
		if err := os.WriteFile(left, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d = open(t, dir, testOptions(t))
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 2 {
		t.Errorf("%d files after reopening; want the entity and its record", len(names))
	}
	wantContent(t, d, 25, data)
	for name, harm := range map[string]func(){
		"record damaged": func() { garble(t, path+metaExt, 30, 1) },
		"record gone":    func() { os.Remove(path + metaExt) },
	} {
		harm()
		d = reopen(t, d)
		if err := checkContent(d, 25, data); err == nil {
			t.Errorf("%s: the entity is served", name)
		}
		put(t, d, 25, data)
		wantContent(t, d, 25, data)
	}
}

// TestReplaceCrash stops the replacing of a large entity by another content between its two renames.
func TestReplaceCrash(t *testing.T) {
	old, other := content(1, 2<<20), content(2, 2<<20)
	for n := 1; ; n++ {
		dir := t.TempDir()
		d := open(t, dir, quiet(testOptions(t)))
		put(t, d, 1, old)
		d.Close()
		f := &faultfs.Faulty{FS: faultfs.OS{}}
		o := quiet(testOptions(t))
		o.FS = f
		d = open(t, dir, o)
		f.FailFrom(faultfs.OpRename, n, os.ErrPermission)
		err := d.Put(t.Context(), entity(1, other), other)
		d.kill()
		d = open(t, dir, quiet(testOptions(t)))
		errOld, errNew := checkContent(d, 1, old), checkContent(d, 1, other)
		if err == nil && errNew != nil || err != nil && errOld != nil && errNew != nil {
			t.Errorf("rename %d fails (%v): %v, %v", n, err, errOld, errNew)
		}
		if f.Fired() == 0 {
			return
		}
	}
}

func TestScrubPace(t *testing.T) {
	d := open(t, t.TempDir(), testOptions(t))
	for id := store.ObjectID(1); id <= 4; id++ {
		put(t, d, id, content(id, 10_000))
	}
	begun := time.Now()
	if err := d.Scrub(t.Context(), 0, 200_000, func(id store.ObjectID, err error) { t.Errorf("%d: %v", id, err) }); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < 100*time.Millisecond {
		t.Errorf("40 KB at 200 KB/s took %v", took)
	}
}
