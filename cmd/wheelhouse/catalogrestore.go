package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"time"

	"wheelhouse/internal/bridge/storejobs"
	"wheelhouse/jobs/sqlqueue"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
	"wheelhouse/store/recovery"
	"wheelhouse/store/storaged"
)

// catalogRestore puts a backup in place of a catalog that is gone.
func catalogRestore(ctx context.Context, env *environment, args []string) (err error) {
	fromStorages := false
	r, err := openRescue(env, "restore", args, flagBefore, flagForce, func(_ *rescue, fs *flag.FlagSet) {
		fs.BoolVar(&fromStorages, "from-storages", false, "find the newest intact backup on the storages (default, unless a FILE is named)")
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if len(r.rest) > 1 || fromStorages && len(r.rest) > 0 || !r.before.IsZero() && len(r.rest) > 0 {
		return usagef("want either FILE, or --from-storages and --before")
	}
	place, err := r.vacant()
	if err != nil {
		return err
	}
	defer place.Discard()
	if err := r.openStorages(ctx); err != nil {
		return err
	}
	if len(r.rest) == 1 {
		err = recovery.FromFile(ctx, r.rest[0], place)
	} else if err = r.needStorages(); err == nil {
		err = r.newest(ctx, place)
	}
	if err != nil {
		return err
	}
	if err := r.finish(ctx, place, r.fence); err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "restored %s\nnext: wheelhouse catalog readopt, which makes visible what was stored after the backup, and takes out what was deleted.\n"+
		"It can be served before that; until then nothing that came after the backup is touched.\n", r.cfg.catalogFile())
	return nil
}

// newest puts the newest intact backup of the storages in place.
func (r *rescue) newest(ctx context.Context, place recovery.Place) error {
	b, skipped, err := recovery.FromStorages(ctx, r.storages, r.before, place)
	r.warn(skipped...)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.env.stdout, "backup %s, which shows %s\n", b.Name, b.At.Local().Format(time.DateTime))
	return nil
}

// finish opens the catalog that is being put in place, with its jobs, has the last done to it, and puts it where it belongs.
func (r *rescue) finish(ctx context.Context, place recovery.Place, last func(context.Context, *catalog.SQLite) error) error {
	o := catalog.Options{Grace: time.Duration(r.cfg.Catalog.Grace)}
	o.DB.Logger = r.log
	opened, err := storejobs.Open(ctx, place.Temp, o, sqlqueue.Options{})
	if err != nil {
		return err
	}
	err = last(ctx, opened.Catalog)
	if err := errors.Join(err, opened.Close()); err != nil {
		return err
	}
	return r.publish(place)
}

// fence makes sure that no id is used twice.
func (r *rescue) fence(ctx context.Context, c *catalog.SQLite) error {
	top, err := c.Topology(ctx)
	if err != nil {
		return err
	}
	r.reachAll(ctx, top)
	if err := r.unasked(top); err != nil && !r.force {
		r.warn()
		return err
	}
	failed, err := recovery.Fence(ctx, c, r.storages)
	if err == nil && len(failed) > 0 && !r.force {
		err = errors.Join(failed...)
	}
	r.warn(failed...)
	return err
}

// catalogReadopt makes objects of what the storages hold and a restored catalog does not know.
func catalogReadopt(ctx context.Context, env *environment, args []string) (err error) {
	r, err := openRescue(env, "readopt", args, func(r *rescue, fs *flag.FlagSet) {
		fs.BoolVar(&r.dryRun, "dry-run", false, "change nothing, say what would be done")
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if len(r.rest) > 0 {
		return usagef("unexpected argument: %s", r.rest[0])
	}
	if err := r.openCatalog(ctx); err != nil {
		return err
	}
	if err := r.openStorages(ctx); err != nil {
		return err
	}
	return r.readopt(ctx, r.cat)
}

func (r *rescue) readopt(ctx context.Context, c *catalog.SQLite) error {
	top, err := c.Topology(ctx)
	if err != nil {
		return err
	}
	r.reachAll(ctx, top)
	o := recovery.Options{DryRun: r.dryRun}
	if isTerminal(r.env.stderr) {
		o.Progress = func(n int64) { fmt.Fprintf(r.env.stderr, "\r%d object ids looked at\r", n) }
	}
	rep, err := recovery.Readopt(ctx, c, r.storages, o)
	r.warn(rep.Failed...)
	if err != nil {
		return err
	}
	if r.json {
		return printJSON(r.env.stdout, rep)
	}
	printReport(r.env.stdout, rep, r.dryRun)
	if len(rep.Failed) > 0 {
		fmt.Fprint(r.env.stdout, "Not all storages were asked. What they alone hold is kept: run this again when they answer (wheelhouse catalog readopt).\n")
	}
	return nil
}

// catalogRebuild makes a catalog from the storages alone.
func catalogRebuild(ctx context.Context, env *environment, args []string) (err error) {
	r, err := openRescue(env, "rebuild", args, flagBefore, flagForce, flagCluster, func(r *rescue, fs *flag.FlagSet) {
		fs.BoolVar(&r.scratch, "no-backup", false, "do not begin with the newest backup")
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if len(r.rest) > 0 {
		return usagef("unexpected argument: %s", r.rest[0])
	}
	place, err := r.vacant()
	if err != nil {
		return err
	}
	defer place.Discard()
	if err := r.openStorages(ctx); err != nil {
		return err
	}
	if err := r.needStorages(); err != nil {
		return err
	}
	if !r.scratch {
		err := r.newest(ctx, place)
		if errors.Is(err, recovery.ErrNoBackup) {
			fmt.Fprintln(env.stdout, "no storage holds a backup of the catalog: it is rebuilt from the entities alone")
			r.scratch = true
		} else if err != nil {
			return err
		}
	}
	if r.scratch {
		place.Discard()
	}
	if err := r.finish(ctx, place, r.rebuild); err != nil {
		return err
	}
	if r.scratch && !r.json {
		fmt.Fprint(env.stdout, `What entities do not say is gone: user metadata, cache control and replicas of objects, new names of objects that were renamed, the
access, class and owner of buckets (they are private and belong to nobody now; wheelhouse bucket set), accounts and keys (the root
account is made anew), classes and settings. What was deleted less than catalog.grace ago may be visible again.
`)
	}
	return nil
}

func (r *rescue) rebuild(ctx context.Context, c *catalog.SQLite) error {
	if r.scratch {
		if err := r.makeTopology(ctx, c); err != nil {
			return err
		}
	}
	if err := r.fence(ctx, c); err != nil {
		return err
	}
	return r.readopt(ctx, c)
}

// makeTopology makes the storages that were found known to a new catalog.
func (r *rescue) makeTopology(ctx context.Context, c *catalog.SQLite) error {
	groups := r.clusters
	if groups == nil {
		var err error
		if groups, err = recovery.Clusters(ctx, r.storages); err != nil {
			return fmt.Errorf("%w (--cluster ID,ID,…)", err)
		}
	}
	for _, s := range r.storages {
		if !slices.ContainsFunc(groups, func(g []store.StorageID) bool { return slices.Contains(g, s.ID) }) {
			return fmt.Errorf("storage %d: no --cluster names it", s.ID)
		}
	}
	for i, g := range groups {
		name := "main"
		if i > 0 {
			name = fmt.Sprintf("cluster %d", i+1)
		}
		id, err := c.PutCluster(ctx, store.Cluster{Name: name})
		if err != nil {
			return err
		}
		for _, s := range g {
			if _, err := c.PutStorage(ctx, store.Storage{ID: s, Cluster: id, URI: r.uriOf(s)}); err != nil {
				return err
			}
		}
		fmt.Fprintf(r.env.stdout, "cluster %d: storages %d\n", id, g)
	}
	return nil
}

// uriOf is where a storage will be reached. up corrects it when it starts.
func (r *rescue) uriOf(id store.StorageID) string {
	for _, s := range r.urls {
		if s.ID == id {
			return s.URI
		}
	}
	return "http://" + cmp.Or(r.cfg.Storaged.Listen, "127.0.0.1:0") + "/" + storaged.DeviceName(id)
}
