package catalog

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"wheelhouse/store"
)

func FuzzDecodeMeta(f *testing.F) {
	f.Add(encodeMeta([]store.Field{{Name: "a", Value: "b"}, {Name: "", Value: ""}, {Name: "ü", Value: "\x00"}}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Add([]byte{5, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		fields, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := decodeMeta(encodeMeta(fields))
		if err != nil || !cmp.Equal(again, fields) {
			t.Errorf("%x decodes to %q, and that to %q, %v", b, fields, again, err)
		}
	})
}

func TestClusters(t *testing.T) {
	for _, ids := range [][]store.ClusterID{nil, {1}, {3, 1, 4294967295}} {
		got, err := parseClusters(formatClusters(ids))
		if err != nil || !cmp.Equal(got, ids) {
			t.Errorf("parseClusters(formatClusters(%v)) = %v, %v", ids, got, err)
		}
	}
	if got, err := parseClusters("1,x"); err == nil {
		t.Errorf("parseClusters = %v", got)
	}
}
