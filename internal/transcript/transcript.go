// Package transcript reads conversations of clients with a server, which document a protocol and test it: scenes of lines, played by a
// player that knows the protocol.
package transcript

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing"
)

// Line is one line of a scene.
type Line struct {
	Client bool   // the client's, else the server's
	Conn   string // the connection's name; "" for the first
	Text   string
	Where  string // file, number and the line itself, for messages
}

// Scene is one conversation.
type Scene struct {
	Name  string
	Ours  bool // only Wheelhouse behaves so
	Lines []Line
}

var lineForm = regexp.MustCompile(`^([CS])( \w+)?: ?(.*)$`)

// Parse reads the scenes of a file. A scene begins with "== name", or "== name (ours)"; its lines are "C: text" of the client and "S: text" of
// the server, "C a:" and "S a:" on the connection a. Empty lines, and those that begin with #, are left out.
func Parse(file string, text []byte) (list []Scene, err error) {
	n := 0
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		n++
		line := s.Text()
		where := fmt.Sprintf("%s:%d: %s", file, n, line)
		if name, ok := strings.CutPrefix(line, "== "); ok {
			name, ours := strings.CutSuffix(name, " (ours)")
			list = append(list, Scene{Name: name, Ours: ours})
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		m := lineForm.FindStringSubmatch(line)
		if m == nil || len(list) == 0 {
			return nil, fmt.Errorf("%s\nis not a line of a scene", where)
		}
		last := &list[len(list)-1]
		last.Lines = append(last.Lines, Line{m[1] == "C", strings.TrimSpace(m[2]), m[3], where})
	}
	return list, nil
}

// Run plays all scenes of the files *.txt in testdata, each as a test of its own, at the same time. begin makes what plays the lines of one, with
// a server of its own. With peer, scenes are left out that say how Wheelhouse differs from the other server of the protocol.
func Run(t *testing.T, files fs.FS, peer bool, begin func(t *testing.T) func(Line)) {
	names, err := fs.Glob(files, "testdata/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		base := strings.TrimPrefix(name, "testdata/")
		scenes, err := Parse(base, text)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range scenes {
			if peer && s.Ours {
				continue
			}
			t.Run(strings.TrimSuffix(base, ".txt")+"/"+s.Name, func(t *testing.T) {
				t.Parallel()
				play := begin(t)
				for _, l := range s.Lines {
					play(l)
				}
			})
		}
	}
}
