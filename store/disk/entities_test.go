package disk

import (
	"fmt"
	"testing"
	"time"

	"wheelhouse/store"
)

// A pack of very small entities is sealed by their number, long before it is large.
func TestPackIsSealedByNumber(t *testing.T) {
	dir := t.TempDir()
	open := func() *Disk {
		t.Helper()
		d, err := Open(dir, Options{StorageID: 1, MinFree: -1, PackEntities: 10})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := open()
	body := func(id int) []byte { return fmt.Appendf(nil, "entity %d", id) }
	put := func(from, to int) {
		t.Helper()
		done := make(chan error)
		for id := from; id < to; id++ {
			go d.PutAsync(store.EntityInfo{ID: store.ObjectID(id), Size: int64(len(body(id))), Bucket: "b", Name: fmt.Sprint(id), Created: time.Now()}, body(id),
				func(err error) { done <- err })
		}
		for range to - from {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	put(1, 26)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open() // the last pack goes on where it was
	defer d.Close()
	put(26, 36)
	packs := d.Packs()
	if len(packs) != 4 {
		t.Errorf("%d packs hold 35 entities; want 4 of up to 10", len(packs))
	}
	for _, p := range packs {
		if p.Entities > 10 {
			t.Errorf("pack %s holds %d", p.Name, p.Entities)
		}
	}
	for id := 1; id < 36; id++ {
		if got, err := d.Get(t.Context(), store.ObjectID(id), -1, nil); err != nil || string(got) != string(body(id)) {
			t.Errorf("Get(%d) = %q, %v", id, got, err)
		}
	}
}
