package transcript

import (
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const text = `# what is said
== first
C: hello

S a: you  too
C:
== second (ours)
C: raw "x"
`

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := Parse("f", []byte(text))
	want := []Scene{
		{Name: "first", Lines: []Line{
			{true, "", "hello", "f:3: C: hello"}, {false, "a", "you  too", "f:5: S a: you  too"}, {true, "", "", "f:6: C:"},
		}},
		{Name: "second", Ours: true, Lines: []Line{{true, "", `raw "x"`, `f:8: C: raw "x"`}}},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	for _, bad := range []string{"C: before a scene", "== s\nwhat is that"} {
		if _, err := Parse("f", []byte(bad)); err == nil || !strings.Contains(err.Error(), "is not a line of a scene") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	for _, peer := range []bool{false, true} {
		var mu sync.Mutex
		played := map[string]int{}
		t.Run("scenes", func(t *testing.T) {
			Run(t, fstest.MapFS{"testdata/f.txt": {Data: []byte(text)}, "testdata/g": {}}, peer, func(t *testing.T) func(Line) {
				return func(l Line) {
					mu.Lock()
					defer mu.Unlock()
					played[t.Name()[strings.Index(t.Name(), "/f/"):]]++
				}
			})
		})
		want := map[string]int{"/f/first": 3, "/f/second": 1}
		if peer {
			delete(want, "/f/second")
		}
		if d := cmp.Diff(want, played); d != "" {
			t.Errorf("peer %v: %s", peer, d)
		}
	}
}
