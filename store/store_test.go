package store_test

import (
	"errors"
	"net/url"
	"testing"
	"time"

	"wheelhouse/store"
)

func TestEntityPath(t *testing.T) {
	for id, want := range map[store.ObjectID]string{
		25: "0/000/000/0000000025.fid", 1: "0/000/000/0000000001.fid", 1234567890: "1/234/567/1234567890.fid",
		98765432101: "9/876/543/98765432101.fid", 1<<64 - 1: "1/844/674/18446744073709551615.fid",
	} {
		if got := store.EntityPath(id); got != want {
			t.Errorf("EntityPath(%d) = %q; want %q", id, got, want)
		}
		if got, ok := store.ParseEntityPath(want); !ok || got != id {
			t.Errorf("ParseEntityPath(%q) = %d, %v", want, got, ok)
		}
	}
	for _, s := range []string{
		"", "0/000/000/0000000000.fid", "0/000/000/25.fid", "0/000/001/0000000025.fid", "0/000/000/0000000025.fi", "/0/000/000/0000000025.fid",
		"0/000/000/000000002x.fid", "1/844/674/18446744073709551616.fid", "0/000/000/00000000025.fid", "9/999/999/99999999999999999999.fid",
	} {
		if id, ok := store.ParseEntityPath(s); ok {
			t.Errorf("ParseEntityPath(%q) = %d", s, id)
		}
	}
}

func TestSignatures(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	key := store.AccessKey{ID: "K", Secret: "s"}
	q, err := url.ParseQuery(store.SignPath(key, "GET", "/b/o", now.Add(time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.CheckSignature("s", "HEAD", "/b/o", q, now); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"other secret": store.CheckSignature("x", "GET", "/b/o", q, now),
		"other path":   store.CheckSignature("s", "GET", "/b/p", q, now),
		"other method": store.CheckSignature("s", "PUT", "/b/o", q, now),
		"too late":     store.CheckSignature("s", "GET", "/b/o", q, now.Add(time.Minute)),
		"nothing":      store.CheckSignature("s", "GET", "/b/o", nil, now),
	} {
		if !errors.Is(err, store.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConditionHolds(t *testing.T) {
	at := time.Unix(1000, 5)
	o := &store.Object{ETag: [16]byte{1}, Created: at}
	mine, other := [][16]byte{{1}}, [][16]byte{{2}}
	for _, tt := range []struct {
		name           string
		c              store.Condition
		there, nothing bool
	}{
		{"none", store.Condition{}, true, true},
		{"absent", store.Condition{Absent: true}, false, true},
		{"exists", store.Condition{Exists: true}, true, false},
		{"match", store.Condition{Match: mine}, true, false},
		{"match another", store.Condition{Match: other}, false, false},
		{"match nothing", store.Condition{Match: [][16]byte{}}, false, false},
		{"none match", store.Condition{NoneMatch: mine}, false, true},
		{"none match another", store.Condition{NoneMatch: other}, true, true},
		{"unmodified since then", store.Condition{UnmodifiedSince: at}, true, false},
		{"unmodified since before", store.Condition{UnmodifiedSince: at.Add(-time.Second)}, false, false},
	} {
		if got := tt.c.Holds(o); got != tt.there {
			t.Errorf("%s: Holds(object) = %v", tt.name, got)
		}
		if got := tt.c.Holds(nil); got != tt.nothing {
			t.Errorf("%s: Holds(nil) = %v", tt.name, got)
		}
		if tt.c.IsZero() != (tt.name == "none") {
			t.Errorf("%s: IsZero = %v", tt.name, tt.c.IsZero())
		}
	}
}

func TestWordsAreReadAsTheyAreWritten(t *testing.T) {
	for m := store.ModeRW; m <= store.ModeFilling; m++ {
		if got, err := store.ParseStorageMode(m.String()); err != nil || got != m {
			t.Errorf("%v: %v, %v", m, got, err)
		}
	}
	for m := store.ClusterRW; m <= store.ClusterRetire; m++ {
		if got, err := store.ParseClusterMode(m.String()); err != nil || got != m {
			t.Errorf("%v: %v, %v", m, got, err)
		}
	}
	for r := store.RoleRead; r <= store.RoleAdmin; r++ {
		if got, err := store.ParseRole(r.String()); err != nil || got != r {
			t.Errorf("%v: %v, %v", r, got, err)
		}
	}
	for _, a := range []store.Access{store.Private, store.PublicRead} {
		if got, err := store.ParseAccess(a.String()); err != nil || got != a {
			t.Errorf("%v: %v, %v", a, got, err)
		}
	}
	_, e1 := store.ParseStorageMode("x")
	_, e2 := store.ParseClusterMode("x")
	_, e3 := store.ParseRole("")
	_, e4 := store.ParseAccess("x")
	for i, err := range []error{e1, e2, e3, e4} {
		if err == nil {
			t.Errorf("word %d: nonsense was read", i)
		}
	}
}
