package storaged

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"wheelhouse/internal/byterange"
	"wheelhouse/internal/http1"
)

// plain serves files by paths that clients bring along: STF's dispatcher names entities a/b/c/d/<name>.<suffix>, and
// MogileFS's monitor writes test-write/test-write-7. os.Root keeps every path inside the directory.
func (n *Node) plain(x http1.Exchange, d *Disk, raw string) {
	name, err := url.PathUnescape(raw)
	if err != nil || !fs.ValidPath(name) || name == "." || strings.ContainsRune(name, 0) {
		refuse(x, http.StatusBadRequest, "the path is not one of a file: %q", raw)
		return
	}
	root, err := d.Plain()
	if err != nil {
		n.fail(x, err)
		return
	}
	defer root.Close()
	switch x.Request().Method {
	case "GET", "HEAD":
		n.metrics.Reads.Add(1)
		err = n.readPlain(x, root, name)
	case "PUT":
		n.metrics.Writes.Add(1)
		err = n.writePlain(x, root, name)
	case "DELETE":
		n.metrics.Deletes.Add(1)
		if err = root.Remove(name); err == nil {
			_ = x.Reply(http.StatusNoContent, nil)
		}
	default:
		x.Header().Set("Allow", "GET, HEAD, PUT, DELETE, MKCOL")
		refuse(x, http.StatusMethodNotAllowed, "a file takes GET, HEAD, PUT, DELETE and MKCOL")
		return
	}
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		refuse(x, http.StatusNotFound, "no such file: %q", name)
	default:
		n.fail(x, err)
	}
}

func (n *Node) readPlain(x http1.Exchange, root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fs.ErrNotExist
	}
	h := x.Header()
	h.Set("Content-Type", contentType(name))
	h.Set("Last-Modified", st.ModTime().UTC().Format(http.TimeFormat))
	if when, err := http.ParseTime(x.Request().Header.Get("If-Modified-Since")); err == nil && st.ModTime().Unix() <= when.Unix() {
		_ = x.Reply(http.StatusNotModified, nil)
		return nil
	}
	off, size, status := int64(0), st.Size(), http.StatusOK
	if part, kind := byterange.Single(x.Request().Header.Get("Range"), size); kind == byterange.Part {
		h.Set("Content-Range", "bytes "+strconv.FormatInt(part.Off, 10)+"-"+strconv.FormatInt(part.Last(), 10)+"/"+strconv.FormatInt(size, 10))
		off, size, status = part.Off, part.N, http.StatusPartialContent
	}
	if err := x.Start(status, size); err != nil || x.Request().Method == "HEAD" || size == 0 {
		return nil // the client has gone
	}
	sent, err := x.SendFile(f, off, size)
	n.metrics.BytesOut.Add(sent)
	if err != nil {
		x.Abort()
	}
	return nil
}

func contentType(name string) string {
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	return "application/octet-stream"
}

// writePlain stores a file durably: a temporary one beside it, synced, renamed, and the directory synced. It is done by
// hand because all of it has to go through the os.Root.
func (n *Node) writePlain(x http1.Exchange, root *os.Root, name string) error {
	dir := path.Dir(name)
	if err := root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	temp := path.Join(dir, ".tmp-"+rand.Text())
	f, err := root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { // after the rename there is nothing left to remove
		_ = f.Close()
		_ = root.Remove(temp)
	}()
	size, err := f.ReadFrom(x.Body())
	n.metrics.BytesIn.Add(size)
	if err != nil {
		return err
	}
	if v := x.Request().Header.Get(headerTimestamp); v != "" {
		seconds, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			refuse(x, http.StatusBadRequest, "%s is not a number of seconds: %q", headerTimestamp, v)
			return nil
		}
		when := time.Unix(seconds, 0)
		if err := root.Chtimes(temp, when, when); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := root.Rename(temp, name); err != nil {
		return err
	}
	if err := syncDir(root, dir); err != nil {
		return err
	}
	_ = x.Reply(http.StatusCreated, nil)
	return nil
}

func syncDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
