package web

import (
	"cmp"
	"errors"
	"html"
	"io"
	"io/fs"
	"os"
	"slices"

	"wheelhouse/balancer"
	"wheelhouse/internal/atomicfile"
)

// maxList is how many names of a directory are listed.
const maxList = 20000

// list answers with the names in a directory.
func (s *Server) list(r *balancer.Request, path string) {
	d, err := s.files.openFile(key{dir: r.Set.Docroot, name: local(path)})
	if err != nil {
		fail(r, err)
		return
	}
	entries, err := d.ReadDir(maxList + 1)
	d.Close()
	if err != nil && !errors.Is(err, io.EOF) {
		fail(r, err)
		return
	}
	names := []listed{{".", true}, {"..", true}}
	for _, e := range entries[:min(len(entries), maxList)] {
		if !atomicfile.IsTemp(e.Name()) { // of a PUT under way
			names = append(names, listed{e.Name(), s.isDir(r, path, e)})
		}
	}
	base := path
	if orig, err := Clean(r.Path); err == nil { // what the client sees, if a plugin has made something else of it
		base = orig
	}
	own(r)
	r.X.Header().Set("Content-Type", "text/html; charset=utf-8")
	r.Reply(200, page(base, names, len(entries) > maxList))
}

// listed is a name in a directory.
type listed struct {
	name string
	dir  bool
}

// isDir follows a link, if it stays below the docroot.
func (s *Server) isDir(r *balancer.Request, path string, e fs.DirEntry) bool {
	if e.Type()&os.ModeSymlink == 0 {
		return e.IsDir()
	}
	info, err := s.files.stat(key{dir: r.Set.Docroot, name: local(path + e.Name())})
	return err == nil && info.IsDir()
}

// page is the list as Perlbal wrote it, sorted, but with names escaped for URLs and HTML.
func page(base string, names []listed, more bool) []byte {
	slices.SortFunc(names, func(a, b listed) int { return cmp.Compare(a.name, b.name) })
	b := []byte("<html><body>")
	for _, n := range names {
		href, text := encode(base+n.name), html.EscapeString(n.name)
		if n.dir {
			b = append(b, "<b><a href='"+href+"/'>"+text+"</a></b><br />\n"...)
		} else {
			b = append(b, "<a href='"+href+"'>"+text+"</a><br />\n"...)
		}
	}
	if more {
		b = append(b, "…<br />\n"...)
	}
	return append(b, "</body></html>"...)
}
