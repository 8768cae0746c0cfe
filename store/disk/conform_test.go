package disk_test

import (
	"log/slog"
	"testing"

	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
	"wheelhouse/store/disk"
	"wheelhouse/store/storetest"
)

func TestDevice(t *testing.T) {
	for name, o := range map[string]disk.Options{
		"packs":   {},
		"small":   {PackSize: 64 << 10, SmallLimit: 1000}, // many packs, many files
		"nopacks": {SmallLimit: -1},
		"files":   {Layout: disk.LayoutFiles},
		"plain":   {NoVerify: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Device(t, func(t *testing.T) store.Device {
				o.StorageID, o.MinFree, o.Log = 1, -1, slog.New(slog.DiscardHandler)
				o.FS = faultfs.NoSync{}
				d, err := disk.Open(t.TempDir(), o)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := d.Close(); err != nil {
						t.Errorf("Close: %v", err)
					}
				})
				return d
			})
		})
	}
}
