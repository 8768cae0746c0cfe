package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

// runCatalog backs the catalog up, and brings it back.
func runCatalog(ctx context.Context, env *environment, args []string) error {
	return subcommand(args, map[string]func([]string) error{
		"backup": func(args []string) error { return catalogBackup(ctx, env, args) },
		"backups": func(args []string) error {
			return listing(ctx, env, args, "catalog backups", "/-/catalog/backups", func(list []store.BackupStatus) error {
				return table(env.stdout, "BACKUP\tSIZE\tSHOWS", func(row func(...any)) {
					for _, b := range list {
						row(b.Name, human(b.Size), b.Created.Local().Format(time.DateTime))
					}
				})
			})
		},
		"restore": func(args []string) error { return catalogRestore(ctx, env, args) },
		"readopt": func(args []string) error { return catalogReadopt(ctx, env, args) },
		"rebuild": func(args []string) error { return catalogRebuild(ctx, env, args) },
	})
}

// catalogBackup asks for a backup, waits for it, and fetches it if a file is named.
func catalogBackup(ctx context.Context, env *environment, args []string) error {
	f := newClientFlags("catalog backup", env)
	patience := f.Duration("wait", 30*time.Minute, "how `long` to wait for it")
	c, rest, err := f.parse(args, 0, 1)
	if err != nil {
		return err
	}
	before, err := newestBackup(ctx, c)
	if err != nil {
		return err
	}
	if err := c.Call(ctx, http.MethodPost, "/-/catalog/backups", nil, nil); err != nil {
		return err
	}
	b, err := awaitBackup(ctx, c, before.Object, *patience)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		if err := fetchBackup(ctx, c, b, rest[0]); err != nil {
			return err
		}
	}
	fmt.Fprintf(env.stdout, "%s/%s  %s\n", store.CatalogBucket, b.Name, human(b.Size))
	return nil
}

// newestBackup is a zero BackupStatus when there is none.
func newestBackup(ctx context.Context, c *store.Client) (store.BackupStatus, error) {
	var list []store.BackupStatus
	if err := c.Call(ctx, http.MethodGet, "/-/catalog/backups", nil, &list); err != nil || len(list) == 0 {
		return store.BackupStatus{}, err
	}
	return list[0], nil
}

// awaitBackup polls until there is another newest backup than the one with an id.
func awaitBackup(ctx context.Context, c *store.Client, other store.ObjectID, patience time.Duration) (store.BackupStatus, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("there is no backup after %v; does a worker run? its log says what fails", patience))
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := newestBackup(ctx, c)
		if err == nil && b.Object != 0 && b.Object != other {
			return b, nil
		}
		if err != nil && ctx.Err() == nil {
			return b, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return b, context.Cause(ctx)
		}
	}
}

// fetchBackup writes a backup to a new file.
func fetchBackup(ctx context.Context, c *store.Client, b store.BackupStatus, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: is there already", path)
	}
	r, _, err := c.Get(ctx, store.CatalogBucket, b.Name, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := atomicfile.Create(faultfs.OS{}, path, 0o600)
	if err != nil {
		return err
	}
	defer f.Abort()
	n, err := io.Copy(f, r)
	if err == nil && n != b.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("fetch %s: after %d of %d bytes: %w", b.Name, n, b.Size, err)
	}
	return f.Commit()
}
