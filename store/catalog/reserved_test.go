package catalog_test

import (
	"testing"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

// What changes a catalog behind the programs' backs removes what they have agreed on, and leaves what operators have set.
func TestReservedSettingsAreDropped(t *testing.T) {
	c, _ := openSuite(t, nil, sqldb.Options{})
	defer c.Close()
	ctx := t.Context()
	o := store.Object{ID: 7, Name: "x", Cluster: 1, Size: 1}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"Fence", func() error { return c.Fence(ctx, 100) }},
		{"Adopt", func() error {
			_, err := c.Adopt(ctx, []catalog.Found{{Object: o, Bucket: "b"}}, func(a, b store.ObjectID) bool { return a > b })
			return err
		}},
		{"Relocate", func() error { return c.Relocate(ctx, []catalog.Known{{ID: 7, Cluster: 2}}) }},
		{"Forget", func() error { _, err := c.Forget(ctx, []store.ObjectID{7}); return err }},
	} {
		for _, key := range []string{store.ReservedSettings + "servers", store.ReservedSettings + "\u00fc", "metacache", "metacache/", "limit.background.bytes"} {
			if err := c.SetSetting(ctx, key, "1"); err != nil {
				t.Fatal(err)
			}
		}
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		all, err := c.Settings(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != 3 || all["metacache"] == "" || all["metacache/"] == "" || all["limit.background.bytes"] == "" {
			t.Errorf("%s leaves %q; want the three that are not reserved", step.name, all)
		}
	}
	if err := store.CheckSetting(store.ReservedSettings+"servers", ""); err == nil {
		t.Error("an operator may remove a reserved setting")
	}
}
