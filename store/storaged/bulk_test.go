package storaged_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/store"
	"wheelhouse/store/disk"
)

// A rebuild over HTTP: everything that store.Bulk offers does the same there as on the disk itself.
func TestRemoteBulk(t *testing.T) {
	a, b := startNode(t, secret, disk.Options{}), startNode(t, secret, disk.Options{})
	ra, rb := remote(t, a, secret), remote(t, b, secret)
	src, dst := ra.Bulk(), rb.Bulk()
	ctx := t.Context()
	body := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 1000+i) }
	for i := 1; i <= 50; i++ {
		info := store.EntityInfo{ID: store.ObjectID(i), Size: int64(1000 + i), Bucket: "b", Name: fmt.Sprint(i), Created: time.Unix(1, 0)}
		if err := ra.Put(ctx, info, body(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := ra.Delete(ctx, []store.ObjectID{7}); err != nil {
		t.Fatal(err)
	}
	packs, err := src.Packs(ctx)
	if err != nil || len(packs) != 1 || packs[0].UID == 0 || packs[0].Entities != 49 || packs[0].MaxID != 50 {
		t.Fatalf("Packs = %+v, %v", packs, err)
	}
	p := packs[0]
	for {
		have, err := dst.Adopting(ctx, p.UID)
		if err != nil {
			t.Fatal(err)
		}
		if have.Size == p.Size {
			break
		}
		r, err := src.OpenPack(ctx, p.Name, p.UID, have.Size)
		if err != nil {
			t.Fatal(err)
		}
		n, err := dst.AppendPack(ctx, p.UID, have.Size, io.LimitReader(r, 20_000))
		_ = r.Close()
		if err != nil || n == 0 {
			t.Fatal(n, err)
		}
	}
	log, err := src.DeleteLog(ctx, p.Name, p.UID)
	if err != nil || len(log) != 32 {
		t.Fatalf("delete log of %d bytes, %v", len(log), err)
	}
	if got, err := dst.FinishPack(ctx, p.UID, p.Size, log); err != nil || !got.Done || got.Entities != 49 {
		t.Fatalf("FinishPack = %+v, %v", got, err)
	}
	for i := 1; i <= 50; i++ {
		got, err := rb.Get(ctx, store.ObjectID(i), int64(1000+i), nil)
		if i == 7 != errors.Is(err, store.ErrNoEntity) || i != 7 && !bytes.Equal(got, body(i)) {
			t.Errorf("entity %d: %d bytes, %v", i, len(got), err)
		}
	}
	da, err1 := src.BlockDigests(ctx, 0, 1<<64-1)
	db, err2 := dst.BlockDigests(ctx, 0, 1<<64-1)
	if diff := cmp.Diff(da, db); diff != "" || len(da) != 1 || err1 != nil || err2 != nil {
		t.Errorf("digests %v, %v:\n%s", err1, err2, diff)
	}
	if list, err := dst.Entities(ctx, []store.ObjectID{50, 7, 1}); err != nil || len(list) != 2 || list[1].Size != 1050 {
		t.Errorf("Entities = %+v, %v", list, err)
	}
	if part, err := dst.Scrub(ctx, "", 1<<30); err != nil || part.Objects != 49 || part.Cursor != "" || part.Bad != nil {
		t.Errorf("Scrub = %+v, %v", part, err)
	}
	if _, err := src.OpenPack(ctx, p.Name, 1, 0); !errors.Is(err, store.ErrNoPack) {
		t.Errorf("a version that there is not: %v", err)
	}
	if _, err := src.AppendPack(ctx, 99, 5, bytes.NewReader(nil)); err == nil {
		t.Error("bytes behind a hole were taken")
	}
	for _, path := range []string{"/dev1/adopt/zz", "/dev1/scrub?most=x", "/dev1/packs/x?uid=", "/dev1/blocks?from=x"} {
		if status, _, text := ask(t, a, "POST", path, nil); status < 400 {
			t.Errorf("POST %s = %d %s", path, status, text)
		}
	}
}
