package storetest

import (
	"time"

	"wheelhouse/store"
)

func catalogLeases(t *catalogTest) {
	start := t.clock.now()
	a, err := t.Catalog.LeaseIDs(t.ctx, "one", 10)
	t.ok(err)
	b, err := t.Catalog.LeaseIDs(t.ctx, "two", 4096)
	t.ok(err)
	if a == 0 || b < a+10 {
		t.Fatalf("leases of 10 at %d and of 4096 at %d", a, b)
	}
	for _, n := range []int{0, -1} {
		if first, err := t.Catalog.LeaseIDs(t.ctx, "bad", n); err == nil {
			t.Errorf("LeaseIDs of %d ids = %d", n, first)
		}
	}
	leases := func(before time.Time, limit int) []store.Lease {
		l, err := t.Catalog.Leases(t.ctx, before, limit)
		t.ok(err)
		return l
	}
	t.equal("none is that old", leases(start, 10), []store.Lease(nil))
	t.clock.add(time.Minute)
	both := []store.Lease{{First: a, N: 10, Owner: "one", Seen: start}, {First: b, N: 4096, Owner: "two", Seen: start}}
	t.equal("both", leases(start.Add(time.Second), 10), both)
	t.equal("limit", leases(start.Add(time.Second), 1), both[:1])

	t.ok(t.Catalog.RenewLeases(t.ctx, "one", []store.ObjectID{a}))
	t.ok(t.Catalog.RenewLeases(t.ctx, "one", []store.ObjectID{b})) // another's: nothing
	t.ok(t.Catalog.RenewLeases(t.ctx, "one", nil))
	t.equal("not renewed", leases(start.Add(time.Second), 10), both[1:])
	both[0].Seen = t.clock.now()
	t.equal("oldest first", leases(t.clock.now().Add(time.Second), 10), []store.Lease{both[1], both[0]})

	t.ok(t.Catalog.DropLease(t.ctx, b))
	t.ok(t.Catalog.DropLease(t.ctx, b))
	t.equal("dropped", leases(t.clock.now().Add(time.Second), 10), both[:1])
	c, err := t.Catalog.LeaseIDs(t.ctx, "three", 1)
	t.ok(err)
	if c < b+4096 {
		t.Errorf("ids of a dropped lease were given out again: %d", c)
	}
}

func catalogCloseLease(t *catalogTest) {
	b := t.bucket("b")
	commit := func(id store.ObjectID, name string) error {
		_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: store.Object{ID: id, Bucket: b.ID, Name: name, Created: t.clock.now()}})
		return err
	}
	first, err := t.Catalog.LeaseIDs(t.ctx, "one", 10)
	t.ok(err)
	next, err := t.Catalog.LeaseIDs(t.ctx, "two", 10)
	t.ok(err)
	t.ok(commit(first, "first"))
	t.ok(commit(first+9, "last"))
	t.want(commit(next+10, "never leased"), store.ErrLease)

	t.ok(t.Catalog.CloseLease(t.ctx, first))
	t.ok(t.Catalog.CloseLease(t.ctx, first))
	t.want(commit(first+1, "late"), store.ErrLease)
	t.wantGone(b, "late")
	seen := t.clock.now()
	t.clock.add(time.Minute)
	t.ok(t.Catalog.RenewLeases(t.ctx, "one", []store.ObjectID{first}))
	t.want(commit(first+1, "late"), store.ErrLease)
	t.ok(commit(next, "other block"))

	leases, err := t.Catalog.Leases(t.ctx, t.clock.now(), 10)
	t.ok(err)
	t.equal("still on record", leases[0], store.Lease{First: first, N: 10, Owner: "one", Seen: seen})
	t.ok(t.Catalog.DropLease(t.ctx, first))
	t.want(commit(first+2, "later"), store.ErrLease)
	t.equal("visible", t.names(b, "", 10), []string{"first", "last", "other block"})
}
