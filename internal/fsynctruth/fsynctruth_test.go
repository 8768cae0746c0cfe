package fsynctruth

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"testing"

	"wheelhouse/internal/faultfs"
)

// liar says that it has synced, and has not.
type liar struct {
	*faultfs.PowerCut
	files, dirs bool
}

type lyingFile struct{ faultfs.File }

func (lyingFile) Fdatasync() error { return nil }
func (lyingFile) Sync() error      { return nil }

func (l liar) OpenFile(name string, flag int, perm fs.FileMode) (faultfs.File, error) {
	f, err := l.PowerCut.OpenFile(name, flag, perm)
	if err != nil || !l.files {
		return f, err
	}
	return lyingFile{f}, nil
}

func (l liar) SyncDir(name string) error {
	if l.dirs {
		return nil
	}
	return l.PowerCut.SyncDir(name)
}

// cut writes until the power goes, and looks at what is there afterwards.
func cut(t *testing.T, after int, seed uint64, wrap func(*faultfs.PowerCut) faultfs.FS) (promised uint64, lies []Lie) {
	t.Helper()
	dir := t.TempDir()
	p := faultfs.NewPowerCut(t.TempDir(), after)
	const run = 77
	err := Write(t.Context(), wrap(p), dir, run, func(seq uint64) error {
		promised = seq
		return nil
	})
	if !errors.Is(err, faultfs.ErrPowerCut) {
		t.Fatalf("Write = %v", err)
	}
	if err := p.Restore(rand.New(rand.NewPCG(seed, 2))); err != nil {
		t.Fatal(err)
	}
	lies, err = Verify(faultfs.OS{}, dir, run, promised)
	if err != nil {
		t.Fatal(err)
	}
	if err := Clean(faultfs.OS{}, dir); err != nil {
		t.Error(err)
	}
	return promised, lies
}

func TestHonestDiskKeepsItsPromises(t *testing.T) {
	for seed := range uint64(8) {
		promised, lies := cut(t, 100+int(seed)*171, seed, func(p *faultfs.PowerCut) faultfs.FS { return p })
		if promised < 20 || len(lies) > 0 {
			t.Errorf("seed %d: %d promises; not kept: %v", seed, promised, lies)
		}
	}
}

func TestLiesAreFound(t *testing.T) {
	for _, tt := range []struct {
		name        string
		files, dirs bool
	}{{"files", true, false}, {"directories", false, true}, {"both", true, true}} {
		found := 0
		for seed := range uint64(5) {
			_, lies := cut(t, 400, seed, func(p *faultfs.PowerCut) faultfs.FS { return liar{p, tt.files, tt.dirs} })
			if len(lies) > 0 {
				found++
			}
		}
		if found != 5 {
			t.Errorf("%s: lies were found in %d of 5 power cuts", tt.name, found)
		}
	}
}
