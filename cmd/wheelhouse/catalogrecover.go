package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"wheelhouse/internal/faultfs"
	"wheelhouse/internal/http1"
	"wheelhouse/store"
	"wheelhouse/store/disk"
	"wheelhouse/store/recovery"
	"wheelhouse/store/storaged"
)

// rescue is what restore, readopt and rebuild have in common: a data directory that nobody else uses, and the storages as far as they
// can be reached.
type rescue struct {
	*app
	rest     []string
	urls     []store.Storage // of --storage
	clusters [][]store.StorageID
	before   time.Time
	force    bool
	dryRun   bool
	scratch  bool
	json     bool

	storages []recovery.Storage
	problems []error // why storages cannot be asked
}

// rescueFlags are the flags of one of the commands, besides those of the configuration.
type rescueFlags func(r *rescue, fs *flag.FlagSet)

func flagStorage(r *rescue, fs *flag.FlagSet) {
	fs.Func("storage", "`ID=URL` of a storage of another machine that is to be asked; may be repeated", func(s string) error {
		id, url, ok := strings.Cut(s, "=")
		n, err := strconv.ParseUint(id, 10, 32)
		if !ok || err != nil || n == 0 || url == "" {
			return errors.New("want ID=URL, as 4=http://10.0.0.12:7500/dev4")
		}
		r.urls = append(r.urls, store.Storage{ID: store.StorageID(n), URI: strings.TrimRight(url, "/")})
		return nil
	})
}

func flagBefore(r *rescue, fs *flag.FlagSet) {
	fs.Func("before", "`TIME` (2006-01-02 15:04:05, or RFC 3339): a backup that shows no later moment", func(s string) (err error) {
		if r.before, err = time.ParseInLocation(time.DateTime, s, time.Local); err != nil {
			r.before, err = time.Parse(time.RFC3339, s)
		}
		return err
	})
}

func flagForce(r *rescue, fs *flag.FlagSet) {
	fs.BoolVar(&r.force, "force", false, "even if no storage of some cluster can be asked which ids it holds")
}

func flagCluster(r *rescue, fs *flag.FlagSet) {
	fs.Func("cluster", "`ID,ID,…` of storages that mirror each other; repeat it for each cluster (default: what they hold tells)", func(s string) error {
		var ids []store.StorageID
		for part := range strings.SplitSeq(s, ",") {
			n, err := strconv.ParseUint(part, 10, 32)
			if err != nil || n == 0 {
				return fmt.Errorf("%q is no storage's id", part)
			}
			ids = append(ids, store.StorageID(n))
		}
		r.clusters = append(r.clusters, ids)
		return nil
	})
}

func openRescue(env *environment, name string, args []string, flags ...rescueFlags) (*rescue, error) {
	r := &rescue{}
	more := func(fs *flag.FlagSet) {
		flagStorage(r, fs)
		fs.BoolVar(&r.json, "json", false, "machine-readable output")
		for _, f := range flags {
			f(r, fs)
		}
	}
	cfg, rest, err := loadConfig("catalog "+name, args, env.stderr, map[string]string{"data": "data"}, more)
	if err != nil {
		return nil, err
	}
	cfg.Jobs.WakeServers = nil // whom this could wake is not running
	if cfg.Log.Level == "info" {
		cfg.Log.Level = "warn"
	}
	r.app, r.rest = newApp(cfg, env, cfg.logger(env.stderr)), rest
	if err := r.lock("catalog "+name, false); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// openStorages opens what there is of this machine's storages, and those of --storage.
func (r *rescue) openStorages(ctx context.Context) error {
	list := r.cfg.Storage
	if len(list) == 0 {
		found, err := filepath.Glob(filepath.Join(r.cfg.Data, "storage", "*"))
		if err != nil {
			return err
		}
		for _, dir := range found {
			if n, err := strconv.ParseUint(filepath.Base(dir), 10, 32); err == nil && n > 0 {
				list = append(list, StorageConfig{ID: uint32(n), Dir: dir})
			}
		}
		slices.SortFunc(list, func(a, b StorageConfig) int { return int(a.ID) - int(b.ID) })
	}
	for _, s := range list {
		// A disk that is not mounted must not become a new storage.
		switch ours, err := disk.IsStorage(s.Dir); {
		case err != nil:
			r.problems = append(r.problems, fmt.Errorf("storage %d: %w", s.ID, err))
			continue
		case !ours:
			r.problems = append(r.problems, fmt.Errorf("storage %d: %s is not a storage's directory; is its disk mounted?", s.ID, s.Dir))
			continue
		}
		if err := r.openDisks([]StorageConfig{s}, func(store.StorageID) bool { return true }); err != nil {
			r.problems = append(r.problems, err)
			continue
		}
		id := store.StorageID(s.ID)
		r.storages = append(r.storages, recovery.Storage{ID: id, Device: r.local[id]})
	}
	if _, err := os.Stat(r.cfg.secretFile()); err == nil {
		if r.secret, err = r.cfg.readSecret(); err != nil {
			return err
		}
	}
	client := http1.NewClient(http1.ClientOptions{MaxIdlePerHost: 4, DialTimeout: 2 * time.Second, HeadTimeout: time.Minute, BodyTimeout: time.Minute})
	r.onClose(func() error { client.Close(); return nil })
	r.fleet = storaged.NewFleet(client, r.nodeSecret(), nil)
	for i := range r.urls {
		r.reach(ctx, &r.urls[i])
	}
	return nil
}

// needStorages refuses to go on where nobody can be asked.
func (r *rescue) needStorages() error {
	if len(r.storages) > 0 {
		return nil
	}
	r.warn()
	return errors.New("there is no storage that could be asked: mount this machine's disks, or name storages of other machines by " +
		"--storage ID=URL, as --storage 1=http://10.0.0.11:7500/dev1 (one is enough if it holds a backup, which says where the others are)")
}

// reach adds a storage of another machine if it answers.
func (r *rescue) reach(ctx context.Context, s *store.Storage) {
	if slices.ContainsFunc(r.storages, func(k recovery.Storage) bool { return k.ID == s.ID }) {
		return
	}
	dev := r.fleet.Device(s)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := dev.Manifest(ctx, 1, 2, 1); err != nil {
		r.problems = append(r.problems, fmt.Errorf("storage %d: %w", s.ID, err))
		return
	}
	r.storages = append(r.storages, recovery.Storage{ID: s.ID, Device: dev})
}

// reachAll adds the storages that a topology names, and leaves out those that it does not know.
func (r *rescue) reachAll(ctx context.Context, top *store.Topology) {
	for i := range top.Storages {
		if s := &top.Storages[i]; s.Mode != store.ModeDead {
			r.reach(ctx, s)
		}
	}
	r.storages = slices.DeleteFunc(r.storages, func(k recovery.Storage) bool {
		unknown := !slices.ContainsFunc(top.Storages, func(s store.Storage) bool { return s.ID == k.ID })
		if unknown {
			r.problems = append(r.problems, fmt.Errorf("storage %d is not in the catalog, and is left out; wheelhouse storage add --id %d makes it known", k.ID, k.ID))
		}
		return unknown
	})
}

// unasked names a cluster of which no storage can be asked.
func (r *rescue) unasked(top *store.Topology) error {
	for _, k := range top.Clusters {
		living, asked := 0, 0
		for _, s := range top.Storages {
			if s.Cluster != k.ID || s.Mode == store.ModeDead {
				continue
			}
			living++
			if slices.ContainsFunc(r.storages, func(a recovery.Storage) bool { return a.ID == s.ID }) {
				asked++
			}
		}
		if living > 0 && asked == 0 {
			return fmt.Errorf("no storage of cluster %d (%s) can be asked which ids it holds, and ids must never be used twice: mount its disks, "+
				"start its storaged, name them by --storage, or say --force if they are gone for good", k.ID, k.Name)
		}
	}
	return nil
}

// warn says what could not be asked.
func (r *rescue) warn(more ...error) {
	for _, err := range append(r.problems, more...) {
		fmt.Fprintf(r.env.stderr, "not asked or not used: %v\n", err)
	}
	r.problems = nil
}

// vacant refuses to go on where there is a catalog: this never overwrites one.
func (r *rescue) vacant() (recovery.Place, error) {
	file := r.cfg.catalogFile()
	for _, ext := range []string{"", "-wal", "-shm"} {
		if _, err := os.Lstat(file + ext); err == nil {
			return recovery.Place{}, fmt.Errorf("%s is there: move it away first, together with its -wal and -shm", file+ext)
		} else if !errors.Is(err, os.ErrNotExist) {
			return recovery.Place{}, err
		}
	}
	return recovery.Place{Temp: file + ".restoring"}, nil
}

// publish gives a finished catalog its name.
func (r *rescue) publish(p recovery.Place) error {
	if _, err := os.Lstat(p.Temp + "-wal"); err == nil {
		return fmt.Errorf("%s-wal was left", p.Temp) // without it the file would be incomplete
	}
	f, err := os.Open(p.Temp)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(p.Temp, r.cfg.catalogFile()); err != nil {
		return err
	}
	return faultfs.OS{}.SyncDir(filepath.Dir(r.cfg.catalogFile()))
}

func printReport(w io.Writer, rep recovery.Report, dryRun bool) {
	if dryRun {
		fmt.Fprint(w, "nothing was changed; it would be so (versions that turn out older than another are counted as adopted):\n")
	}
	for i, line := range []struct {
		n    int64
		what string
	}{
		{rep.Entities, "object ids on the storages"},
		{rep.Adopted, "objects were adopted"},
		{rep.Replaced, "of these took the place of an older version"},
		{rep.Older, "older or deleted versions will be cleared away after catalog.grace"},
		{rep.Gone, "objects had been deleted since, and were taken out"},
		{rep.Moved, "objects had been moved to another cluster"},
		{rep.Lost, "objects are on no storage that was asked; they were left in"},
		{rep.Nameless, "entities do not say which object they are of; they were left alone"},
		{rep.Strangers, "entities are remains of unfinished uploads, most likely; they were left alone"},
	} {
		if line.n > 0 || i < 2 {
			fmt.Fprintf(w, "%10d  %s\n", line.n, line.what)
		}
	}
}
