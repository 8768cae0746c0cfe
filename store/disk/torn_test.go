package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"wheelhouse/store"
)

// packImage is a pack with members that were acknowledged one by one, and where each ends.
func packImage(t *testing.T) (image []byte, ends []int64) {
	t.Helper()
	dir := t.TempDir()
	d := open(t, dir, testOptions(t))
	for i, n := range []int{1000, 0, 512, 3000, 1} {
		id := store.ObjectID(i + 1)
		put(t, d, id, content(id, n))
		p, e, h, err := d.find(id)
		if err != nil || p == nil {
			t.Fatal(err)
		}
		h.release()
		ends = append(ends, e.off+e.length())
	}
	d.kill()
	image, err := os.ReadFile(packPath(dir, 1) + packExt)
	if err != nil {
		t.Fatal(err)
	}
	return image[:16<<10], ends
}

var imageSizes = []int{1000, 0, 512, 3000, 1}

// TestTornTail damages the end of a pack from each place on, in each manner: what lies before is there, what lies behind
// is there whole or not at all, and the storage goes on.
func TestTornTail(t *testing.T) {
	t.Parallel()
	image, ends := packImage(t)
	step := 61
	if testing.Short() {
		step = 301
	}
	for at := 0; at < len(image); at += step {
		for kind, damage := range map[string]func([]byte) []byte{
			"truncated": func(b []byte) []byte { return b[:at] },
			"zeroed":    func(b []byte) []byte { clear(b[at:]); return b },
			"garbled": func(b []byte) []byte {
				for i := at; i < len(b); i++ {
					b[i] ^= 0x5a
				}
				return b
			},
		} {
			if err := tornRun(t, damage(bytes.Clone(image)), ends, int64(at)); err != nil {
				t.Fatalf("%s from %d: %v", kind, at, err)
			}
		}
	}
}

// storageWith makes a storage with one pack.
func storageWith(t *testing.T, pack []byte) string {
	t.Helper()
	dir := t.TempDir()
	open(t, dir, quiet(testOptions(t))).Close()
	if err := os.WriteFile(packPath(dir, 1)+packExt, pack, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func tornRun(t *testing.T, image []byte, ends []int64, at int64) error {
	dir := storageWith(t, image)
	defer os.RemoveAll(dir)
	for round := range 2 {
		d, err := Open(dir, quiet(testOptions(t)))
		if err != nil {
			return err
		}
		defer d.kill()
		for i, end := range ends {
			id := store.ObjectID(i + 1)
			err := checkContent(d, id, content(id, imageSizes[i]))
			if err != nil && (end <= at || !errors.Is(err, store.ErrNoEntity)) {
				return fmt.Errorf("round %d: member %d, which ends at %d: %w", round, id, end, err)
			}
		}
		id := store.ObjectID(100 + round)
		if err := d.Put(context.Background(), entity(id, []byte("new")), []byte("new")); err != nil {
			return err
		}
		if err := checkContent(d, 100, []byte("new")); err != nil {
			return err
		}
		d.kill()
	}
	return nil
}

// TestRotInActivePack damages a member that has successors: they survive, and it is known to be bad.
func TestRotInActivePack(t *testing.T) {
	t.Parallel()
	image, ends := packImage(t)
	from := int64(packHeaderLen)
	for i, end := range ends[:len(ends)-1] {
		id := store.ObjectID(i + 1)
		for at := from; at < end; at += 97 {
			b := bytes.Clone(image)
			b[at] ^= 1
			dir := storageWith(t, b)
			d := open(t, dir, quiet(testOptions(t)))
			for j := range ends {
				other := store.ObjectID(j + 1)
				err := checkContent(d, other, content(other, imageSizes[j]))
				if other != id && err != nil {
					t.Fatalf("byte %d of member %d damaged: member %d: %v", at, id, other, err)
				}
				// Padding may be damaged without harm.
				if other == id && err != nil && !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrNoEntity) {
					t.Fatalf("byte %d of member %d damaged: %v", at, id, err)
				}
			}
			put(t, d, 50, []byte("new"))
			wantContent(t, d, 50, []byte("new"))
			d.Close()
			os.RemoveAll(dir)
		}
		from = end
	}
}

// TestDamagedPackHead loses the head of a pack, which says whose it is: its members say so too.
func TestDamagedPackHead(t *testing.T) {
	image, _ := packImage(t)
	clear(image[:packHeaderLen])
	dir := storageWith(t, image)
	d := open(t, dir, testOptions(t))
	for round := range 2 {
		for i, n := range imageSizes {
			if id := store.ObjectID(i + 1); id == 2 && round == 1 {
				wantGone(t, d, id)
			} else {
				wantContent(t, d, id, content(id, n))
			}
		}
		if err := d.Delete(t.Context(), []store.ObjectID{2}); err != nil {
			t.Fatal(err)
		}
		d = reopen(t, d)
	}
}

// TestForeignPack refuses a pack of another storage.
func TestForeignPack(t *testing.T) {
	image, _ := packImage(t)
	dir := t.TempDir()
	o := testOptions(t)
	o.StorageID = 8
	open(t, dir, o).Close()
	if err := os.WriteFile(packPath(dir, 1)+packExt, image, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, o); err == nil {
		t.Error("a pack of another storage is taken")
	}
}

// TestIndexLost loses and damages the index files.
func TestIndexLost(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		for name, harm := range map[string]func(t *testing.T, path string){
			"removed":   func(t *testing.T, path string) { os.Remove(path) },
			"header":    func(t *testing.T, path string) { garble(t, path, 17, 1) },
			"entry":     func(t *testing.T, path string) { garble(t, path, idxHeaderSize+40, 1) },
			"truncated": func(t *testing.T, path string) { os.Truncate(path, 200) },
			"empty":     func(t *testing.T, path string) { os.Truncate(path, 0) },
		} {
			t.Run(fmt.Sprintf("sealed=%v/%s", sealed, name), func(t *testing.T) {
				dir := t.TempDir()
				d := open(t, dir, testOptions(t))
				for id := store.ObjectID(1); id <= 20; id++ {
					put(t, d, id, content(id, 100*int(id)))
				}
				if err := d.Delete(t.Context(), []store.ObjectID{3, 4}); err != nil {
					t.Fatal(err)
				}
				put(t, d, 4, content(4, 400))
				if sealed {
					sealActive(t, d)
				}
				d.Close()
				harm(t, filepath.Join(dir, packsDir, "0000000001.idx"))
				d = open(t, dir, testOptions(t))
				for id := store.ObjectID(1); id <= 20; id++ {
					if id == 3 {
						wantGone(t, d, id)
					} else {
						wantContent(t, d, id, content(id, 100*int(id)))
					}
				}
			})
		}
	}
}

// TestDeleteLogLost loses the delete log, which resurrects entities and does no other harm; and tears it.
func TestDeleteLogLost(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, testOptions(t))
	put(t, d, 1, content(1, 10))
	put(t, d, 2, content(2, 10))
	for _, id := range []store.ObjectID{1, 2} {
		if err := d.Delete(t.Context(), []store.ObjectID{id}); err != nil {
			t.Fatal(err)
		}
	}
	d.kill()
	path := packPath(dir, 1) + delExt
	if err := os.Truncate(path, delRecord+5); err != nil {
		t.Fatal(err)
	}
	d = open(t, dir, testOptions(t))
	wantGone(t, d, 1)
	wantContent(t, d, 2, content(2, 10))
	if err := d.Delete(t.Context(), []store.ObjectID{2}); err != nil { // behind the torn record
		t.Fatal(err)
	}
	d.kill()
	d = open(t, dir, testOptions(t))
	wantGone(t, d, 1)
	wantGone(t, d, 2)
	d.kill()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	d = open(t, dir, testOptions(t))
	wantContent(t, d, 1, content(1, 10))
}
