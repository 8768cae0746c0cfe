package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"wheelhouse/store"
	"wheelhouse/store/catalog"
	"wheelhouse/store/storaged"
)

// startParts runs a dispatcher, with more arguments, and three storages as four processes, on a new directory.
func (l *lab) startParts(ctx context.Context, more ...string) (*server, error) {
	dir, err := l.mkdir("parts")
	if err != nil {
		return nil, err
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(hex.EncodeToString([]byte(rand.Text()+rand.Text()))+"\n"), 0o600); err != nil {
		return nil, err
	}
	var storages []store.Storage
	var pids []int
	for i := range 3 {
		id := store.StorageID(i + 1)
		c, err := l.startStoraged(filepath.Join(dir, strconv.Itoa(i+1)), secret, id)
		if err != nil {
			return nil, err
		}
		urls, err := c.waitReady(ctx)
		if err != nil {
			return nil, err
		}
		storages = append(storages, store.Storage{ID: id, URI: urls["storaged"] + "/" + storaged.DeviceName(id)})
		pids = append(pids, c.pid())
	}
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		return nil, err
	}
	if err := register(ctx, filepath.Join(data, "catalog.db"), storages); err != nil {
		return nil, err
	}
	args := []string{"dispatcher", "--data", data, "--listen", "127.0.0.1:0", "--auth", "none", "--set", "secret_file=" + secret}
	c, err := l.start(l.bin, append(args, more...)...)
	if err != nil {
		return nil, err
	}
	urls, err := c.waitReady(ctx)
	if err != nil {
		return nil, err
	}
	return newServer(ctx, c, append(pids, c.pid()), data, urls["http"])
}

// startStoraged runs one storage.
func (l *lab) startStoraged(dir, secret string, id store.StorageID) (*child, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "storaged.toml")
	text := fmt.Sprintf("data = %q\nsecret_file = %q\n[storaged]\nlisten = \"127.0.0.1:0\"\n[[storage]]\nid = %d\ndir = %q\n",
		dir, secret, id, filepath.Join(dir, "storage"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return l.start(l.bin, "storaged", "--config", conf)
}

// register puts storages into a new catalog, as one cluster.
func register(ctx context.Context, file string, storages []store.Storage) (err error) {
	c, err := catalog.OpenSQLite(ctx, file, catalog.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	cluster, err := c.PutCluster(ctx, store.Cluster{Name: "main"})
	if err != nil {
		return err
	}
	for _, s := range storages {
		s.Cluster = cluster
		if _, err := c.PutStorage(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
