package disk

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

// where finds the file and the offset of an entity's first byte.
func where(t *testing.T, d *Disk, id store.ObjectID) (path string, off int64) {
	t.Helper()
	r, err := d.OpenReader(id, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return r.src.h.Name(), r.src.base
}

// TestBitFlip damages one byte of an entity: every way of reading tells, and what is not touched can be read.
func TestBitFlip(t *testing.T) {
	for _, c := range []struct {
		layout string
		size   int
	}{{LayoutPacks, 10_000}, {LayoutPacks, 3<<20 + 9}, {LayoutFiles, 10_000}, {LayoutFiles, 3<<20 + 9}} {
		o := testOptions(t)
		o.Layout = c.layout
		d := open(t, t.TempDir(), o)
		data := content(1, c.size)
		put(t, d, 1, data)
		put(t, d, 2, content(2, 100))
		path, off := where(t, d, 1)
		garble(t, path, off+int64(c.size)-1, 1)
		if _, err := d.Get(t.Context(), 1, int64(c.size), nil); !errors.Is(err, store.ErrCorrupt) || !store.IsReadError(err) {
			t.Errorf("Get = %v; want ErrCorrupt", err)
		}
		for name, w := range map[string]io.Writer{"sendfile": &sender{}, "write": io.Discard} {
			r, err := d.Open(t.Context(), 1, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			n, err := r.WriteTo(w)
			want := int64(c.size) / blockBytes * blockBytes
			if n != want || !errors.Is(err, store.ErrCorrupt) || !store.IsReadError(err) || !strings.Contains(err.Error(), "object 1") {
				t.Errorf("%d bytes by %s: WriteTo = %d, %v; want %d, ErrCorrupt", c.size, name, n, err, want)
			}
			r.Close()
		}
		if c.size > blockBytes {
			r, _ := d.Open(t.Context(), 1, 5, 100)
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[5:105]) {
				t.Errorf("a block that is not damaged reads as %v", err)
			}
			r.Close()
		}
		bad := map[store.ObjectID]error{}
		if err := d.Scrub(t.Context(), 0, 0, func(id store.ObjectID, err error) { bad[id] = err }); err != nil {
			t.Fatal(err)
		}
		if len(bad) != 1 || !errors.Is(bad[1], store.ErrCorrupt) {
			t.Errorf("Scrub reports %v; want object 1", bad)
		}
		put(t, d, 1, data) // this is how it is repaired
		wantContent(t, d, 1, data)
		d = reopen(t, d)
		wantContent(t, d, 1, data)
	}
}

// sender is a store.FileSender.
type sender struct {
	bytes.Buffer
	files int
	err   error
}

func (s *sender) SendFile(f *os.File, off, n int64) (int64, error) {
	s.files++
	if s.err != nil {
		return 0, s.err
	}
	return io.Copy(&s.Buffer, io.NewSectionReader(f, off, n))
}

func TestSendfile(t *testing.T) {
	for _, noVerify := range []bool{false, true} {
		o := testOptions(t)
		o.NoVerify = noVerify
		d := open(t, t.TempDir(), o)
		for id, n := range map[store.ObjectID]int{1: sendThreshold, 2: sendThreshold + 1, 3: 1 << 20, 4: 3<<20 + 1} {
			data := content(id, n)
			put(t, d, id, data)
			r, err := d.Open(t.Context(), id, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			var s sender
			m, err := r.WriteTo(&s)
			if m != int64(n) || err != nil || !bytes.Equal(s.Bytes(), data) {
				t.Errorf("WriteTo = %d, %v; want %d", m, err, n)
			}
			if by := s.files > 0; by != (n > sendThreshold) {
				t.Errorf("%d bytes sent by sendfile: %v", n, by)
			}
			r.Close()
		}
		for _, c := range []struct {
			err  error
			read bool
		}{{unix.EIO, true}, {unix.EPIPE, false}} {
			r, _ := d.Open(t.Context(), 3, 0, -1)
			if _, err := r.WriteTo(&sender{err: c.err}); !errors.Is(err, c.err) || store.IsReadError(err) != c.read {
				t.Errorf("SendFile fails by %v: WriteTo = %v", c.err, err)
			}
			r.Close()
		}
	}
}

// TestFileGone shortens a pack and a file under a reader.
func TestFileGone(t *testing.T) {
	o := testOptions(t)
	o.NoVerify = true
	d := open(t, t.TempDir(), o)
	for id, n := range map[store.ObjectID]int{1: 1 << 20, 2: 2 << 20} {
		put(t, d, id, content(id, n))
		waitZeros(d) // they would make it longer again
		r, err := d.Open(t.Context(), id, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		path, off := where(t, d, id)
		if err := os.Truncate(path, off+100_000); err != nil {
			t.Fatal(err)
		}
		if n, err := r.WriteTo(&sender{}); n != 100_000 || !store.IsReadError(err) {
			t.Errorf("WriteTo of a file that is cut = %d, %v", n, err)
		}
		r.Close()
		if _, err := d.Get(t.Context(), id, int64(n), nil); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("Get of a file that is cut = %v", err)
		}
	}
}

func TestReadFault(t *testing.T) {
	f := &faultfs.Faulty{FS: faultfs.OS{}}
	o := testOptions(t)
	o.FS = f
	d := open(t, t.TempDir(), o)
	put(t, d, 1, content(1, 1000))
	f.Fail(faultfs.OpRead, 1, unix.EIO)
	if _, err := d.Get(t.Context(), 1, 1000, nil); !errors.Is(err, store.ErrCorrupt) || !errors.Is(err, unix.EIO) {
		t.Errorf("Get from a disk that fails = %v", err)
	}
	wantContent(t, d, 1, content(1, 1000))
}

func TestGetAllocates(t *testing.T) {
	d := open(t, t.TempDir(), testOptions(t))
	fill(t, d, 1, 100, content(1, 10_000))
	buf := make([]byte, 10_000)
	ctx := t.Context()
	for _, kind := range []string{"active", "sealed"} {
		if kind == "sealed" {
			sealActive(t, d)
		}
		if n := testing.AllocsPerRun(100, func() {
			if _, err := d.Get(ctx, 50, 10_000, buf); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("Get from an %s pack allocates %v times; want 0", kind, n)
		}
	}
}

// TestAfterClose finds everything refused.
func TestAfterClose(t *testing.T) {
	d := open(t, t.TempDir(), testOptions(t))
	put(t, d, 1, content(1, 1<<20))
	r, err := d.Open(t.Context(), 1, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	if got, err := io.ReadAll(r); err != nil || len(got) != 1<<20 {
		t.Errorf("a reader that was open reads %d bytes, %v", len(got), err)
	}
	r.Close()
	if err := d.Put(t.Context(), entity(2, nil), nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Put = %v", err)
	}
	data := content(3, 2<<20)
	if err := d.Put(t.Context(), entity(3, data), data); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Put of a large entity = %v", err)
	}
	if err := d.Delete(t.Context(), []store.ObjectID{1}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Delete = %v", err)
	}
	if _, err := d.Get(t.Context(), 1, -1, nil); err == nil {
		t.Error("Get after Close succeeds")
	}
}
