package control

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/idguard"
	"wheelhouse/store/placement"
)

func (a *api) storages(r *http.Request) (any, error) { return a.storageList(r.Context()) }

func (a *api) storageList(ctx context.Context) ([]store.StorageStatus, error) {
	top, err := a.cat.Topology(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]store.StorageStatus, len(top.Storages))
	for i, s := range top.Storages {
		list[i] = store.StorageStatus{
			ID: s.ID, Cluster: s.Cluster, URI: s.URI, Mode: s.Mode.String(), Capacity: s.Capacity, Used: s.Used,
			Set: s.Set.String(), BySystem: s.BySystem, DownSince: s.Down.Since, Reason: s.Down.Reason,
			Uncounted: int64(s.Down.Uncounted / time.Second),
		}
	}
	return list, nil
}

// addStorage registers a storage. Its id is that with which its node is configured, and which its URI ends in. Of one that is known, what
// is not named stays as it is.
func (a *api) addStorage(r *http.Request) (any, error) {
	var in store.StorageStatus
	if err := input(r, &in); err != nil {
		return nil, err
	}
	mode, err := store.ParseStorageMode(cmp.Or(in.Mode, store.ModeRW.String()))
	if err != nil {
		return nil, badf("%v", err)
	}
	in.URI = strings.TrimRight(in.URI, "/")
	id, err := deviceOf(in.URI)
	if err != nil {
		return nil, err
	}
	top, err := a.cat.Topology(r.Context())
	if err != nil {
		return nil, err
	}
	switch {
	case in.ID != 0 && in.ID != id:
		return nil, badf("uri %q is that of storage %d, not of storage %d", in.URI, id, in.ID)
	case in.ID == 0:
		if other, err := findStorage(top, id); err == nil {
			return nil, fmt.Errorf("%w: storage %d, at %s (it is moved by its id: --id %d)", store.ErrExists, id, other.URI, id)
		}
		in.ID = id
	}
	if err := a.needCatalogOf(r.Context(), &store.Storage{ID: in.ID, URI: in.URI}); err != nil {
		return nil, err
	}
	s := store.Storage{ID: in.ID, Cluster: cmp.Or(in.Cluster, 1), Mode: mode}
	if known, err := findStorage(top, in.ID); err == nil {
		s = known
		s.Cluster = cmp.Or(in.Cluster, s.Cluster)
		if in.Mode != "" {
			s.Mode, s.Set, s.Down = mode, mode, store.Outage{}
		}
	}
	s.URI = in.URI
	if in.ID, err = a.cat.PutStorage(r.Context(), s); err != nil {
		return nil, err
	}
	in.Cluster = s.Cluster
	if top, err = a.cat.Topology(r.Context()); err != nil {
		return nil, err
	}
	if s, err := findStorage(top, in.ID); err == nil {
		in.Mode = s.Mode.String() // it may have to be filled first
	}
	return in, nil
}

// deviceOf reads the id of the storage that a URI is of: a node serves each at /dev<ID>.
func deviceOf(uri string) (store.StorageID, error) {
	bad := badf("uri %q: want http://HOST:PORT/dev<ID>", uri)
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return 0, bad
	}
	digits, ok := strings.CutPrefix(path.Base(u.Path), "dev")
	id, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || id == 0 || strconv.FormatUint(id, 10) != digits {
		return 0, bad
	}
	return store.StorageID(id), nil
}

// needCatalogOf refuses a storage that holds something where the catalog has never known of anything: that is not its catalog.
func (a *api) needCatalogOf(ctx context.Context, s *store.Storage) error {
	next, err := a.cat.NextID(ctx)
	if err != nil || next > 1 {
		return err
	}
	held, err := idguard.Holds(ctx, a.devices.Device(s))
	if err == nil && held { // one that does not answer is asked before any id is handed out
		return fmt.Errorf("%w: the catalog is empty, but the storage at %s holds objects: \"wheelhouse catalog rebuild\" makes the catalog from the storages, "+
			"\"wheelhouse catalog restore\" from a backup (docs/ops/recovery.md)", store.ErrInUse, s.URI)
	}
	return ctx.Err()
}

func (a *api) setStorageMode(r *http.Request) (any, error) {
	var in struct{ Mode string }
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	if err := input(r, &in); err != nil {
		return nil, err
	}
	mode, err := store.ParseStorageMode(in.Mode)
	if err != nil {
		return nil, badf("%v", err)
	}
	top, err := a.cat.TopologyNow(r.Context())
	if err != nil {
		return nil, err
	}
	s, err := findStorage(top, store.StorageID(id))
	if err != nil {
		return nil, err
	}
	if mode, err = settable(top, &s, mode); err != nil {
		return nil, err
	}
	return store.StorageStatus{ID: s.ID, Cluster: s.Cluster, URI: s.URI, Mode: mode.String()}, a.cat.SetStorageMode(r.Context(), s.ID, mode)
}

// settable is what a storage's mode becomes when an operator wants mode. What was written while it was dead or spare, or has yet to
// come, it is not owed: to count as complete it must be filled first, or have been looked at (promote).
func settable(top *store.Topology, s *store.Storage, mode store.StorageMode) (store.StorageMode, error) {
	complete := mode == store.ModeRW || mode == store.ModeRO || mode == store.ModeDrain
	refused := func(format string, args ...any) (store.StorageMode, error) {
		return 0, &inputError{http.StatusConflict, fmt.Sprintf(format, args...)}
	}
	switch {
	case s.Set == store.ModeSpare && complete:
		return refused("storage %d is spare: wheelhouse storage promote %d looks whether it holds what its siblings hold, and makes it rw", s.ID, s.ID)
	case s.Set != store.ModeDead && s.Set != store.ModeFilling:
		return mode, nil
	case mode == store.ModeDown: // it would be forgotten that something is wanting
		return refused("storage %d is %s: it is not read, and nothing waits for it; what it lacks it is given when it is set rw", s.ID, s.Set)
	case complete && slices.ContainsFunc(top.Storages, func(o store.Storage) bool {
		return o.Cluster == s.Cluster && o.ID != s.ID && o.Set != store.ModeDead && o.Set != store.ModeFilling
	}):
		return store.ModeFilling, nil
	}
	return mode, nil
}

func (a *api) removeStorage(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	return nil, a.cat.RemoveStorage(r.Context(), store.StorageID(id))
}

func (a *api) clusters(r *http.Request) (any, error) { return a.clusterList(r.Context()) }

func (a *api) clusterList(ctx context.Context) ([]store.ClusterStatus, error) {
	top, err := a.cat.Topology(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]store.ClusterStatus, len(top.Clusters))
	for i, c := range top.Clusters {
		inForce, degraded := placement.InForce(top, &c)
		list[i] = store.ClusterStatus{ID: c.ID, Name: c.Name, Mode: c.Mode.String(), InForce: inForce.String(), Degraded: degraded}
		for _, s := range top.Storages {
			if s.Cluster == c.ID {
				list[i].Storages = append(list[i].Storages, s.ID)
			}
		}
	}
	return list, nil
}

func (a *api) putCluster(r *http.Request) (any, error) {
	in := store.ClusterStatus{Mode: store.ClusterRW.String()}
	if err := input(r, &in); err != nil {
		return nil, err
	}
	mode, err := store.ParseClusterMode(in.Mode)
	if err != nil {
		return nil, badf("%v", err)
	}
	in.ID, err = a.cat.PutCluster(r.Context(), store.Cluster{ID: in.ID, Name: in.Name, Mode: mode})
	return in, err
}

func (a *api) removeCluster(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	return nil, a.cat.RemoveCluster(r.Context(), store.ClusterID(id))
}

func (a *api) classes(r *http.Request) (any, error) {
	top, err := a.cat.Topology(r.Context())
	if err != nil {
		return nil, err
	}
	list := make([]store.ClassStatus, len(top.Classes))
	for i, c := range top.Classes {
		list[i] = store.ClassStatus(c)
	}
	return list, nil
}

func (a *api) putClass(r *http.Request) (any, error) {
	var in store.ClassStatus
	if err := input(r, &in); err != nil {
		return nil, err
	}
	if in.Name == "" || len(in.Name) > store.MaxBucketName {
		return nil, badf("name: want 1 to %d bytes", store.MaxBucketName)
	}
	if in.MinDurable < 0 || in.MinDurable > 16 {
		return nil, badf("min_durable: want 0 (the default, 2) to 16")
	}
	return in, a.cat.PutClass(r.Context(), store.Class(in))
}
