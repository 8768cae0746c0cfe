package web

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"wheelhouse/balancer"
	"wheelhouse/internal/faultfs"
	"wheelhouse/internal/http1"
)

// upExchange is a PUT's.
type upExchange struct {
	http1.Exchange
	request http1.Request
	header  http1.Header
	body    io.Reader
	status  int
}

func (x *upExchange) Request() *http1.Request         { return &x.request }
func (x *upExchange) Header() *http1.Header           { return &x.header }
func (x *upExchange) Body() io.Reader                 { return x.body }
func (x *upExchange) Started() bool                   { return x.status != 0 }
func (x *upExchange) Start(status int, _ int64) error { x.status = status; return nil }
func (x *upExchange) Write(p []byte) (int, error)     { return len(p), nil }

// TestPutBreaksAtEveryStep fails each operation that a PUT is made of: the file is what it was, or all that it becomes, nothing is
// left beside it, and the client is told.
func TestPutBreaksAtEveryStep(t *testing.T) {
	const before, after = "what was there before", "what is there now"
	fired := map[faultfs.Op]int{}
	for _, name := range []string{"f", "new/dir/f"} {
		for _, op := range faultfs.Ops() {
			for n := 1; ; n++ {
				dir := t.TempDir()
				if err := os.WriteFile(filepath.Join(dir, "f"), []byte(before), 0o644); err != nil {
					t.Fatal(err)
				}
				root, err := os.OpenRoot(dir)
				if err != nil {
					t.Fatal(err)
				}
				fsys := &faultfs.Faulty{FS: faultfs.Root{Root: root}}
				fsys.Fail(op, n, syscall.ENOSPC)
				x := &upExchange{request: http1.Request{Method: "PUT", ContentLength: int64(len(after))}, body: strings.NewReader(after)}
				set := &balancer.Settings{}
				u := upload{r: &balancer.Request{X: x, Set: set, Entry: set}, fsys: fsys, name: name, changing: new(sync.Mutex)}
				_, err = u.run()
				if err != nil {
					u.fail(err)
				}
				root.Close()
				checkUpload(t, dir, name, before, after, err, x.status)
				if fsys.Fired() == 0 {
					if err != nil {
						t.Errorf("%s: nothing failed, but: %v", name, err)
					}
					break
				}
				fired[op]++
				if err == nil && op != faultfs.OpRemove {
					t.Errorf("%s: %v %d failed, and nobody was told", name, op, n)
				}
			}
		}
	}
	for _, op := range []faultfs.Op{faultfs.OpOpen, faultfs.OpWrite, faultfs.OpSync, faultfs.OpSyncDir, faultfs.OpRename, faultfs.OpMkdir} {
		if fired[op] == 0 {
			t.Errorf("%v never failed", op)
		}
	}
}

func checkUpload(t *testing.T, dir, name, before, after string, err error, status int) {
	t.Helper()
	got, rerr := os.ReadFile(filepath.Join(dir, name))
	whole := []string{after}
	if err != nil {
		if whole = append(whole, ""); name == "f" {
			whole = []string{before, after} // after: the name was given, but not made durable
		}
		if status != 507 {
			t.Errorf("%s: %v: answered with %d; want 507", name, err, status)
		}
	}
	if rerr != nil && !os.IsNotExist(rerr) || !slices.Contains(whole, string(got)) {
		t.Errorf("%s: %v: holds %q, %v", name, err, got, rerr)
	}
	entries, rerr := os.ReadDir(filepath.Dir(filepath.Join(dir, name)))
	for _, e := range entries {
		if e.Name() != "f" && e.Name() != "new" {
			t.Errorf("%s: %v: %s was left behind", name, err, e.Name())
		}
	}
	if rerr != nil && err == nil {
		t.Error(rerr)
	}
}
