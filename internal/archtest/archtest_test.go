// Package archtest holds the tests that keep the house in order: who may import whom, and that each package says what it
// is.
package archtest

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "wheelhouse"
)

// pkg is one directory with Go files.
type pkg struct {
	dir     string              // below the root, with slashes
	imports map[string][]string // of this module, by the file that imports them; test files apart
	doc     bool
	name    string
}

// packages parses all Go files itself: a test that asks the go command passes from the test cache when a file that it
// never opened has changed.
func packages(t *testing.T) []pkg {
	t.Helper()
	byDir := map[string]*pkg{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" || name == "data" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		p := byDir[dir]
		if p == nil {
			p = &pkg{dir: filepath.ToSlash(dir), imports: map[string][]string{}}
			byDir[dir] = p
		}
		return p.add(path)
	})
	if err != nil {
		t.Fatal(err)
	}
	var list []pkg
	for _, p := range byDir {
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b pkg) int { return strings.Compare(a.dir, b.dir) })
	return list
}

func (p *pkg) add(path string) error {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return err
	}
	p.doc = p.doc || docOf(f)
	p.name = strings.TrimSuffix(f.Name.Name, "_test")
	if strings.HasSuffix(path, "_test.go") {
		return nil // tests may use the suites and fakes of other rooms
	}
	for _, spec := range f.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if rest, ok := strings.CutPrefix(name, module+"/"); ok {
			p.imports[filepath.Base(path)] = append(p.imports[filepath.Base(path)], rest)
		}
	}
	return nil
}

func docOf(f *ast.File) bool {
	return f.Doc != nil && (strings.HasPrefix(f.Doc.Text(), "Package "+f.Name.Name+" ") || strings.HasPrefix(f.Doc.Text(), "Command "))
}

// rules reads layers.txt.
func rules(t *testing.T) map[string][]string {
	t.Helper()
	f, err := os.Open("layers.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	allowed := map[string][]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		line, _, _ := strings.Cut(s.Text(), "#")
		if fields := strings.Fields(line); len(fields) > 0 {
			allowed[fields[0]] = fields[1:]
		}
	}
	return allowed
}

func ruleFor(allowed map[string][]string, dir string) (rule []string, ok bool) {
	if rule, ok = allowed[dir]; ok {
		return rule, true
	}
	for d := dir; ; {
		if rule, ok = allowed[d+"/..."]; ok {
			return rule, true
		}
		i := strings.LastIndexByte(d, '/')
		if i < 0 {
			return nil, false
		}
		d = d[:i]
	}
}

func TestImportsFollowTheLayers(t *testing.T) {
	allowed := rules(t)
	for _, p := range packages(t) {
		rule, ok := ruleFor(allowed, p.dir)
		if !ok {
			t.Errorf("package %s has no line in layers.txt", p.dir)
			continue
		}
		for file, imports := range p.imports {
			for _, i := range imports {
				if !slices.Contains(rule, "*") && !slices.Contains(rule, i) {
					t.Errorf("%s/%s imports %s, which layers.txt does not allow", p.dir, file, i)
				}
			}
		}
	}
}

// house is the first segment of a path that is a house.
func house(dir string) string {
	first, _, _ := strings.Cut(dir, "/")
	if slices.Contains([]string{"internal", "cmd", "bench", "docs"}, first) {
		return ""
	}
	return first
}

func TestNoHouseImportsAnother(t *testing.T) {
	for _, p := range packages(t) {
		houses := map[string]bool{}
		for _, imports := range p.imports {
			for _, i := range imports {
				if h := house(i); h != "" {
					houses[h] = true
				}
			}
		}
		if h := house(p.dir); h != "" {
			delete(houses, h)
			for other := range houses {
				t.Errorf("%s is of the house %s and imports the house %s; they meet in internal/bridge", p.dir, h, other)
			}
		}
		if strings.HasPrefix(p.dir, "internal/bridge/") && len(houses) != 2 {
			t.Errorf("%s knows %d houses; a bridge knows two", p.dir, len(houses))
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		if !p.doc {
			t.Errorf("package %s (%s) has no package comment that begins with \"Package %s \"", p.dir, p.name, p.name)
		}
	}
}

// A newcomer finds each room in the table of docs/architecture.md; what is below bench is programs of one comparison each.
func TestEveryPackageStandsInTheDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages(t) {
		if !strings.HasPrefix(p.dir, "bench/") && !strings.Contains(string(text), "`"+p.dir+"`") {
			t.Errorf("docs/architecture.md has no line for %s", p.dir)
		}
	}
}
