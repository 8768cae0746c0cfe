package web

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"

	"wheelhouse/balancer"
	"wheelhouse/balancer/compress"
)

// get answers GET and HEAD.
func (s *Server) get(r *balancer.Request) {
	path, err := Clean(r.Path)
	if err == nil {
		path, err = clean(r.Chain().Rewrite(r, path))
	}
	switch {
	case errors.Is(err, errBogus):
		r.Error(403, "Bogus URL", err.Error())
	case err != nil:
		r.Error(400, "", err.Error())
	case len(r.Query) > 0 && r.Query[0] == '?':
		s.concat(r, path, string(r.Query[1:]))
	case r.Set.Docroot == "":
		r.Error(500, "Docroot unconfigured", "the service has no docroot")
	case strings.HasSuffix(path, "/"):
		s.index(r, path)
	default:
		s.one(r, path)
	}
}

// open finds what a path stands for.
func (s *Server) open(r *balancer.Request, path string) (*file, error) {
	return s.files.open(key{r.Set.Docroot, local(path), r.Set.Precompressed})
}

// one answers with a file.
func (s *Server) one(r *balancer.Request, path string) {
	f, err := s.open(r, path)
	if err != nil {
		s.missing(r, path, err)
		return
	}
	defer s.files.release(f)
	if f.f == nil {
		redirect(r)
		return
	}
	s.found(r, path, f)
}

// missing answers when there is no file.
func (s *Server) missing(r *balancer.Request, path string, err error) {
	if r.Chain().Finds() && r.Chain().Found(r, []string{path}, []os.FileInfo{nil}) {
		return
	}
	fail(r, err)
}

// index answers for a directory: with the first of the index files, or a list.
func (s *Server) index(r *balancer.Request, path string) {
	for _, name := range r.Set.IndexFiles {
		f, err := s.open(r, path+name)
		if err != nil {
			continue
		}
		regular := f.f != nil
		if regular {
			s.found(r, path+name, f)
		}
		s.files.release(f)
		if regular {
			return
		}
	}
	switch f, err := s.open(r, path); {
	case err != nil:
		s.missing(r, path, err)
	case f.f != nil:
		s.files.release(f)
		s.missing(r, path, errors.New("a slash behind the name of a file"))
	case !r.Set.DirIndexing:
		r.Error(403, "Directory listing disabled", "dirindexing is off")
	default:
		s.list(r, path)
	}
}

// redirect sends the client to a directory's name with its slash, so that what is relative in its index is found. The name is the
// client's own, not what a plugin has made of it.
func redirect(r *balancer.Request) {
	own(r)
	h := r.X.Header()
	to := "/" + string(bytes.TrimLeft(r.Path, "/")) + "/" // "//host/" would be another server's
	if r.Query != nil {
		to += "?" + string(r.Query)
	}
	h.Set("Location", strings.ReplaceAll(to, `\`, "%5C"))
	h.Set("Content-Type", "text/html")
	r.Reply(301, balancer.Page(301, ""))
}

// own sets the field that all answers of the balancer's own have.
func own(r *balancer.Request) {
	if r.Set.ServerTokens {
		r.X.Header().Set("Server", balancer.ServerToken)
	}
}

// found answers with a file that is there.
func (s *Server) found(r *balancer.Request, path string, f *file) {
	chain := r.Chain()
	if chain.Finds() && chain.Found(r, []string{path}, []os.FileInfo{f.info}) {
		return
	}
	coding := ""
	if f.zstd || f.gzip {
		r.X.Header().Set("Vary", "Accept-Encoding")
		var sibling *file
		if coding, sibling = s.sibling(r, f); sibling != nil {
			defer s.files.release(sibling)
			f = sibling
		}
	}
	prefix, err := chain.Alter(r, path, f.f)
	if err == nil && int64(len(prefix)) > f.size {
		err = errors.New("a plugin gave more than the file holds")
	}
	if err != nil {
		r.X.Header().Del("Vary")
		r.Error(404, "", err.Error())
		return
	}
	v := f.validators
	h := r.X.Header()
	own(r)
	h.Set("Last-Modified", v.date)
	if coding != "" {
		h.Set("Content-Encoding", coding)
		v.etag = etag(f.size, f.modified, coding)
	}
	h.Set("ETag", v.etag)
	if status := v.precondition(r.Fields()); status != 0 {
		_, _ = r.Begin(status, 0) // a client that is gone needs no answer
		return
	}
	h.Set("Accept-Ranges", "bytes")
	kind, _ := r.Set.MIMEType(path)
	h.Set("Content-Type", kind)
	parts(r, f.content(prefix), &v, 200)
}

// sibling is a file in a coding that the client takes.
func (s *Server) sibling(r *balancer.Request, f *file) (coding string, sib *file) {
	there := make([]string, 0, 2)
	if f.zstd {
		there = append(there, "zstd")
	}
	if f.gzip {
		there = append(there, "gzip")
	}
	coding = compress.Choose(r.X.Request().Header.Joined("Accept-Encoding"), there)
	suffix := map[string]string{"zstd": ".zst", "gzip": ".gz"}[coding]
	if suffix == "" {
		return "", nil
	}
	sib, err := s.files.open(key{dir: f.key.dir, name: f.key.name + suffix})
	if err != nil || sib.f == nil {
		return "", nil // gone since; the file itself is as good
	}
	return coding, sib
}

// content is a file's bytes, the first of which may be altered.
type content struct {
	f      *os.File
	bytes  []byte // all of f, nil: to be read
	prefix []byte // in place of the file's first bytes
	size   int64
}

func (f *file) content(prefix []byte) *content {
	c := &content{f: f.f, prefix: prefix, size: f.size}
	if b := f.bytes.Load(); b != nil {
		c.bytes = *b
	}
	return c
}

// send sends a part.
func (c *content) send(r *balancer.Request, p span) error {
	if p.off < int64(len(c.prefix)) {
		b := c.prefix[p.off:min(p.off+p.n, int64(len(c.prefix)))]
		n, err := r.X.Write(b)
		r.Sent += int64(n)
		if err != nil {
			return err
		}
		p = span{p.off + int64(len(b)), p.n - int64(len(b))}
	}
	if p.n == 0 {
		return nil
	}
	if c.bytes != nil {
		n, err := r.X.Write(c.bytes[p.off : p.off+p.n])
		r.Sent += int64(n)
		return err
	}
	n, err := r.X.SendFile(c.f, p.off, p.n)
	r.Sent += n
	return err
}

// parts answers with a file, or those parts of it that the client asks for; a status other than 200 is the whole file's.
func parts(r *balancer.Request, c *content, v *validators, status int) {
	fields := r.Fields()
	h := r.X.Header()
	var spans []span
	if field := fields.Bytes("Range"); field != nil && r.X.Request().Method == "GET" && status == 200 && balancer.IfRange(fields, v.etag, v.date) {
		ok := true
		if spans, ok = parseRange(string(field), c.size); !ok {
			h.Set("Content-Range", "bytes */"+strconv.FormatInt(c.size, 10))
			h.Del("Content-Type")
			_, _ = r.Begin(416, 0)
			return
		}
	}
	switch len(spans) {
	case 0:
		spans = []span{{0, c.size}}
	case 1:
		h.Set("Content-Range", contentRange(spans[0], c.size))
		status = 206
	default:
		multipart(r, c, spans)
		return
	}
	if goOn, err := r.Begin(status, spans[0].n); err != nil || !goOn || spans[0].n == 0 {
		return
	}
	// An error means that the client is gone, or that the file has become shorter: the engine breaks the answer off.
	_ = c.send(r, spans[0])
}
