package web

import (
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"wheelhouse/balancer"
	"wheelhouse/internal/atomicfile"
	"wheelhouse/internal/faultfs"
	"wheelhouse/internal/http1"
)

// writable is what PUT and DELETE may name: Perlbal's conservative characters, nothing encoded, no query.
var writable = regexp.MustCompile(`^(?:/[\w\-.]+)+$`)

// target is the name that a PUT or DELETE is for, below the docroot. ok is false when it has been answered.
func target(r *balancer.Request) (name string, ok bool) {
	uri := r.URI()
	switch {
	case !writable.MatchString(uri) || strings.Contains(uri, "..") || strings.Contains(uri+"/", "/./"):
		r.Error(400, "Invalid filename", "")
	case r.Set.Docroot == "":
		r.Error(500, "Docroot unconfigured", "the service has no docroot")
	default:
		return uri[1:], true
	}
	return "", false
}

// put writes a file: whole, or not at all.
func (s *Server) put(r *balancer.Request) {
	q := r.X.Request()
	if !r.Set.EnablePut {
		r.Error(403, "", "enable_put is off")
		return
	}
	if limit := r.Set.MaxPutSize; limit > 0 && q.ContentLength > limit {
		r.Error(400, fmt.Sprintf("Content-length of %d is invalid.", q.ContentLength), "above max_put_size")
		return
	}
	if q.Header.Has("Content-Range") { // RFC 9110 §14.5: a part must not be taken for the whole
		r.Error(400, "Content-Range is not possible with PUT.", "")
		return
	}
	name, ok := target(r)
	if !ok {
		return
	}
	root, err := s.files.root(r.Set.Docroot)
	if err != nil {
		r.Error(500, "", err.Error())
		return
	}
	defer s.files.releaseRoot(root)
	if !minimum(r, root.dir, name) {
		return
	}
	u := upload{r: r, fsys: faultfs.Root{Root: root.dir}, name: name, changing: &s.changing}
	if v := q.Header.Get("Content-MD5"); v != "" && r.Set.EnableMD5 {
		u.want, u.sum = v, md5.New()
	}
	status, err := u.run()
	s.files.forget(r.Set.Docroot, name)
	if err != nil {
		u.fail(err)
		return
	}
	r.Error(status, "", "") // a page like any other
}

// minimum checks min_put_directory: so many directories must be in the name, and be there.
func minimum(r *balancer.Request, root *os.Root, name string) bool {
	n := r.Set.MinPutDirectory
	if n == 0 {
		return true
	}
	parts := strings.Split(name, "/")
	if len(parts)-1 < n {
		r.Error(400, "Does not meet minimum directory requirement", "")
		return false
	}
	if info, err := root.Stat(path.Join(parts[:n]...)); err != nil || !info.IsDir() {
		r.Error(404, "Base directory does not exist", "")
		return false
	}
	return true
}

// upload is a PUT under way.
type upload struct {
	r    *balancer.Request
	fsys faultfs.FS
	name string
	want string    // Content-MD5
	sum  hash.Hash // nil: not asked for

	changing *sync.Mutex // held from the look at a file's conditions to its change
}

// tooLong is a body above a limit that was not announced.
type tooLong struct{ limit int64 }

func (e tooLong) Error() string { return fmt.Sprintf("more than %d bytes", e.limit) }

// mismatch is a body that is not what Content-MD5 says.
type mismatch struct{ want, got string }

func (e mismatch) Error() string {
	return "Content-MD5 mismatch, expected: " + e.want + " actual: " + e.got
}

// errCondition is a file that is not as the request's conditions demand.
var errCondition = errors.New("the request's conditions do not hold")

// bodyError is a body that could not be read.
type bodyError struct{ error }

func (e bodyError) Unwrap() error { return e.error }

// run writes the file, and returns the status of success: 201 for a new file, and for one whose sum was checked, else 200.
func (u *upload) run() (status int, err error) {
	dir := path.Dir(u.name)
	if _, err := u.status(); err != nil { // before the body is asked for
		return 0, err
	}
	if err := atomicfile.MkdirAll(u.fsys, dir, 0o755); err != nil {
		return 0, err
	}
	f, err := atomicfile.Create(u.fsys, u.name, 0o644)
	if err != nil {
		return 0, err
	}
	defer f.Abort()
	if err := u.copy(f); err != nil {
		return 0, err
	}
	if u.sum != nil {
		got := base64.StdEncoding.EncodeToString(u.sum.Sum(nil))
		if strings.TrimRight(u.want, "= ") != strings.TrimRight(got, "=") {
			return 0, mismatch{u.want, got}
		}
	}
	if err := f.Prepare(); err != nil {
		return 0, err
	}
	if status, err = u.publish(f); err != nil {
		return 0, err
	}
	return status, u.fsys.SyncDir(dir)
}

// publish puts the file in its place, unless its conditions have ceased to hold while the body came.
func (u *upload) publish(f *atomicfile.File) (status int, err error) {
	u.changing.Lock()
	defer u.changing.Unlock()
	if status, err = u.status(); err != nil {
		return 0, err
	}
	return status, f.Publish()
}

// status is that of success, as things are now.
func (u *upload) status() (int, error) {
	info, err := u.fsys.Stat(u.name)
	switch {
	case err == nil && info.IsDir():
		return 0, &fs.PathError{Op: "put", Path: u.name, Err: syscall.EISDIR}
	case err != nil:
		info = nil // MkdirAll and Create say what is wrong
	}
	if !mayChange(&u.r.X.Request().Header, info) {
		return 0, errCondition
	}
	if info != nil && u.sum == nil {
		return 200, nil
	}
	return 201, nil
}

// limit is how large the body may be, -1: any size.
func (u *upload) limit() int64 {
	set := u.r.Set
	limit := int64(-1)
	if set.MaxPutSize > 0 {
		limit = set.MaxPutSize
	}
	if u.r.X.Request().ContentLength < 0 && set.MaxChunked > 0 && (limit < 0 || set.MaxChunked < limit) {
		limit = set.MaxChunked
	}
	return limit
}

// copy writes the body.
func (u *upload) copy(f *atomicfile.File) error {
	limit, want := u.limit(), u.r.X.Request().ContentLength
	body := u.r.Body()
	buf := make([]byte, 64<<10)
	for total := int64(0); ; {
		n, err := body.Read(buf)
		if total += int64(n); limit >= 0 && total > limit {
			return tooLong{limit}
		}
		if u.sum != nil {
			u.sum.Write(buf[:n])
		}
		if n > 0 {
			if _, err := f.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			if want >= 0 && total != want { // not even of a service that has handed the request on
				return bodyError{io.ErrUnexpectedEOF}
			}
			return nil
		}
		if err != nil {
			return bodyError{err}
		}
	}
}

// fail answers for a PUT that has changed nothing.
func (u *upload) fail(err error) {
	r := u.r
	var long tooLong
	var wrong mismatch
	var body bodyError
	var proto *http1.Error
	var way *fs.PathError
	var errno syscall.Errno
	switch {
	case errors.Is(err, errCondition):
		r.Error(412, "", "")
	case errors.As(err, &long):
		r.Error(413, "Content too long.", err.Error())
	case errors.As(err, &wrong):
		r.Error(400, err.Error(), "")
	case errors.As(err, &proto):
		r.Error(proto.Status, proto.Reason, err.Error())
	case errors.As(err, &body):
		r.Reason = err.Error()
		r.X.Abort() // the client is gone
	case errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG):
		r.Error(400, "Invalid filename", err.Error())
	case errors.As(err, &way) && !errors.As(err, &errno): // a file is in the way, or a link that leads out of the docroot
		r.Error(400, "Invalid filename", err.Error())
	case errors.Is(err, fs.ErrPermission):
		r.Error(403, "", err.Error())
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		r.Error(507, "", err.Error())
	default:
		r.Error(500, "", err.Error())
	}
}

// delete removes a file.
func (s *Server) delete(r *balancer.Request) {
	if !r.Set.EnableDelete {
		r.Error(403, "", "enable_delete is off")
		return
	}
	name, ok := target(r)
	if !ok {
		return
	}
	root, err := s.files.root(r.Set.Docroot)
	if err != nil {
		r.Error(500, "", err.Error())
		return
	}
	defer s.files.releaseRoot(root)
	if err = s.remove(r, root.dir, name); err == nil {
		err = faultfs.Root{Root: root.dir}.SyncDir(path.Dir(name))
	}
	s.files.forget(r.Set.Docroot, name)
	switch {
	case errors.Is(err, errCondition):
		r.Error(412, "", "")
	case errors.Is(err, syscall.EISDIR):
		r.Error(400, "Is a directory", "")
	case err != nil:
		fail(r, err)
	default:
		own(r)
		r.Reply(204, nil)
	}
}

// remove removes a file, if the request's conditions hold.
func (s *Server) remove(r *balancer.Request, root *os.Root, name string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	info, err := root.Lstat(name)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return syscall.EISDIR
	}
	if info.Mode()&fs.ModeSymlink != 0 { // conditions are about what GET gives; the link is what goes
		if to, err := root.Stat(name); err == nil {
			info = to
		}
	}
	if !mayChange(&r.X.Request().Header, info) {
		return errCondition
	}
	return faultfs.Root{Root: root}.Remove(name)
}
