package disk

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

var created = time.Date(2026, 11, 7, 12, 0, 0, 0, time.UTC)

// testOptions suits a storage in a test: the log goes to the test's.
func testOptions(t testing.TB) Options {
	return Options{StorageID: 7, MinFree: -1, FS: faultfs.NoSync{}, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimRight(p, "\n")))
	return len(p), nil
}

// open opens a storage, and closes it when the test ends.
func open(t testing.TB, dir string, o Options) *Disk {
	t.Helper()
	d, err := Open(dir, o)
	if err != nil {
		t.Fatalf("Open(%s): %v", dir, err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// reopen closes a storage and opens it again.
func reopen(t testing.TB, d *Disk) *Disk {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	o := d.o
	o.Log = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	return open(t, d.dir, o)
}

// kill lets go of a storage as a crash of the process does: nothing is written any more.
func (d *Disk) kill() {
	d.commits.close()
	d.dels.close()
	d.bgMu.Lock()
	d.closed = true
	d.bgMu.Unlock()
	if w := d.commits.w; w != nil {
		w.stop.Store(true)
	}
	d.bg.Wait()
	if w := d.commits.w; w != nil {
		w.close()
	}
	d.release()
}

// content makes n bytes that depend on id and n.
func content(id store.ObjectID, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(id), byte(id >> 8), byte(n), byte(n >> 8)})
	r.Read(b)
	return b
}

// entity makes an entity's info to go with data.
func entity(id store.ObjectID, data []byte) store.EntityInfo {
	return store.EntityInfo{
		ID: id, Size: int64(len(data)), Bucket: "photos", Name: fmt.Sprintf("2026/%d.jpg", id),
		ContentType: "image/jpeg", ETag: md5.Sum(data), Created: created,
	}
}

func put(t testing.TB, d *Disk, id store.ObjectID, data []byte) {
	t.Helper()
	if err := d.Put(t.Context(), entity(id, data), data); err != nil {
		t.Fatalf("Put(%d): %v", id, err)
	}
}

// wantContent reads an entity in two ways.
func wantContent(t testing.TB, d *Disk, id store.ObjectID, want []byte) {
	t.Helper()
	if err := checkContent(d, id, want); err != nil {
		t.Fatal(err)
	}
}

func checkContent(d *Disk, id store.ObjectID, want []byte) error {
	ctx := context.Background()
	got, err := d.Get(ctx, id, int64(len(want)), nil)
	if err != nil {
		return fmt.Errorf("Get(%d): %w", id, err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("Get(%d) gives other bytes than were put", id)
	}
	r, err := d.Open(ctx, id, 0, -1)
	if err != nil {
		return fmt.Errorf("Open(%d): %w", id, err)
	}
	defer r.Close()
	if got, err = io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("Open(%d) reads %d bytes, %w; want %d", id, len(got), err, len(want))
	}
	return nil
}

func wantGone(t testing.TB, d *Disk, id store.ObjectID) {
	t.Helper()
	if _, err := d.Stat(t.Context(), id); !errors.Is(err, store.ErrNoEntity) {
		t.Fatalf("Stat(%d) = %v; want ErrNoEntity", id, err)
	}
	if _, err := d.Get(t.Context(), id, -1, nil); !errors.Is(err, store.ErrNoEntity) {
		t.Fatalf("Get(%d) = %v; want ErrNoEntity", id, err)
	}
}

func TestPutGet(t *testing.T) {
	d := open(t, t.TempDir(), testOptions(t))
	sizes := []int{0, 1, 511, 512, 513, 10_000, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5 << 20}
	for round := range 2 {
		for i, n := range sizes {
			id := store.ObjectID(i + 1)
			if round == 0 {
				put(t, d, id, content(id, n))
			}
			wantContent(t, d, id, content(id, n))
			got, err := d.Stat(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			want := entity(id, content(id, n))
			if got.Stored.IsZero() || !got.Created.Equal(want.Created) {
				t.Errorf("Stat(%d): created %v, stored %v", id, got.Created, got.Stored)
			}
			got.Stored, got.Created = want.Stored, want.Created
			if got != want {
				t.Errorf("Stat(%d) = %+v; want %+v", id, got, want)
			}
		}
		u, err := d.Usage(t.Context())
		if err != nil || u.Entities != int64(len(sizes)) {
			t.Errorf("Usage = %+v, %v", u, err)
		}
		d = reopen(t, d)
	}
	if err := d.Delete(t.Context(), []store.ObjectID{2, 10, 99}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantGone(t, d, 2)
		wantGone(t, d, 10)
		wantContent(t, d, 3, content(3, 511))
		d = reopen(t, d)
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, testOptions(t))
	if _, err := Open(dir, testOptions(t)); err == nil || !bytes.Contains([]byte(err.Error()), []byte("in use by pid ")) {
		t.Errorf("second Open = %v; want the holder's pid", err)
	}
	d.Close()
	o := testOptions(t)
	o.StorageID = 8
	if _, err := Open(dir, o); err == nil {
		t.Error("Open with another storage's id succeeds")
	}
	o = testOptions(t)
	o.Layout = LayoutFiles
	if _, err := Open(dir, o); err == nil {
		t.Error("Open with another layout succeeds")
	}
	if _, err := Open(filepath.Dir(dir), testOptions(t)); err == nil {
		t.Error("Open of a directory that is not empty succeeds")
	}
	if _, err := Open(filepath.Join(dir, "no"), testOptions(t)); err == nil {
		t.Error("Open of no directory succeeds")
	}
	if _, err := Open(dir, Options{}); err == nil {
		t.Error("Open without an id succeeds")
	}
}

func TestFull(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 20)
	f := &faultfs.Faulty{FS: faultfs.NoSync{}, Space: func() faultfs.Space { return faultfs.Space{Capacity: 1 << 30, Free: free.Load()} }}
	o := testOptions(t)
	o.FS, o.MinFree = f, 1<<20
	now := created
	o.Now = func() time.Time { return now }
	d := open(t, t.TempDir(), o)
	put(t, d, 1, content(1, 1000))
	free.Add(-1)
	d.checkSpace()
	if err := d.Put(t.Context(), entity(2, nil), nil); !errors.Is(err, store.ErrFull) {
		t.Errorf("Put = %v; want ErrFull", err)
	}
	if _, err := d.Create(t.Context(), store.EntityInfo{ID: 3, Size: 5 << 20}); !errors.Is(err, store.ErrFull) {
		t.Errorf("Create = %v; want ErrFull", err)
	}
	if u, _ := d.Usage(t.Context()); !u.ReadOnly {
		t.Error("Usage.ReadOnly = false; want true")
	}
	if err := d.Delete(t.Context(), []store.ObjectID{1}); err != nil {
		t.Errorf("Delete on a full storage = %v", err)
	}
	free.Add(2)
	now = now.Add(2 * time.Second)
	put(t, d, 4, content(4, 10))
}
