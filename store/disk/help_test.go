package disk

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// garble inverts n bytes of a file.
func garble(t testing.TB, path string, off int64, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 0xff
	}
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

func xattr(t testing.TB, path, key string) string {
	t.Helper()
	b := make([]byte, 4<<10)
	n, err := unix.Getxattr(path, key, b)
	if err != nil {
		t.Fatalf("getxattr %s of %s: %v", key, path, err)
	}
	return string(b[:n])
}

var background = context.Background()

// quiet is for tests that damage much.
func quiet(o Options) Options {
	o.Log = slog.New(slog.DiscardHandler)
	return o
}
