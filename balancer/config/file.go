package config

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"wheelhouse/balancer"
)

// maxIncludes is how deep files may include one another.
const maxIncludes = 16

// FileError is a line of a file that cannot be taken.
type FileError struct {
	File string
	Line int
	Err  error
}

func (e *FileError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap is the cause.
func (e *FileError) Unwrap() error { return e.Err }

// Load reads a file, and those that it includes, into a new state, and checks the whole. Nothing but the files named in it is
// opened. warn, which may be nil, gets what is odd but no error. The first line that fails ends the reading: *FileError.
func (l *Language) Load(path string, x Expander, warn func(string)) (*State, error) {
	s := NewState()
	c := &Context{File: true}
	if err := l.loadFile(s, c, path, x, warn, nil); err != nil {
		return nil, err
	}
	return s, l.CheckAll(s, true)
}

// Read is Load of a text; name stands for it in errors.
func (l *Language) Read(r io.Reader, name string, x Expander, warn func(string)) (*State, error) {
	s := NewState()
	if err := l.read(s, &Context{File: true}, r, name, x, warn, nil); err != nil {
		return nil, err
	}
	return s, l.CheckAll(s, true)
}

// CheckAll compiles all of a state, and returns everything that is wrong with it. files says that what it names in the file system must be
// there too, and good: of a state that is made anew. Otherwise a service that is not enabled may lack something still.
func (l *Language) CheckAll(s *State, files bool) error {
	var errs []error
	for _, name := range s.PoolNames() {
		if _, err := l.PoolSettings(s.Pools[name]); err != nil {
			errs = append(errs, err)
		}
	}
	for _, svc := range s.Ordered() {
		set, err := l.settings(s, svc, files)
		if err == nil && (files || svc.Enabled) {
			err = l.Check(s, svc, set)
		}
		if files {
			if e := l.checkTLS(svc, set); e != nil {
				err = errors.Join(err, e)
			}
			if err == nil {
				err = checkFiles(svc.Name, set)
			}
			if err == nil {
				err = l.listensAlone(s, svc)
			}
			err = svc.at.wrap(err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkTLS is CheckTLS of a service that is going to listen.
func (l *Language) checkTLS(svc *Service, set *balancer.Settings) error {
	if set == nil || !svc.Enabled {
		return nil
	}
	if err := CheckTLS(&set.TLS); err != nil {
		return fmt.Errorf("service %s: %w", svc.Name, err)
	}
	return nil
}

// listensAlone reports an address that a service before this one listens on already: both have to be opened, and one cannot.
func (l *Language) listensAlone(s *State, svc *Service) error {
	addr, err := ParseListen(svc.Params["listen"])
	if err != nil || !svc.Enabled {
		return nil
	}
	for _, other := range s.Ordered() {
		if other == svc {
			break
		}
		if a, err := ParseListen(other.Params["listen"]); err == nil && clash(a, addr) && other.Enabled && (other.Role() == UploadTracker) == (svc.Role() == UploadTracker) {
			return fault("service %s: it listens on %s, service %s on %s: only one can", svc.Name, addr, other.Name, a)
		}
	}
	return nil
}

// clash reports whether two addresses cannot be listened on both. One without a host, and [::], are all of IPv4 and IPv6.
func clash(a, b string) bool {
	ha, pa, errA := net.SplitHostPort(a)
	hb, pb, errB := net.SplitHostPort(b)
	if pa == "0" { // any that is free
		return false
	}
	if a == b || errA != nil || errB != nil || pa != pb {
		return a == b
	}
	both := func(h string) bool { return h == "" || h == "::" }
	four := func(h string) bool { return !strings.Contains(h, ":") }
	return both(ha) || both(hb) || four(ha) == four(hb) && (ha == "0.0.0.0" || hb == "0.0.0.0")
}

func (l *Language) loadFile(s *State, c *Context, path string, x Expander, warn func(string), within []string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	return l.read(s, c, f, path, x, warn, append(within, path))
}

func (l *Language) read(s *State, c *Context, r io.Reader, name string, x Expander, warn func(string), within []string) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), MaxLine)
	n := 0
	c.Warn = func(text string) {
		if warn != nil {
			warn(fmt.Sprintf("%s:%d: %s", name, n, text))
		}
	}
	for lines.Scan() {
		n++
		c.at = place{name, n}
		cmd, ok, err := ParseLine(lines.Text(), x)
		if err == nil && ok {
			err = l.line(s, c, cmd, x, warn, within)
		}
		var inner *FileError
		if errors.As(err, &inner) {
			return err
		}
		if err != nil {
			return &FileError{name, n, err}
		}
	}
	if err := lines.Err(); err != nil {
		return &FileError{name, n + 1, err}
	}
	return nil
}

// line executes one line of a file.
func (l *Language) line(s *State, c *Context, cmd Command, x Expander, warn func(string), within []string) error {
	switch {
	case cmd.Verb == "include":
		return l.include(s, c, cmd, x, warn, within)
	case cmd.Verb == "xs":
		c.warn("xs has no meaning here")
		return nil
	case l.Changes(s, cmd):
		return l.Exec(s, c, cmd)
	}
	return fault("unknown command: %s", cmd.Verb)
}

// include is INCLUDE = glob …
func (l *Language) include(s *State, c *Context, cmd Command, x Expander, warn func(string), within []string) error {
	globs := strings.Fields(strings.TrimPrefix(cmd.Args, "="))
	if len(globs) == 0 {
		return usage("INCLUDE = <file or pattern> …")
	}
	if len(within) >= maxIncludes {
		return fault("files include one another more than %d deep", maxIncludes)
	}
	for _, g := range globs {
		if !filepath.IsAbs(g) && len(within) > 0 {
			g = filepath.Join(filepath.Dir(within[len(within)-1]), g)
		}
		files, err := filepath.Glob(g)
		if err != nil {
			return fault("INCLUDE: %s: %v", g, err)
		}
		if len(files) == 0 {
			return fault("INCLUDE: no file matches %s", g)
		}
		for _, f := range files {
			if slices.Contains(within, f) {
				return fault("%s includes itself", f)
			}
			saved := c.Warn
			err := l.loadFile(s, c, f, x, warn, within)
			c.Warn = saved
			if err != nil {
				return err
			}
		}
	}
	return nil
}
