package catalog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

// A catalog from before there were digests gets them when it is opened.
func TestDigestsOfAnOldCatalog(t *testing.T) {
	t.Parallel()
	ctx, path := t.Context(), t.TempDir()+"/catalog.db"
	open := func() *catalog.SQLite {
		c, err := catalog.OpenSQLite(ctx, path, catalog.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open()
	b, err := c.CreateBucket(ctx, store.Bucket{Name: "b"})
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.LeaseIDs(ctx, "test", 10)
	if err != nil {
		t.Fatal(err)
	}
	for i := range store.ObjectID(10) {
		o := store.Object{ID: first + i, Bucket: b.ID, Name: fmt.Sprint(i), Cluster: 1, Size: int64(i) * 7, Created: time.Unix(1, 0)}
		if _, err := c.Commit(ctx, store.Commit{Object: o}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Delete(ctx, b.ID, "3", store.Condition{}); err != nil {
		t.Fatal(err)
	}
	want, err := c.IDDigests(ctx, 1)
	if err != nil || len(want) != 1 || want[0].Count != 10 {
		t.Fatalf("%+v, %v", want, err)
	}
	err = c.DB().Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Exec("DELETE FROM id_digest", nil); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE counter SET value=0 WHERE name='id_digest'", nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = open()
	defer c.Close()
	if got, err := c.IDDigests(ctx, 1); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("%v (-want +got):\n%s", err, cmp.Diff(want, got))
	}
}
