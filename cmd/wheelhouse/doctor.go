package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"wheelhouse/store"
)

// finding is one line of what the doctor says.
type finding struct {
	State string `json:"state"` // ok, warn or FAIL
	What  string `json:"what"`
	Do    string `json:"do,omitempty"`
}

// doctor looks at this machine and at a server, and collects findings.
type doctor struct {
	cfg  *Config
	list []finding

	versions map[string][]string // who runs them
}

func (d *doctor) ok(format string, args ...any) {
	d.list = append(d.list, finding{State: "ok", What: fmt.Sprintf(format, args...)})
}

func (d *doctor) warn(do, format string, args ...any) {
	d.list = append(d.list, finding{"warn", fmt.Sprintf(format, args...), do})
}

func (d *doctor) fail(do, format string, args ...any) {
	d.list = append(d.list, finding{"FAIL", fmt.Sprintf(format, args...), do})
}

// runDoctor checks an installation, or one disk's honesty. It fails when something must be done.
func runDoctor(ctx context.Context, env *environment, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "disk":
			return doctorDisk(ctx, env, args[1:])
		case "disk-witness":
			return doctorWitness(ctx, env, args[1:])
		}
	}
	f := newClientFlags("doctor", env).withJSON()
	file := f.String("config", "", "TOML `file` of the server on this machine")
	c, _, err := f.parse(args, 0, 0)
	if err != nil {
		return err
	}
	d := &doctor{}
	d.config(*file, f.data)
	if d.cfg != nil {
		d.secrets()
		d.limits()
		d.space("data directory", d.cfg.Data)
		d.storages()
		d.catalog(ctx)
	}
	d.server(ctx, c, f.server)
	if f.json {
		err = printJSON(env.stdout, d.list)
	} else {
		for _, x := range d.list {
			fmt.Fprintf(env.stdout, "%-5s %s\n", x.State, x.What)
			if x.Do != "" {
				fmt.Fprintf(env.stdout, "      %s\n", x.Do)
			}
		}
	}
	for _, x := range d.list {
		if err == nil && x.State == "FAIL" {
			err = errUnhealthy
		}
	}
	return err
}

func (d *doctor) config(file, data string) {
	args := []string{"--set", "data=" + data}
	if file != "" {
		args = []string{"--config", file}
	}
	cfg, _, err := loadConfig("doctor", args, new(bytes.Buffer), nil)
	if err != nil {
		d.fail("correct it; wheelhouse config describe lists all keys", "configuration: %v", err)
		return
	}
	d.cfg = cfg
	if len(cfg.Storage) == 0 {
		for i := range upStorages {
			cfg.Storage = append(cfg.Storage, StorageConfig{ID: uint32(i + 1), Dir: filepath.Join(cfg.Data, "storage", strconv.Itoa(i+1))})
		}
	}
	d.ok("configuration")
}

// secrets looks who may read what nobody else should.
func (d *doctor) secrets() {
	for _, path := range []string{d.cfg.secretFile(), filepath.Join(d.cfg.Data, "root.key")} {
		st, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			d.warn("", "%s: %v", path, err)
		case st.Mode().Perm()&0o077 != 0:
			d.fail("chmod 600 "+path, "%s can be read by others (mode %v)", path, st.Mode().Perm())
		default:
			d.ok("%s is its owner's alone", path)
		}
	}
}

func (d *doctor) limits() {
	const enough, least = 65_536, 4096
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		d.warn("", "limit of open files: %v", err)
		return
	}
	const do = "raise it: ulimit -n 65536, or LimitNOFILE=65536 in the unit file"
	switch {
	case l.Max < least:
		d.fail(do, "only %d files may be open: clients will be turned away", l.Max)
	case l.Max < enough:
		d.warn(do, "%d files may be open; each client takes one, and each pack", l.Max)
	default:
		d.ok("%d files may be open", l.Max)
	}
}

// space looks at the free space and inodes of a directory's file system.
func (d *doctor) space(what, dir string) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		d.fail("", "%s %s: %v", what, dir, err)
		return
	}
	free, all := int64(st.Bavail)*st.Bsize, int64(st.Blocks)*st.Bsize
	switch {
	case all > 0 && free*100 < all*5:
		d.warn("make room, or add storages", "%s %s: %s free of %s", what, dir, human(free), human(all))
	case st.Files > 0 && st.Ffree*100 < st.Files*5:
		d.warn("inodes run out before space does: remove small files, or make a file system with more", "%s %s: %d inodes left of %d", what, dir, st.Ffree, st.Files)
	default:
		d.ok("%s %s: %s free of %s", what, dir, human(free), human(all))
	}
}

// storages looks at each storage's directory, and at what they share.
func (d *doctor) storages() {
	devices := map[uint64][]string{}
	for _, s := range d.cfg.Storage {
		what := fmt.Sprintf("storage %d", s.ID)
		st, err := os.Stat(s.Dir)
		if err != nil {
			d.fail("mount its disk; if that is lost: wheelhouse storage accept "+strconv.Itoa(int(s.ID))+" when a new one is in", "%s: %v", what, err)
			continue
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			devices[uint64(sys.Dev)] = append(devices[uint64(sys.Dev)], strconv.Itoa(int(s.ID)))
		}
		text, err := os.ReadFile(filepath.Join(s.Dir, "wheelhouse.storage"))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			d.fail("is its disk mounted?", "%s: %s has no marker: it is not a storage", what, s.Dir)
			continue
		case err != nil:
			d.fail("", "%s: %v", what, err)
			continue
		case !bytes.Contains(text, []byte(fmt.Sprintf("\nstorage %d\n", s.ID))):
			d.fail("is it another storage's disk?", "%s: the marker in %s is not its own", what, s.Dir)
			continue
		}
		d.space(what, s.Dir)
		d.probe(what, s.Dir)
	}
	for _, ids := range devices {
		if len(ids) > 1 {
			d.warn("give each a disk of its own: one that dies takes all copies with it", "storages %s are on one file system", strings.Join(ids, ", "))
		}
	}
}

// probe writes, syncs and reads a small file.
func (d *doctor) probe(what, dir string) {
	want := make([]byte, 4096)
	_, _ = rand.Read(want) // never fails
	begun := time.Now()
	f, err := os.CreateTemp(dir, "wheelhouse.doctor-*")
	if err != nil {
		d.fail("", "%s: %v", what, err)
		return
	}
	defer os.Remove(f.Name())
	defer f.Close()
	got := make([]byte, len(want))
	if _, err = f.Write(want); err == nil {
		err = f.Sync()
	}
	took := time.Since(begun)
	if err == nil {
		_, err = f.ReadAt(got, 0)
	}
	switch {
	case err != nil:
		d.fail("", "%s: %v", what, err)
	case !bytes.Equal(got, want):
		d.fail("replace the disk", "%s: what was read is not what was written", what)
	case took > time.Second:
		d.warn("look at its load, and at its SMART values", "%s: 4 KiB took %v to be durable", what, took.Round(time.Millisecond))
	default:
		d.ok("%s: 4 KiB written, durable and read in %v", what, took.Round(10*time.Microsecond))
	}
}

// catalog reads the structure of the catalog, without changing anything.
func (d *doctor) catalog(ctx context.Context) {
	path := d.cfg.catalogFile()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return // on another machine
	}
	verdict := ""
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
	if err == nil {
		defer conn.Close()
		conn.SetInterrupt(ctx.Done())
		err = sqlitex.ExecuteTransient(conn, "PRAGMA quick_check(1)", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
			verdict = st.ColumnText(0)
			return nil
		}})
	}
	switch {
	case err != nil:
		d.fail("", "catalog %s: %v", path, err)
	case verdict != "ok":
		d.fail("stop the server, and restore the catalog from a backup", "catalog %s is damaged: %s", path, verdict)
	default:
		d.ok("catalog %s is sound", path)
		d.schema(conn)
	}
}

// server asks the server, and every storage's node, for its state and its clock.
func (d *doctor) server(ctx context.Context, c *store.Client, address string) {
	var s store.Status
	if err := c.Call(ctx, http.MethodGet, "/-/status", nil, &s); err != nil {
		d.fail("is it running? Another one: --server URL", "server %s: %v", address, err)
		return
	}
	for _, p := range s.Problems {
		if p.Severity == store.VerdictCritical {
			d.fail(p.Do, "%s", p.What)
		} else {
			d.warn(p.Do, "%s", p.What)
		}
	}
	if len(s.Problems) == 0 {
		d.ok("server %s says that all is well", address)
	}
	d.processes(s.Processes)
	d.clock(ctx, "server", address)
	nodes := map[string]bool{}
	for _, st := range s.Storages {
		u, err := url.Parse(st.URI)
		if err == nil && !nodes[u.Host] && st.Mode != "dead" && st.Mode != "down" {
			nodes[u.Host] = true
			d.clock(ctx, "storage node", "http://"+u.Host)
		}
	}
	d.sameVersion()
}

// clock compares another machine's time with ours: signatures are good for five minutes. It notes the version that runs there.
func (d *doctor) clock(ctx context.Context, what, base string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+"/healthz", nil)
	if err != nil {
		d.fail("", "%s %s: %v", what, base, err)
		return
	}
	begun := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.fail("can this machine reach it?", "%s %s: %v", what, base, err)
		return
	}
	_ = resp.Body.Close()
	if v := resp.Header.Get(versionHeader); v != "" {
		d.ran(v, what+" "+base)
	}
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		d.warn("", "%s %s tells no time", what, base)
		return
	}
	middle := begun.Add(time.Since(begun) / 2)
	off := max(theirs.Sub(middle), middle.Sub(theirs.Add(time.Second)), 0) // Date is in whole seconds
	const do = "let both machines take their time from NTP"
	switch {
	case off > time.Minute:
		d.fail(do, "the clock of %s %s is %v off: signed requests will be refused", what, base, off.Round(time.Second))
	case off > 2*time.Second:
		d.warn(do, "the clock of %s %s is %v off", what, base, off.Round(time.Second))
	default:
		d.ok("the clock of %s %s agrees with ours", what, base)
	}
}
