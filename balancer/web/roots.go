package web

import (
	"os"
	"time"
)

// root is a directory, opened. Where its path has come to stand for another one, as when a link to the current release is
// switched, that takes its place within a second. The caller releases it.
func (c *files) root(path string) (*root, error) {
	now := time.Now()
	c.mu.Lock()
	r := c.roots[path]
	if r != nil {
		r.refs++
		r.used = now
		fresh := now.Sub(r.checked) < recheck
		if !fresh {
			r.checked = now
		}
		c.mu.Unlock()
		if fresh || r.still(path) {
			return r, nil
		}
		c.releaseRoot(r)
	} else {
		c.mu.Unlock()
	}
	dir, err := os.OpenRoot(path)
	if err != nil {
		c.mu.Lock()
		if r != nil && c.roots[path] == r {
			c.dropRoot(path)
		}
		c.mu.Unlock()
		return nil, err
	}
	next := &root{dir: dir, checked: now, used: now, refs: 1}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.roots[path] != r || len(c.roots) >= maxDocroot {
		next.gone = true // not kept
		return next, nil
	}
	if r != nil {
		c.dropRoot(path)
	}
	c.roots[path] = next
	c.arm()
	return next, nil
}

// still reports whether a path stands for the directory that was opened.
func (r *root) still(path string) bool {
	now, err := os.Stat(path)
	if err != nil {
		return false
	}
	then, err := r.dir.Stat(".")
	return err == nil && os.SameFile(now, then)
}

func (c *files) releaseRoot(r *root) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.refs--; r.refs == 0 && r.gone {
		r.dir.Close()
	}
}

// dropRoot no longer keeps a directory, nor the files below it. mu is held.
func (c *files) dropRoot(path string) {
	r := c.roots[path]
	delete(c.roots, path)
	if r.gone = true; r.refs == 0 {
		r.dir.Close()
	}
	for e := c.order.Front(); e != nil; {
		next := e.Next()
		if f := e.Value.(*file); f.key.dir == path {
			c.drop(f)
		}
		e = next
	}
}
