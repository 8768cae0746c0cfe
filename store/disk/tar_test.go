package disk

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wheelhouse/store"
)

// tarPrograms are those that must read a pack, with the Debian package each comes from.
var tarPrograms = []struct{ name, pkg string }{{"tar", "tar"}, {"bsdtar", "libarchive-tools"}}

// runTar runs a tar program, which must succeed and have nothing to say on stderr.
func runTar(t *testing.T, name, pkg, locale string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is needed for this test: apt-get install %s", name, pkg)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL="+locale)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Fatalf("%s %q: %v, stderr: %s", name, args, err, stderr.String())
	}
	return stdout.String()
}

// tarCase is an entity and where tar is to put it.
type tarCase struct {
	bucket, name string
	path         string
	size         int
}

func tarCases() []tarCase {
	long := strings.Repeat("dir/", 200) + "end" // beyond what a ustar header holds
	component := strings.Repeat("c", 255)
	return []tarCase{
		{"photos", "2026/cat.jpg", "photos/2026/cat.jpg", 10_000},
		{"photos", "empty", "photos/empty", 0},
		{"photos", "block", "photos/block", 512},
		{"photos", "block+1", "photos/block+1", 513},
		{"photos", "été/日本語.txt", "photos/été/日本語.txt", 100},
		{"photos", long, "photos/" + long, 1000},
		{"photos", component, "photos/" + component, 1},
		{"photos", component + "x", "photos/.wheelhouse/8", 2},
		{"photos", "../../etc/passwd", "photos/.wheelhouse/9", 30},
		{"photos", "/absolute", "photos/.wheelhouse/10", 31},
		{"photos", "slash/", "photos/.wheelhouse/11", 32},
		{"photos", "a//b", "photos/.wheelhouse/12", 33},
		{"photos", "\xff\xfe\n\x01", "photos/.wheelhouse/13", 34},
		{"photos", ".wheelhouse/5", "photos/.wheelhouse/14", 35},
		{"..", "x", "%2E./.wheelhouse/15", 36},
		{"a/b", "x", "a%2Fb/.wheelhouse/16", 37},
		{"", "", ".wheelhouse/17", 38},
		{"photos", "-rf *", "photos/-rf *", 39},
		{"photos", "tab\tand = sign", "photos/tab\tand = sign", 40},
		{"photos", ".", "photos/.wheelhouse/20", 41},
	}
}

func TestTarReadsPacks(t *testing.T) {
	d := open(t, t.TempDir(), testOptions(t))
	cases := tarCases()
	for i, c := range cases {
		id := store.ObjectID(i + 1)
		data := content(id, c.size)
		info := entity(id, data)
		info.Bucket, info.Name = c.bucket, c.name
		if err := d.Put(t.Context(), info, data); err != nil {
			t.Fatal(err)
		}
		got, err := d.Stat(t.Context(), id)
		if err != nil || got.Bucket != c.bucket || got.Name != c.name {
			t.Errorf("Stat(%d) = %q, %q, %v; want %q, %q", id, got.Bucket, got.Name, err, c.bucket, c.name)
		}
	}
	pack := packPath(d.dir, 1) + packExt
	check := func(t *testing.T) {
		for _, prog := range tarPrograms {
			for _, locale := range []string{"C", "C.UTF-8"} {
				t.Run(prog.name+"/"+locale, func(t *testing.T) {
					list := runTar(t, prog.name, prog.pkg, locale, "-tvf", pack)
					if n := strings.Count(list, "\n"); n != len(cases) {
						t.Errorf("%d members listed; want %d:\n%s", n, len(cases), list)
					}
					out := t.TempDir()
					runTar(t, prog.name, prog.pkg, locale, "-xf", pack, "-C", out)
					for i, c := range cases {
						id := store.ObjectID(i + 1)
						got, err := os.ReadFile(filepath.Join(out, c.path))
						if err != nil || !bytes.Equal(got, content(id, c.size)) {
							t.Errorf("extracted %q: %v, %d bytes", c.path, err, len(got))
						}
						st, err := os.Stat(filepath.Join(out, c.path))
						if err == nil && !st.ModTime().Equal(created) {
							t.Errorf("extracted %q: mtime %v; want %v", c.path, st.ModTime(), created)
						}
					}
				})
			}
		}
	}
	t.Run("active", check)
	sealActive(t, d)
	if !d.Packs()[0].Sealed {
		t.Fatal("the pack is not sealed")
	}
	t.Run("sealed", check)
}

func TestTarRestoresAttributes(t *testing.T) {
	d := open(t, t.TempDir(), testOptions(t))
	put(t, d, 1, []byte("hello"))
	out := t.TempDir()
	runTar(t, "tar", "tar", "C.UTF-8", "--xattrs", "--xattrs-include=user.*", "-xf", packPath(d.dir, 1)+packExt, "-C", out)
	path := filepath.Join(out, "photos/2026/1.jpg")
	for key, want := range map[string]string{"user.mime_type": "image/jpeg", "user.wheelhouse.id": "1", "user.wheelhouse.md5": "5d41402abc4b2a76b9719d911017c592"} {
		if got := xattr(t, path, key); got != want {
			t.Errorf("%s = %q; want %q", key, got, want)
		}
	}
}

// TestTarAfterRot destroys the header of a member: recovery makes the archive whole again around it.
func TestTarAfterRot(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, testOptions(t))
	for id := store.ObjectID(1); id <= 3; id++ {
		put(t, d, id, content(id, 1000))
	}
	_, e, h, err := d.find(2)
	if err != nil {
		t.Fatal(err)
	}
	h.release()
	d.kill()
	garble(t, packPath(dir, 1)+packExt, e.off, 100)
	d = open(t, dir, testOptions(t))
	wantContent(t, d, 1, content(1, 1000))
	wantGone(t, d, 2)
	wantContent(t, d, 3, content(3, 1000))
	for _, prog := range tarPrograms {
		list := runTar(t, prog.name, prog.pkg, "C.UTF-8", "-tf", packPath(dir, 1)+packExt)
		want := fmt.Sprintf("photos/2026/1.jpg\n.wheelhouse/damaged/%012d\nphotos/2026/3.jpg\n", e.off)
		if list != want {
			t.Errorf("%s lists %q; want %q", prog.name, list, want)
		}
	}
}
