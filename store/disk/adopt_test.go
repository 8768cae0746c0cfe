package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/store"
)

func openFor(t *testing.T, dir string, id store.StorageID, o Options) *Disk {
	t.Helper()
	o.StorageID, o.MinFree = id, -1
	d, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func bulkContent(id store.ObjectID, n int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "entity %d.", id), n/8+1)[:n]
}

func putN(t *testing.T, d *Disk, size int, ids ...store.ObjectID) {
	t.Helper()
	for _, id := range ids {
		info := store.EntityInfo{ID: id, Size: int64(size), Bucket: "b", Name: fmt.Sprint("n", id), ContentType: "text/plain", Created: time.Unix(7, 0)}
		if err := d.Put(t.Context(), info, bulkContent(id, size)); err != nil {
			t.Fatal(err)
		}
	}
}

func ids(from, to store.ObjectID) (all []store.ObjectID) {
	for id := from; id < to; id++ {
		all = append(all, id)
	}
	return all
}

// adoptAll takes over all packs of from, in pieces.
func adoptAll(t *testing.T, from, to *Disk) (sum store.Adoption) {
	t.Helper()
	ctx, src, dst := t.Context(), from.Bulk(), to.Bulk()
	packs, err := src.Packs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packs {
		for {
			have, err := dst.Adopting(ctx, p.UID)
			if err != nil {
				t.Fatal(err)
			}
			if have.Done || have.Size >= p.Size {
				break
			}
			r, err := src.OpenPack(ctx, p.Name, p.UID, have.Size)
			if err != nil {
				t.Fatal(err)
			}
			_, err = dst.AppendPack(ctx, p.UID, have.Size, io.LimitReader(r, min(p.Size-have.Size, 100_000)))
			_ = r.Close()
			if err != nil {
				t.Fatal(err)
			}
		}
		log, err := src.DeleteLog(ctx, p.Name, p.UID)
		if err != nil {
			t.Fatal(err)
		}
		a, err := dst.FinishPack(ctx, p.UID, p.Size, log)
		if err != nil || !a.Done {
			t.Fatalf("FinishPack = %+v, %v", a, err)
		}
		sum.Entities += a.Entities
		sum.Damaged += a.Damaged
	}
	return sum
}

func blocksOf(t *testing.T, d *Disk) []store.BlockDigest {
	t.Helper()
	list, err := d.BlockDigests(t.Context(), 0, maxID)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// recount is what BlockDigests must say, from the manifest.
func recount(t *testing.T, d *Disk) []store.BlockDigest {
	t.Helper()
	all, err := d.Manifest(t.Context(), 0, maxID, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var list []store.BlockDigest
	for _, m := range all {
		n := uint64(m.ID) / store.DigestBlock
		if len(list) == 0 || list[len(list)-1].Block != n {
			list = append(list, store.BlockDigest{Block: n})
		}
		if d.files.has(m.ID) {
			m.CRC = 0
		}
		list[len(list)-1].Add(m.ID, m.Size, m.CRC, 1)
	}
	return list
}

func wantAll(t *testing.T, d *Disk, size int, have []store.ObjectID, gone ...store.ObjectID) {
	t.Helper()
	for _, id := range have {
		got, err := d.Get(t.Context(), id, int64(size), nil)
		if err != nil || !bytes.Equal(got, bulkContent(id, size)) {
			t.Fatalf("Get(%d): %d bytes, %v", id, len(got), err)
		}
	}
	for _, id := range gone {
		if _, err := d.Stat(t.Context(), id); !errors.Is(err, store.ErrNoEntity) {
			t.Fatalf("Stat(%d) = %v; want ErrNoEntity", id, err)
		}
	}
	// Entities that were replaced are counted until they are deleted, which nobody waits for.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-tick.C {
		diff := cmp.Diff(recount(t, d), blocksOf(t, d))
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("digests (-manifest +kept):\n%s", diff)
		}
	}
}

func TestAdoptPacks(t *testing.T) {
	dir := t.TempDir()
	a, b := openFor(t, t.TempDir(), 1, Options{PackSize: 256 << 10}), openFor(t, dir, 2, Options{PackSize: 256 << 10})
	const size = 3000
	putN(t, a, size, ids(1, 300)...)
	if err := a.Delete(t.Context(), []store.ObjectID{5, 6, 250}); err != nil {
		t.Fatal(err)
	}
	putN(t, a, size, 20, 21, 298) // replaced: the older ones are dead
	putN(t, b, size, 7, 8, 400)   // here already, and newer than what comes
	first := adoptAll(t, a, b)
	have := append(append(ids(1, 5), ids(7, 250)...), append(ids(251, 300), 400)...)
	wantAll(t, b, size, have, 5, 6, 250)
	if want := int64(len(have) - 3); first.Entities != want || first.Damaged != 0 {
		t.Errorf("adopted %+v; want %d entities", first, want)
	}
	if again := adoptAll(t, a, b); again.Entities != 0 {
		t.Errorf("again: %+v", again)
	}
	// What is written now is newer than what was adopted, also after a restart, with and without the index.
	putN(t, b, size, 30, 401)
	if err := b.Delete(t.Context(), []store.ObjectID{31}); err != nil {
		t.Fatal(err)
	}
	have = append(append(append(ids(1, 5), ids(7, 31)...), ids(32, 250)...), 400, 401)
	wantAll(t, b, size, have, 5, 6, 31, 250)
	if p, e, h, err := b.find(30); err != nil || p == nil || e.size != size {
		t.Fatal(err)
	} else {
		h.release()
		b.packs.view().holders(30, func(q *pack) bool {
			if q.number > p.number {
				t.Errorf("an adopted entity lies over one that was written later")
			}
			return true
		})
	}
	b.maintain(t.Context()) // must not seal the pack that is being written
	putN(t, b, size, 402)
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b = openFor(t, dir, 2, Options{PackSize: 256 << 10})
		wantAll(t, b, size, append(have, 402), 5, 6, 31, 250)
		for _, p := range b.packs.list() { // and now from the packs and the delete logs alone
			_ = os.Remove(p.path(idxExt))
		}
	}
}

// A pack with damage on the other side: what is whole is taken, and nothing else.
func TestAdoptDamaged(t *testing.T) {
	a, b := openFor(t, t.TempDir(), 1, Options{}), openFor(t, t.TempDir(), 2, Options{})
	const size = 3000
	putN(t, a, size, ids(1, 50)...)
	p, e, h, err := a.find(10)
	if err != nil {
		t.Fatal(err)
	}
	h.release()
	flip(t, p.path(packExt), e.dataOff()+100)
	_, e2, h, err := a.find(20)
	if err != nil {
		t.Fatal(err)
	}
	h.release()
	flip(t, p.path(packExt), e2.off+600) // in the header
	got := adoptAll(t, a, b)
	if got.Damaged != 2 || got.Entities != 47 {
		t.Errorf("%+v; want 47 entities and 2 damaged", got)
	}
	wantAll(t, b, size, append(append(ids(1, 10), ids(11, 20)...), ids(21, 50)...), 10, 20)
}

func flip(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
}

func TestAdoptRefused(t *testing.T) {
	a, b := openFor(t, t.TempDir(), 1, Options{}), openFor(t, t.TempDir(), 2, Options{})
	files := openFor(t, t.TempDir(), 3, Options{Layout: LayoutFiles})
	putN(t, a, 100, ids(1, 9)...)
	ctx := t.Context()
	packs, _ := a.Bulk().Packs(ctx)
	uid := packs[0].UID
	if _, err := files.Adopting(ctx, uid); !errors.Is(err, store.ErrNoPacks) {
		t.Errorf("layout files: %v", err)
	}
	if _, err := b.AppendPack(ctx, uid, 5, bytes.NewReader([]byte("x"))); err == nil {
		t.Error("bytes behind a hole were taken")
	}
	if n, err := b.AppendPack(ctx, uid, 0, bytes.NewReader(make([]byte, 4096))); n != 4096 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := b.FinishPack(ctx, uid, 8192, nil); err == nil {
		t.Error("half a pack was finished")
	}
	if got, err := b.FinishPack(ctx, uid, 4096, nil); err != nil || got.Entities != 0 {
		t.Errorf("zeros: %+v, %v", got, err)
	}
	if _, err := a.Bulk().OpenPack(ctx, packs[0].Name, uid+1, 0); !errors.Is(err, store.ErrNoPack) {
		t.Errorf("another version: %v", err)
	}
	if _, err := a.Bulk().OpenPack(ctx, "../x", 0, 0); !errors.Is(err, store.ErrNoPack) {
		t.Errorf("another file: %v", err)
	}
}

// Digests are kept up through writes, deletes, sealing, rewriting and restarts.
func TestBlockDigests(t *testing.T) {
	dir := t.TempDir()
	o := Options{PackSize: 128 << 10, SmallLimit: 4000}
	d := openFor(t, dir, 1, o)
	const far = 3*store.DigestBlock + 5
	putN(t, d, 3000, append(ids(1, 100), ids(far, far+100)...)...)
	putN(t, d, 5000, 50, 1000, far+7) // files, two of which replace entities in packs
	wantAll(t, d, 3000, nil)
	if err := d.Delete(t.Context(), append(ids(10, 60), 1000, far)); err != nil {
		t.Fatal(err)
	}
	wantAll(t, d, 3000, nil)
	if _, err := d.Compact(t.Context(), 0.1); err != nil {
		t.Fatal(err)
	}
	wantAll(t, d, 3000, nil)
	if list, err := d.BlockDigests(t.Context(), store.DigestBlock, far); err != nil || len(list) != 1 || list[0].Block != 3 {
		t.Errorf("a range: %+v, %v", list, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = openFor(t, dir, 1, o)
	wantAll(t, d, 3000, nil)
	got, err := d.Entities(t.Context(), []store.ObjectID{far + 7, 3, 10, 99})
	if err != nil || len(got) != 3 || got[0].ID != 3 || got[2].ID != far+7 || got[2].Size != 5000 {
		t.Errorf("Entities = %+v, %v", got, err)
	}
}

func TestScrubParts(t *testing.T) {
	for _, layout := range []string{LayoutPacks, LayoutFiles} {
		d := openFor(t, t.TempDir(), 1, Options{PackSize: 256 << 10, Layout: layout, SmallLimit: 4000})
		putN(t, d, 3000, ids(1, 300)...)
		putN(t, d, 5000, ids(400, 410)...)
		if err := d.Delete(t.Context(), []store.ObjectID{17}); err != nil {
			t.Fatal(err)
		}
		scrub := func() (objects int64, bad []store.ObjectID) {
			cursor := ""
			for parts := 0; ; parts++ {
				part, err := d.Bulk().Scrub(t.Context(), cursor, 50_000)
				if err != nil || parts > 100 {
					t.Fatal(parts, err)
				}
				objects += part.Objects
				for _, f := range part.Bad {
					bad = append(bad, f.ID)
				}
				if cursor = part.Cursor; cursor == "" {
					return objects, bad
				}
			}
		}
		if n, bad := scrub(); n != 308 || bad != nil {
			t.Errorf("%s: %d entities, bad %v", layout, n, bad)
		}
		flip(t, d.files.path(405), 77)
		want := []store.ObjectID{405}
		if layout == LayoutPacks {
			p, e, h, err := d.find(100)
			if err != nil {
				t.Fatal(err)
			}
			h.release()
			flip(t, p.path(packExt), e.dataOff()+2999)
			flip(t, p.path(packExt), e.off+700) // in the header, too: one finding
			p, e, h, err = d.find(200)
			if err != nil {
				t.Fatal(err)
			}
			h.release()
			flip(t, p.path(packExt), e.off+700)
			want = []store.ObjectID{100, 200, 405}
		}
		if _, bad := scrub(); cmp.Diff(want, bad) != "" {
			t.Errorf("%s: bad %v; want %v", layout, bad, want)
		}
		if _, err := d.Bulk().Scrub(t.Context(), "nonsense", 1); err == nil {
			t.Error("a nonsense cursor was taken")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := d.Bulk().Scrub(ctx, "", 1); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
}

func FuzzScrubCursor(f *testing.F) {
	for _, s := range []string{"", "p1/0", "p18446744073709551615/9", "f1", "f0", "p/", "p1/-1", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		number, off, file, err := parseScrubCursor(s)
		if err == nil && (off < 0 || file != 0 && (number != 0 || off != 0)) {
			t.Errorf("%q: %d %d %d", s, number, off, file)
		}
	})
}

// What is damaged in a pack that comes in pieces is found, and what is right behind it is kept, whether it was looked at while
// it came or only at the end, after a restart in between.
func TestAdoptVerifiesWhatComes(t *testing.T) {
	from := openFor(t, t.TempDir(), 1, Options{})
	putN(t, from, 3000, ids(1, 200)...)
	packs, err := from.Bulk().Packs(t.Context())
	if err != nil || len(packs) != 1 {
		t.Fatalf("%v, %v", packs, err)
	}
	r, err := from.Bulk().OpenPack(t.Context(), packs[0].Name, packs[0].UID, 0)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(whole, bulkContent(100, 3000))
	if at < 0 {
		t.Fatal("object 100 is not in the pack")
	}
	whole[at+1500] ^= 1
	for _, restart := range []bool{false, true} {
		dir := t.TempDir()
		to := openFor(t, dir, 2, Options{})
		uid := packs[0].UID
		for off := 0; off < len(whole); {
			end := min(len(whole), off+77_777)
			if n, err := to.AppendPack(t.Context(), uid, int64(off), bytes.NewReader(whole[off:end])); err != nil || int(n) != end-off {
				t.Fatalf("AppendPack = %d, %v", n, err)
			}
			if off < len(whole)/3 && end >= len(whole)/3 && restart {
				if err := to.Close(); err != nil {
					t.Fatal(err)
				}
				to = openFor(t, dir, 2, Options{})
			}
			off = end
		}
		known := to.adopting.all[uid]
		if restart != (known == nil) || known != nil && (len(known.entries) != 99 || known.off > int64(at)) {
			t.Errorf("restart %v: verified while it came: %+v", restart, known)
		}
		a, err := to.FinishPack(t.Context(), uid, int64(len(whole)), nil)
		if err != nil || a.Entities != 198 || a.Damaged != 1 {
			t.Errorf("restart %v: FinishPack = %+v, %v", restart, a, err)
		}
		for id := store.ObjectID(1); id < 200; id++ {
			got, err := to.Get(t.Context(), id, 3000, nil)
			if (err == nil) != (id != 100) || err == nil && !bytes.Equal(got, bulkContent(id, 3000)) {
				t.Fatalf("restart %v: object %d: %v", restart, id, err)
			}
		}
		if len(to.adopting.all) != 0 {
			t.Errorf("restart %v: %d packs are remembered", restart, len(to.adopting.all))
		}
	}
}
