package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lab is what the lines share: a directory of their own, the program under test, the processes that run.
type lab struct {
	opt      options
	dir      string // of this run
	bin      string
	begun    time.Time
	children []*child
	catalogs map[int]*filled // by number of rows
}

func newLab(o options) (*lab, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	program := o.bin
	if program == "" {
		program = filepath.Join(root, "bin", "wheelhouse")
	}
	parent, err := workParent(o.dir, root)
	if err != nil {
		return nil, err
	}
	l := &lab{opt: o, begun: time.Now(), catalogs: map[int]*filled{}}
	if l.dir, err = os.MkdirTemp(parent, "wheelhouse-bench-"); err != nil {
		return nil, err
	}
	spreadDirs(l.dir)
	l.bin = filepath.Join(l.dir, "wheelhouse")
	if err := copyProgram(program, l.bin); err != nil {
		return nil, errors.Join(fmt.Errorf("%w (make build makes it)", err), l.close())
	}
	return l, nil
}

// copyProgram gives the run a copy of its own, so that all of it measures the same program whatever is built meanwhile.
func copyProgram(from, to string) error {
	program, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, program, 0o755) // a program
}

// moduleRoot finds the directory of go.mod, upwards from here.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		text, err := os.ReadFile(filepath.Join(d, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module wheelhouse\n") {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("%s is not inside the module wheelhouse", dir)
		}
	}
}

// workParent is where the run's directory is made: the system's directory for temporary files if that is on the same file
// system as the module, so that a memory file system is not measured by accident; else the module's bin.
func workParent(asked, root string) (string, error) {
	if asked != "" {
		asked, err := filepath.Abs(asked)
		if err != nil {
			return "", err
		}
		return asked, os.MkdirAll(asked, 0o755)
	}
	var tmp, here syscall.Stat_t
	if syscall.Stat(os.TempDir(), &tmp) == nil && syscall.Stat(root, &here) == nil && tmp.Dev == here.Dev {
		return os.TempDir(), nil
	}
	return filepath.Join(root, "bin"), nil
}

// spreadDirs asks ext4 to put each directory that is made in dir into a part of the disk of its own, as it does with those
// at the top: away from where files were deleted a short while ago. Other file systems refuse, which does no harm.
func spreadDirs(dir string) {
	const topDir = 0x00020000 // FS_TOPDIR_FL of linux/fs.h
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|topDir)
	}
}

// mkdir makes a fresh directory of the run.
func (l *lab) mkdir(name string) (string, error) {
	dir, err := os.MkdirTemp(l.dir, name+"-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755) // nginx's workers must be able to look in
}

// span is how long a step of d takes in this run, in whole seconds.
func (l *lab) span(d time.Duration) time.Duration {
	if l.opt.quick {
		d /= 2
	}
	return max(time.Second, d.Truncate(time.Second))
}

// count is how many objects a step of n takes in this run.
func (l *lab) count(n int) int {
	if l.opt.quick {
		return n / 10
	}
	return n
}

// reduced is what the name of a row says when it was measured with n of something instead of full.
func (l *lab) reduced(n, full int) string {
	if n == full {
		return ""
	}
	return fmt.Sprintf(" (%d k)", n/1000)
}

// logf tells on standard error how far the run is.
func (l *lab) logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%5.0fs  %s\n", time.Since(l.begun).Seconds(), fmt.Sprintf(format, args...))
}

// needSpace fails unless the run's file system has n bytes free.
func (l *lab) needSpace(n int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(l.dir, &st); err != nil {
		return err
	}
	if free := int64(st.Bavail) * st.Bsize; free < n {
		return fmt.Errorf("needs %d GB of space in %s, and there are %d", n>>30, l.dir, free>>30)
	}
	return nil
}

// endChildren ends all processes of a line, the last one first.
func (l *lab) endChildren() error {
	var errs []error
	for i := len(l.children) - 1; i >= 0; i-- {
		errs = append(errs, l.children[i].end())
	}
	l.children = nil
	return errors.Join(errs...)
}

// close ends what still runs and removes all files.
func (l *lab) close() error {
	err := l.endChildren()
	return errors.Join(err, os.RemoveAll(l.dir))
}
