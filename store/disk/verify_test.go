package disk

import (
	"bytes"
	"errors"
	"testing"

	"wheelhouse/store"
)

// Verify tells of damage where the reader stands, before a byte is given, of none further on, and takes nothing from what is read.
func TestVerifyBeforehand(t *testing.T) {
	d := openFor(t, t.TempDir(), 1, Options{})
	small, large := 3000, 3<<20
	putN(t, d, small, 1)
	putN(t, d, large, 2)
	read := func(id store.ObjectID, off int64) (got []byte, bad error) {
		t.Helper()
		r, err := d.Open(t.Context(), id, off, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		bad = r.(*Reader).Verify()
		var b bytes.Buffer
		_, err = r.WriteTo(&b)
		if (bad == nil) != (err == nil) && off > 0 {
			t.Errorf("Verify = %v; WriteTo = %v", bad, err)
		}
		return b.Bytes(), bad
	}
	for id, size := range map[store.ObjectID]int{1: small, 2: large} {
		for _, off := range []int{0, 100, size - 1} {
			if got, bad := read(id, int64(off)); bad != nil || !bytes.Equal(got, bulkContent(id, size)[off:]) {
				t.Errorf("entity %d from %d: %v, %d bytes", id, off, bad, len(got))
			}
		}
	}
	flip(t, d.files.path(2), 1<<20+5) // in its second block
	if got, bad := read(2, 0); bad != nil || !bytes.Equal(got, bulkContent(2, large)[:len(got)]) || len(got) != 1<<20 {
		t.Errorf("before it: %v, %d bytes", bad, len(got))
	}
	if got, bad := read(2, 1<<20+100); !errors.Is(bad, store.ErrCorrupt) || len(got) != 0 {
		t.Errorf("at it: %v, %d bytes", bad, len(got))
	}
	if got, bad := read(2, 2<<20); bad != nil || len(got) != 1<<20 {
		t.Errorf("behind it: %v, %d bytes", bad, len(got))
	}
}
