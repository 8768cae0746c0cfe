package web

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"

	"wheelhouse/balancer"
)

// maxConcat is how many files one answer may be made of.
const maxConcat = 100

// concat answers /base/??a,b with the files one after the other. What follows another '?' in the list is for browsers' caches.
func (s *Server) concat(r *balancer.Request, base, query string) {
	query, _, _ = strings.Cut(query, "?")
	names := strings.Split(query, ",")
	switch {
	case !strings.HasSuffix(base, "/"):
		r.Error(500, "Base directory (before ??) must end in slash.", "")
		return
	case r.Set.Docroot == "":
		r.Error(500, "Docroot unconfigured", "the service has no docroot")
		return
	case !r.Set.EnableConcat:
		r.Error(403, "Multiple file serving isn't enabled", "enable_concatenate_get is off")
		return
	case len(names) > maxConcat:
		r.Error(403, "Too many files requested", "")
		return
	}
	paths := make([]string, len(names))
	for i, name := range names {
		path, err := Clean([]byte("/" + name))
		if err != nil {
			r.Error(403, "Bogus filenames", err.Error())
			return
		}
		paths[i] = base + path[1:]
	}
	dir, err := s.files.stat(key{dir: r.Set.Docroot, name: local(base)})
	if err != nil || !dir.IsDir() {
		r.Error(404, "Base directory not a directory", "")
		return
	}
	s.joined(r, paths)
}

// joined answers with several files.
func (s *Server) joined(r *balancer.Request, paths []string) {
	files, infos := make([]*file, 0, len(paths)), make([]os.FileInfo, len(paths))
	defer func() {
		for _, f := range files {
			s.files.release(f)
		}
	}()
	for i, path := range paths {
		f, err := s.files.open(key{dir: r.Set.Docroot, name: local(path)})
		if err != nil || f.f == nil || strings.HasSuffix(path, "/") {
			if err == nil {
				s.files.release(f)
			}
			continue
		}
		files, infos[i] = append(files, f), f.info
	}
	if chain := r.Chain(); chain.Finds() && chain.Found(r, paths, infos) {
		return
	}
	if slices.Contains(infos, nil) {
		r.Error(404, "One or more file does not exist", "")
		return
	}
	contents := make([]*content, len(files))
	for i, f := range files {
		prefix, err := r.Chain().Alter(r, paths[i], f.f)
		if err == nil && int64(len(prefix)) > f.size {
			err = errors.New("a plugin gave more than the file holds")
		}
		if err != nil {
			r.Error(404, "", err.Error())
			return
		}
		contents[i] = f.content(prefix)
	}
	sendJoined(r, joinedValidators(files), kindOf(r, paths), contents)
}

func sendJoined(r *balancer.Request, v validators, kind string, contents []*content) {
	h := r.X.Header()
	own(r)
	h.Set("Last-Modified", v.date)
	h.Set("ETag", v.etag)
	if status := v.precondition(r.Fields()); status != 0 {
		_, _ = r.Begin(status, 0) // a client that is gone needs no answer
		return
	}
	h.Set("Content-Type", kind)
	if goOn, err := r.Begin(200, v.size); err != nil || !goOn {
		return
	}
	for _, c := range contents {
		if c.size > 0 && c.send(r, span{0, c.size}) != nil {
			return
		}
	}
}

// kindOf is the type of the first file whose extension says one.
func kindOf(r *balancer.Request, paths []string) string {
	for _, path := range paths {
		if kind, ok := r.Set.MIMEType(path); ok {
			return kind
		}
	}
	return balancer.UnknownType
}

// joinedValidators are those of files one after the other: as new as the newest, the same only if all are.
func joinedValidators(files []*file) validators {
	var v validators
	sum := sha256.New()
	for _, f := range files {
		v.size += f.size
		if f.modified.After(v.modified) {
			v.modified = f.modified
		}
		sum.Write([]byte(f.key.name + "\x00" + f.etag))
	}
	v.date = v.modified.UTC().Format(http.TimeFormat)
	v.etag = `"` + hex.EncodeToString(sum.Sum(nil)[:16]) + `"`
	return v
}
