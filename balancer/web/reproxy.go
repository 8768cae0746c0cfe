package web

import (
	"errors"
	"path/filepath"
	"strings"

	"wheelhouse/balancer"
)

// File answers with a file that a backend has named in X-REPROXY-FILE: it is balancerd's Options.File. The answer's fields are those
// of the backend's, already set; status is its status. expected is the size that the file must have, -1: any. Where the settings
// have ReproxyRoots the file is below one of them, otherwise it is any that the process can read; a backend is trusted that far.
func (s *Server) File(r *balancer.Request, path string, status int, expected int64) {
	f, err := s.files.openAbsolute(path, r.Set.ReproxyRoots)
	if err != nil {
		fail(r, err)
		return
	}
	defer s.files.release(f)
	switch {
	case f.f == nil:
		r.Error(404, "", "X-REPROXY-FILE: "+path+" is a directory")
		return
	case expected >= 0 && expected != f.size:
		r.Error(404, "", "X-REPROXY-FILE: "+path+" has another size than X-REPROXY-EXPECTED-SIZE")
		return
	}
	prefix, err := r.Chain().Alter(r, path, f.f)
	if err != nil || int64(len(prefix)) > f.size {
		r.Error(404, "", "a plugin could not alter the file")
		return
	}
	h := r.X.Header()
	h.Set("Accept-Ranges", "bytes")
	if !h.Has("Content-Type") {
		kind, _ := r.Set.MIMEType(path)
		h.Set("Content-Type", kind)
	}
	v := f.validators
	v.etag, v.date = h.Get("ETag"), h.Get("Last-Modified") // the client knows the backend's
	parts(r, f.content(prefix), &v, status)
}

// openAbsolute opens a file by its whole name.
func (c *files) openAbsolute(path string, roots []string) (*file, error) {
	if !filepath.IsAbs(path) || strings.IndexByte(path, 0) >= 0 {
		return nil, errors.New("X-REPROXY-FILE: " + path + " is no absolute path")
	}
	path = filepath.Clean(path)
	if len(roots) == 0 {
		return c.open(key{name: path})
	}
	for _, root := range roots {
		if name, ok := strings.CutPrefix(path, strings.TrimSuffix(filepath.Clean(root), "/")+"/"); ok && name != "" {
			return c.open(key{dir: root, name: name})
		}
	}
	return nil, errors.New("X-REPROXY-FILE: " + path + " is below none of reproxy_file_roots")
}
