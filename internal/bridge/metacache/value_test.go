package metacache

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/memcache"
	"wheelhouse/store"
)

var (
	aBucket  = store.Bucket{ID: 7, Name: "photos", Access: store.PublicRead, Class: "cold", CacheControl: "no-store", Owner: 3, Created: time.Unix(1_700_000_000, 5).UTC()}
	anObject = store.Object{
		ID: 1 << 40, Bucket: 7, Name: "a/b c\x00\u00fc", Cluster: 2, Size: 5 << 40, ETag: [16]byte{1, 2, 255}, ContentType: "image/jpeg",
		CacheControl: "private", Created: time.Unix(-5, 0).UTC(), Replicas: 2, Meta: []store.Field{{Name: "x", Value: "1"}, {Name: "x", Value: ""}},
	}
)

// What is stored is all that there is, so that a field that is added to the vocabulary cannot be forgotten here.
func TestValuesHoldEverything(t *testing.T) {
	for _, v := range []any{aBucket, anObject} {
		r := reflect.ValueOf(v)
		for i := range r.NumField() {
			if name := r.Type().Field(i).Name; r.Field(i).IsZero() && name != "Missing" {
				t.Errorf("the example of %s has no %s: give it one, and store it", r.Type(), name)
			}
		}
	}
	b, err := decodeBucket(encodeBucket(&aBucket), "photos")
	if diff := cmp.Diff(aBucket, b); err != nil || diff != "" {
		t.Errorf("bucket: %v\n%s", err, diff)
	}
	o, gone, err := decodeObject(encodeObject(&anObject), 7, anObject.Name)
	if diff := cmp.Diff(anObject, o); err != nil || gone || diff != "" {
		t.Errorf("object: %v %v\n%s", gone, err, diff)
	}
	if _, gone, err := decodeObject(encodeGone(7, "x"), 7, "x"); err != nil || !gone {
		t.Errorf("gone: %v, %v", gone, err)
	}
}

// Values of other names, other kinds, and damaged ones are refused.
func TestValuesAreCompared(t *testing.T) {
	object, bucket, gone := encodeObject(&anObject), encodeBucket(&aBucket), encodeGone(7, anObject.Name)
	for name, tt := range map[string]struct {
		value  []byte
		bucket store.BucketID
		name   string
	}{
		"another name": {object, 7, "a"}, "another bucket": {object, 8, anObject.Name}, "a bucket": {bucket, 7, "photos"},
		"nothing": {nil, 7, "x"}, "gone, another name": {gone, 7, "y"}, "gone, another bucket": {gone, 8, anObject.Name},
	} {
		if o, g, err := decodeObject(tt.value, tt.bucket, tt.name); err == nil {
			t.Errorf("%s: %+v, %v", name, o, g)
		}
	}
	for name, value := range map[string][]byte{"object": object, "gone": gone, "nothing": nil} {
		if b, err := decodeBucket(value, "photos"); err == nil {
			t.Errorf("%s as a bucket: %+v", name, b)
		}
	}
	if _, err := decodeBucket(bucket, "photo"); err == nil {
		t.Error("a bucket of another name is taken")
	}
	for i := range object {
		bad := bytes.Clone(object)
		bad[i] ^= 1
		if _, _, err := decodeObject(bad, 7, anObject.Name); err == nil {
			t.Fatalf("byte %d is wrong, and nobody sees it", i)
		}
		if _, _, err := decodeObject(object[:i], 7, anObject.Name); err == nil {
			t.Fatalf("cut off at %d, and nobody sees it", i)
		}
	}
}

func TestKeysDiffer(t *testing.T) {
	keys := map[string]bool{}
	for _, k := range []string{
		objectKey(1, 2, "a"), objectKey(2, 2, "a"), objectKey(1, 3, "a"), objectKey(1, 2, "b"), objectKey(1, 2, ""), bucketKey(1, "a"), bucketKey(2, "a"), bucketKey(1, "b"),
		placeOf(2, "a"), placeOf(3, "a"), placeOfBucket("a"),
	} {
		if keys[k] || len(k) > 40 || strings.ContainsAny(k, " \r\n") {
			t.Errorf("key %q", k)
		}
		keys[k] = true
	}
}

func FuzzValue(f *testing.F) {
	f.Add(encodeObject(&anObject))
	f.Add(encodeBucket(&aBucket))
	f.Add(encodeGone(7, "x"))
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, v := range [][]byte{value, seal(bytes.Clone(value))} { // also behind a checksum that is right
			if b, err := decodeBucket(v, "photos"); err == nil {
				if again, err := decodeBucket(encodeBucket(&b), "photos"); err != nil || !cmp.Equal(b, again) {
					t.Fatalf("%q: %+v, then %+v, %v", v, b, again, err)
				}
			}
			if o, gone, err := decodeObject(v, 7, "x"); err == nil && !gone {
				if again, _, err := decodeObject(encodeObject(&o), 7, "x"); err != nil || !cmp.Equal(o, again) {
					t.Fatalf("%q: %+v, then %+v, %v", v, o, again, err)
				}
			}
		}
	})
}

func FuzzRecord(f *testing.F) {
	servers, err := memcache.ParseServers("127.0.0.1:11211", "/run/x y.sock/?3", "[::1]:5")
	if err != nil {
		f.Fatal(err)
	}
	r := newRecord(servers)
	r[1].state, r[2].state = joining, in
	f.Add(r.format("500ms"))
	f.Add("")
	f.Add("metacache 1 500ms\n0123456789abcdef in a:1\n")
	f.Add("metacache 1 500ms\n0123456789abcdef gone a:1\n")
	f.Add("metacache 2 500ms\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRecord(text, "500ms")
		if err != nil {
			return
		}
		if again := r.format("500ms"); again != text {
			t.Fatalf("%q is printed as %q", text, again)
		}
	})
}

func TestRecord(t *testing.T) {
	servers, err := memcache.ParseServers("127.0.0.1:11211", "/run/x.sock")
	if err != nil {
		t.Fatal(err)
	}
	r := newRecord(servers)
	r[0].state = in
	text := r.format("1s")
	got, err := parseRecord(text, "1s")
	if err != nil || len(got) != 2 || got[0] != r[0] || got[1] != r[1] || !got.same(servers) {
		t.Errorf("%q: %+v, %v; want %+v", text, got, err, r)
	}
	if _, err := parseRecord(text, "2s"); err == nil {
		t.Error("a record of processes with longer leases is taken")
	}
	if r[0].epoch == r[1].epoch {
		t.Error("epochs are alike")
	}
	if got.same(servers[:1]) || record(nil).same(servers) {
		t.Error("other lists are the same")
	}
}
