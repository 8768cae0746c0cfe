// Package web is the role web_server: files below a directory, served, listed, joined, written and removed.
//
// Names that clients send are resolved below the service's docroot and never lead out of it, neither by ".." nor by a symbolic
// link (os.Root); a link that stays inside is followed.
package web

import (
	"cmp"
	"errors"
	"io/fs"
	"sync"
	"syscall"

	"wheelhouse/balancer"
)

// Options of a Server.
type Options struct {
	MaxOpen   int   // files that are kept open for the next request, default a quarter of what the process may open, 4096 at most
	MaxMemory int64 // bytes of those up to 32 KiB that are kept in memory too, default 32 MiB, negative: none
}

// Server answers requests with files. Its methods are safe for concurrent use.
type Server struct {
	files    *files
	changing sync.Mutex // held from the look at a file's conditions to its change
}

// New makes a Server. It opens nothing.
func New(o Options) *Server {
	if o.MaxOpen <= 0 {
		o.MaxOpen = usualOpen()
	}
	return &Server{files: newFiles(o.MaxOpen, cmp.Or(o.MaxMemory, 32<<20))}
}

// usualOpen leaves connections the greater part of the descriptors.
func usualOpen() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 256
	}
	return int(min(uint64(limit.Cur)/4, 4096))
}

// Close closes the files that are kept open. What is being sent is sent; files asked for afterwards are opened for each request.
func (s *Server) Close() { s.files.close() }

// Serve answers a request to a web_server: it is balancerd's Options.Web.
func (s *Server) Serve(r *balancer.Request) {
	switch r.X.Request().Method {
	case "GET", "HEAD":
		s.get(r)
	case "PUT":
		s.put(r)
	case "DELETE":
		s.delete(r)
	default:
		r.Error(400, "", "web_server has no such method")
	}
}

// fail answers with what an error of the file system means to a client.
func fail(r *balancer.Request, err error) {
	switch {
	case errors.Is(err, fs.ErrPermission):
		r.Error(403, "", err.Error())
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EIO),
		errors.Is(err, syscall.ESTALE):
		r.Error(500, "", err.Error())
	default:
		// Not there, a file where a directory should be, too long a name, a way out of the docroot.
		r.Error(404, "", err.Error())
	}
}
