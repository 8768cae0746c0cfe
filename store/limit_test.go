package store_test

import (
	"testing"

	"wheelhouse/store"
)

func TestParseRate(t *testing.T) {
	for s, want := range map[string]float64{"0": 0, "50MB": 50e6, "1.5G": 1.5e9, "200": 200, "10 kB/s": -1, "3k/s": 3000, "2K": 2000, "": -1, "-1": -1, "x": -1, "NaN": -1, "1e30": -1} {
		got, err := store.ParseRate(s)
		if want < 0 != (err != nil) || err == nil && got != want {
			t.Errorf("ParseRate(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for key, ok := range map[string]bool{"limit.rebuild.bytes": true, "limit.background.bytes": true, "limit.nonsense.bytes": false, "limit.fsck.x": false, "other": true} {
		if err := store.CheckSetting(key, "5MB"); err == nil != ok {
			t.Errorf("CheckSetting(%q): %v", key, err)
		}
	}
	if store.CheckSetting("limit.rebuild.bytes", "fast") == nil {
		t.Error("a limit that is no number was accepted")
	}
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"1", "50MB/s", "1.5G", "k", "B", "-", "0x1p4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := store.ParseRate(s); err == nil && !(v >= 0 && v <= 1e18) {
			t.Errorf("ParseRate(%q) = %v", s, v)
		}
	})
}
