package storetest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"wheelhouse/store"
)

func catalogFindCommit(t *catalogTest) {
	b := t.bucket("b")
	full := t.object(b, "full")
	replaced, err := t.Catalog.Commit(t.ctx, store.Commit{Object: full})
	t.ok(err)
	t.equal("replaced", replaced, store.Object{})
	t.wantObject(b, full)

	bare := store.Object{ID: t.id(), Bucket: b.ID, Name: "bare", Cluster: 4_000_000_000, Size: math.MaxInt64, Replicas: 255, Created: time.Unix(0, 0).UTC()}
	_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: bare})
	t.ok(err)
	t.wantObject(b, bare)
	t.wantTasks()

	// Times are kept in whole seconds.
	fine := t.object(b, "fine")
	fine.Created = fine.Created.Add(987 * time.Millisecond)
	_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: fine})
	t.ok(err)
	fine.Created = fine.Created.Truncate(time.Second)
	t.wantObject(b, fine)

	big := t.object(b, "meta")
	big.Meta = []store.Field{{Name: "x", Value: strings.Repeat("y", store.MaxMetaSize-1)}}
	big.ContentType = strings.Repeat("t", store.MaxContentType)
	_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: big})
	t.ok(err)
	t.wantObject(b, big)
}

func catalogFindNothing(t *catalogTest) {
	_, _, err := t.Catalog.Find(t.ctx, "nobucket", "x")
	t.want(err, store.ErrNoBucket)
	b := t.bucket("b")
	for range 3 { // the second and third time out of a cache, if there is one
		t.wantGone(b, "x")
	}
	_, err = t.Catalog.ObjectByID(t.ctx, 1<<40)
	t.want(err, store.ErrNoObject)
	_, err = t.Catalog.ObjectByID(t.ctx, 0)
	t.want(err, store.ErrNoObject)
}

func catalogOverwrite(t *catalogTest) {
	b := t.bucket("b")
	first := t.put(b, "x")
	t.wantObject(b, first)
	t.clock.add(time.Minute)
	second := t.object(b, "x")
	replaced, err := t.Catalog.Commit(t.ctx, store.Commit{Object: second})
	t.ok(err)
	t.equal("replaced", replaced, first)
	t.wantObject(b, second)
	_, err = t.Catalog.ObjectByID(t.ctx, first.ID)
	t.want(err, store.ErrNoObject)
	deleted, err := t.Catalog.DeletedObject(t.ctx, first.ID)
	t.ok(err)
	t.equal("DeletedObject", deleted, first)
	t.wantTasks(t.deletion(first.ID))
}

func catalogCommitRepeated(t *catalogTest) {
	b := t.bucket("b")
	o := t.put(b, "x")
	for _, cond := range []store.Condition{{}, {Absent: true}} {
		replaced, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o, Condition: cond})
		t.ok(err)
		t.equal("replaced", replaced, store.Object{})
		t.wantObject(b, o)
	}
	t.wantTasks() // above all, not its own deletion

	changed := o
	changed.ContentType = "text/plain"
	t.ok(t.Catalog.Update(t.ctx, changed))
	_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o})
	t.ok(err)
	t.wantObject(b, changed) // it was done already; what happened since stays

	other := o
	other.Name = "y"
	_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: other})
	t.want(err, store.ErrExists)
	t.wantGone(b, "y")
}

func catalogCommitRefused(t *catalogTest) {
	b := t.bucket("b")
	o := t.object(b, "x")
	for what, change := range map[string]func(*store.Object){
		"id 0":          func(o *store.Object) { o.ID = 0 },
		"no name":       func(o *store.Object) { o.Name = "" },
		"long name":     func(o *store.Object) { o.Name = strings.Repeat("n", store.MaxObjectName+1) },
		"negative size": func(o *store.Object) { o.Size = -1 },
	} {
		bad := o
		change(&bad)
		if _, err := t.Catalog.Commit(t.ctx, store.Commit{Object: bad}); err == nil {
			t.Errorf("Commit of an object with %s succeeded", what)
		}
	}
	bad := o
	bad.Bucket = 999
	_, err := t.Catalog.Commit(t.ctx, store.Commit{Object: bad})
	t.want(err, store.ErrNoBucket)
	bad = o
	bad.ID = 1 << 50
	_, err = t.Catalog.Commit(t.ctx, store.Commit{Object: bad})
	t.want(err, store.ErrLease)
	t.equal("names", t.names(b, "", 10), []string(nil))
}

// catalogCases are conditions, and whether they hold for no object, and for one with etagOf(1) of the time of the test.
func (t *catalogTest) catalogCases(tag [16]byte) []catalogCase {
	now := t.clock.now()
	tags := func(e ...[16]byte) [][16]byte { return append([][16]byte{}, e...) }
	other := [16]byte{1}
	return []catalogCase{
		{"none", store.Condition{}, true, true},
		{"absent", store.Condition{Absent: true}, true, false},
		{"exists", store.Condition{Exists: true}, false, true},
		{"match", store.Condition{Match: tags(other, tag)}, false, true},
		{"match other", store.Condition{Match: tags(other)}, false, false},
		{"match nothing", store.Condition{Match: tags()}, false, false},
		{"none match", store.Condition{NoneMatch: tags(other)}, true, true},
		{"none match same", store.Condition{NoneMatch: tags(tag)}, true, false},
		{"unmodified", store.Condition{UnmodifiedSince: now}, false, true},
		{"unmodified, finer", store.Condition{UnmodifiedSince: now.Add(time.Millisecond)}, false, true},
		{"modified", store.Condition{UnmodifiedSince: now.Add(-time.Second)}, false, false},
		{"all", store.Condition{Exists: true, Match: tags(tag), NoneMatch: tags(other), UnmodifiedSince: now}, false, true},
	}
}

type catalogCase struct {
	name          string
	cond          store.Condition
	none, present bool // whether it holds
}

func catalogConditions(t *catalogTest) {
	b := t.bucket("b")
	for i, c := range t.catalogCases([16]byte{}) {
		for _, there := range []bool{false, true} {
			name := fmt.Sprint(i, there)
			holds := c.none
			var old store.Object
			if there {
				old = t.put(b, name)
				c = t.catalogCases(old.ETag)[i]
				holds = c.present
			}
			o := t.object(b, name)
			replaced, err := t.Catalog.Commit(t.ctx, store.Commit{Object: o, Condition: c.cond})
			switch {
			case holds && err != nil:
				t.Errorf("%s, there %v: %v", c.name, there, err)
			case holds:
				t.equal("replaced", replaced, old)
				t.wantObject(b, o)
			default:
				t.want(err, store.ErrPrecondition)
				t.equal("replaced", replaced, store.Object{})
				if there {
					t.wantObject(b, old)
				} else {
					t.wantGone(b, name)
				}
			}
		}
	}
}

func catalogDeleteConditions(t *catalogTest) {
	b := t.bucket("b")
	for i := range t.catalogCases([16]byte{}) {
		name := fmt.Sprint(i)
		old := t.put(b, name)
		c := t.catalogCases(old.ETag)[i]
		deleted, err := t.Catalog.Delete(t.ctx, b.ID, name, c.cond)
		if c.present {
			t.ok(err)
			t.equal("deleted", deleted, old)
			t.wantGone(b, name)
		} else {
			t.want(err, store.ErrPrecondition)
			t.wantObject(b, old)
		}
	}
}

func catalogDelete(t *catalogTest) {
	b := t.bucket("b")
	o := t.put(b, "x")
	deleted, err := t.Catalog.Delete(t.ctx, b.ID, "x", store.Condition{})
	t.ok(err)
	t.equal("deleted", deleted, o)
	t.wantGone(b, "x")
	t.wantTasks(t.deletion(o.ID))
	_, err = t.Catalog.Delete(t.ctx, b.ID, "x", store.Condition{})
	t.want(err, store.ErrNoObject)
	_, err = t.Catalog.Delete(t.ctx, 999, "x", store.Condition{})
	t.want(err, store.ErrNoObject)
	again := t.put(b, "x")
	t.wantObject(b, again)
	t.wantTasks()
}

func catalogUpdate(t *catalogTest) {
	b := t.bucket("b")
	o := t.put(b, "x")
	t.wantObject(b, o)
	want := o
	want.ContentType, want.CacheControl, want.Replicas, want.Meta = "text/html", "", 0, []store.Field{{Name: "a", Value: "b"}}
	given := want
	given.Size, given.ETag, given.Cluster = 1, [16]byte{}, 77 // not to be taken over
	t.ok(t.Catalog.Update(t.ctx, given))
	t.wantObject(b, want)
	want.Meta = nil
	t.ok(t.Catalog.Update(t.ctx, want))
	t.wantObject(b, want)

	newer := t.put(b, "x")
	t.want(t.Catalog.Update(t.ctx, want), store.ErrNoObject)
	t.wantObject(b, newer)
	newer.Name = "y"
	t.want(t.Catalog.Update(t.ctx, newer), store.ErrNoObject)
}

func catalogRename(t *catalogTest) {
	a, b := t.bucket("a"), t.bucket("b")
	o := t.put(a, "x")
	other := t.put(b, "taken")
	t.want(t.Catalog.Rename(t.ctx, a.ID, "nothing", a.ID, "z"), store.ErrNoObject)
	t.want(t.Catalog.Rename(t.ctx, a.ID, "x", 999, "z"), store.ErrNoBucket)
	t.want(t.Catalog.Rename(t.ctx, a.ID, "x", b.ID, "taken"), store.ErrExists)
	t.want(t.Catalog.Rename(t.ctx, a.ID, "x", a.ID, "x"), store.ErrExists)
	t.wantObject(a, o)
	t.wantObject(b, other)

	t.ok(t.Catalog.Rename(t.ctx, a.ID, "x", a.ID, "y"))
	t.wantGone(a, "x")
	o.Name = "y"
	t.wantObject(a, o)
	t.ok(t.Catalog.Rename(t.ctx, a.ID, "y", b.ID, "x"))
	t.wantGone(a, "y")
	o.Bucket, o.Name = b.ID, "x"
	t.wantObject(b, o)
	t.wantTasks()
}

// catalogName are names that are hard on something, in byte order.
var catalogNameList = []string{
	"\x00", "\x00\x00", "\x01", " ", "%", "'; DROP TABLE object; --", "*", "..", "/", "//", "A", "_", "a", "a\x00", "a\x00b", "a/", "a/b",
	"a0", "a\xff", "b", "café", "cafe\u0301", "x'00'", "\xc3", "ÿ", "日本", "\xf4\x8f\xbf\xbf", "\xff", "\xff\xff",
}

func catalogNames(t *catalogTest) {
	b := t.bucket("\xff\x00 bucket")
	want := slices.Clone(catalogNameList)
	want = append(want, strings.Repeat("n", store.MaxObjectName), strings.Repeat("\xff", store.MaxObjectName))
	objects := make(map[string]store.Object)
	for _, i := range shuffled(len(want)) {
		objects[want[i]] = t.put(b, want[i])
	}
	for _, name := range want {
		t.wantObject(b, objects[name])
	}
	slices.Sort(want) // by bytes
	t.equal("Scan", t.names(b, "", 1000), want)
	for i, name := range want {
		t.equal(fmt.Sprintf("Scan from %.40q", name), t.names(b, name, 2), want[i:min(i+2, len(want))])
	}
}

// shuffled are 0 to n-1 in an order that is always the same, and not that of their size.
func shuffled(n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := (i*7919 + 13) % (i + 1)
		order[i], order[j] = order[j], order[i]
	}
	return order
}

func catalogScan(t *catalogTest) {
	a, b := t.bucket("a"), t.bucket("b")
	var want []store.Object
	for _, name := range []string{"a", "b/1", "b/2", "c"} {
		want = append(want, t.put(a, name))
		t.put(b, name+"!")
	}
	var got []store.Object
	t.ok(t.Catalog.Scan(t.ctx, a.ID, "", 100, func(o *store.Object) bool {
		got = append(got, *o)
		return true
	}))
	t.equal("Scan", got, want)
	t.equal("limit", t.names(a, "", 2), []string{"a", "b/1"})
	t.equal("limit 0", t.names(a, "", 0), []string(nil))
	t.equal("negative limit", t.names(a, "", -1), []string(nil))
	t.equal("from", t.names(a, "b", 100), []string{"b/1", "b/2", "c"})
	t.equal("from after all", t.names(a, "d", 100), []string(nil))
	t.equal("no bucket", t.names(store.Bucket{ID: 999}, "", 100), []string(nil))
	calls := 0
	t.ok(t.Catalog.Scan(t.ctx, a.ID, "", 100, func(*store.Object) bool { calls++; return calls < 2 }))
	t.equal("calls", calls, 2)
}

func catalogScanLong(t *catalogTest) {
	b := t.bucket("b")
	const n = 700
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("%05d", i))
	}
	for _, i := range shuffled(n) {
		t.put(b, want[i])
	}
	t.equal("all", t.names(b, "", n+1), want)
	t.equal("most", t.names(b, "", n-1), want[:n-1])
	t.equal("some", t.names(b, want[100], 300), want[100:400])
}
