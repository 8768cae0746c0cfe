// Package control is the operator's API of the store, as JSON over HTTP below /-/: storages, clusters, classes, accounts,
// keys, settings, the state of an object's entities, and totals. The command line speaks it; so can scripts.
package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"wheelhouse/store"
)

// Catalog is what the API asks of the catalog.
type Catalog interface {
	store.Administration
	store.Operations
	Find(ctx context.Context, bucket, name string) (store.Bucket, store.Object, error)
	Bucket(ctx context.Context, name string) (store.Bucket, error)
	UpdateBucket(ctx context.Context, b store.Bucket) error
	Totals(ctx context.Context) (store.Totals, error)
	EnqueueRepair(ctx context.Context, id store.ObjectID, storage store.StorageID) error
	Scan(ctx context.Context, bucket store.BucketID, from string, limit int, f func(*store.Object) bool) error
	ScheduleBackup(ctx context.Context, at time.Time) error
	MissingOn(ctx context.Context, storage store.StorageID, after store.ObjectID, limit int) ([]store.ObjectID, error)
	Owed(ctx context.Context) (map[store.StorageID]int64, error)
	Processes(ctx context.Context) ([]store.Process, error)
	Fenced(ctx context.Context) ([]store.Lease, error)
	store.Witnesses
	store.Undeletion
}

// Devices are the storages as this process reaches them.
type Devices interface {
	Device(s *store.Storage) store.Device
}

// Queue tells how much work waits, by kind.
type Queue func(ctx context.Context) (map[string]store.QueueStats, error)

// Options tune a Handler.
type Options struct {
	// BackupEvery is the time between backups of the catalog, so that it can be told when they stay out. 0: none are expected.
	BackupEvery time.Duration
	Now         func() time.Time // default time.Now
	// Lookups says how look-ups go through cache servers. nil: they do not.
	Lookups func(context.Context) *store.LookupStatus
	// Changes is why the catalog did not take the last change that this process tried to make; nil: it did.
	Changes func() error
	// Worker says that this process does the work in the background itself.
	Worker bool
}

// Handler serves the API. Whoever calls it has checked that the client is an administrator.
func Handler(cat Catalog, devices Devices, queue Queue, o Options) http.Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &api{cat: cat, devices: devices, queue: queue, opt: o, begun: o.Now()}
	mux := http.NewServeMux()
	for pattern, f := range map[string]func(*http.Request) (any, error){
		"GET /-/storages":                 a.storages,
		"POST /-/storages":                a.addStorage,
		"POST /-/storages/{id}/mode":      a.setStorageMode,
		"DELETE /-/storages/{id}":         a.removeStorage,
		"GET /-/clusters":                 a.clusters,
		"POST /-/clusters":                a.putCluster,
		"DELETE /-/clusters/{id}":         a.removeCluster,
		"GET /-/classes":                  a.classes,
		"POST /-/classes":                 a.putClass,
		"GET /-/accounts":                 a.accounts,
		"POST /-/accounts":                a.addAccount,
		"DELETE /-/accounts/{id}":         a.removeAccount,
		"GET /-/accounts/{id}/keys":       a.keys,
		"POST /-/accounts/{id}/keys":      a.addKey,
		"DELETE /-/keys/{key}":            a.removeKey,
		"POST /-/buckets/{name}/owner":    a.setOwner,
		"GET /-/objects":                  a.object,
		"POST /-/objects/repair":          a.repair,
		"GET /-/deleted":                  a.deleted,
		"POST /-/undelete":                a.undelete,
		"GET /-/settings":                 a.settings,
		"POST /-/settings":                a.setSetting,
		"GET /-/status":                   a.status,
		"GET /-/operations":               a.operations,
		"POST /-/operations":              a.addOperation,
		"GET /-/operations/{id}":          a.operation,
		"POST /-/operations/{id}/state":   a.setOperationState,
		"GET /-/catalog/backups":          a.backups,
		"POST /-/catalog/backups":         a.backUp,
		"GET /-/operations/{id}/problems": a.operationProblems,
		"POST /-/storages/{id}/accept":    a.acceptStorage,
		"POST /-/storages/{id}/promote":   a.promoteStorage,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			answer, err := f(r)
			reply(w, answer, err)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		reply(w, nil, &inputError{http.StatusNotFound, "no such call: " + r.Method + " " + r.URL.Path})
	})
	return mux
}

type api struct {
	cat     Catalog
	devices Devices
	queue   Queue
	opt     Options
	begun   time.Time
}

// inputError is a mistake of the client's.
type inputError struct {
	status int
	reason string
}

func (e *inputError) Error() string { return e.reason }

func badf(format string, args ...any) error {
	return &inputError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func reply(w http.ResponseWriter, answer any, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	status := http.StatusOK
	if err != nil {
		status = statusOf(err)
		answer = store.APIError{Status: status, Reason: strings.TrimPrefix(err.Error(), "store: ")}
	} else if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // a client that is gone needs no answer
}

func statusOf(err error) int {
	if bad, ok := errors.AsType[*inputError](err); ok {
		return bad.status
	}
	for _, s := range []struct {
		err    error
		status int
	}{
		{store.ErrNoOperation, 404},
		{store.ErrNoStorage, 404},
		{store.ErrNoCluster, 404},
		{store.ErrNoAccount, 404},
		{store.ErrNoBucket, 404},
		{store.ErrNoObject, 404},
		{store.ErrExists, 409},
		{store.ErrInUse, 409},
		{store.ErrNoChanges, 503},
	} {
		if errors.Is(err, s.err) {
			return s.status
		}
	}
	return http.StatusInternalServerError
}

const maxInput = 64 << 10

func input(r *http.Request, v any) error { return inputUpTo(r, maxInput, v) }

// inputUpTo reads a body of most bytes: one JSON object and nothing behind it.
func inputUpTo(r *http.Request, most int64, v any) error {
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, most))
	var text json.RawMessage
	err := dec.Decode(&text)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("there is something behind it")
		} else if text[0] != '{' {
			err = errors.New("it is no object")
		}
	}
	if err == nil {
		strict := json.NewDecoder(bytes.NewReader(text))
		strict.DisallowUnknownFields()
		err = strict.Decode(v)
	}
	if err != nil {
		return badf("the body is not the JSON that is wanted here: %v", err)
	}
	return nil
}

func pathID(r *http.Request) (uint64, error) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 32)
	if err != nil || id == 0 {
		return 0, badf("not an id: %q", r.PathValue("id"))
	}
	return id, nil
}

// object tells all about one object: its row, and what each storage of its cluster says of it now.
func (a *api) object(r *http.Request) (any, error) {
	b, o, err := a.cat.Find(r.Context(), r.FormValue("bucket"), r.FormValue("name"))
	if err != nil {
		return nil, err
	}
	top, err := a.cat.Topology(r.Context())
	if err != nil {
		return nil, err
	}
	answer := store.ObjectStatus{
		ID: o.ID, Bucket: b.Name, Name: o.Name, Cluster: o.Cluster, Size: o.Size, ETag: fmt.Sprintf("%x", o.ETag),
		ContentType: o.ContentType, Created: o.Created.UTC(), Entities: []store.EntityStatus{},
	}
	for i := range top.Storages {
		if s := &top.Storages[i]; s.Cluster == o.Cluster {
			answer.Entities = append(answer.Entities, store.EntityStatus{Storage: s.ID, Mode: s.Mode.String(), URI: s.URI + "/" + store.EntityPath(o.ID)})
		}
	}
	var all sync.WaitGroup
	for i := range answer.Entities {
		all.Go(func() { a.entity(r.Context(), top, &o, &answer.Entities[i]) })
	}
	all.Wait()
	return answer, nil
}

func (a *api) entity(ctx context.Context, top *store.Topology, o *store.Object, e *store.EntityStatus) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, owed := range o.Missing {
		e.Owed = e.Owed || owed == e.Storage
	}
	for i := range top.Storages {
		if s := &top.Storages[i]; s.ID == e.Storage {
			info, err := a.devices.Device(s).Stat(ctx, o.ID)
			switch {
			case errors.Is(err, store.ErrNoEntity):
				e.State = "absent"
			case err != nil:
				e.State, e.Error = "unreachable", err.Error()
			case info.Size != o.Size:
				e.State, e.Error = "wrong size", fmt.Sprintf("%d bytes", info.Size)
			default:
				e.State = "present"
			}
		}
	}
}

func (a *api) repair(r *http.Request) (any, error) {
	var in struct{ Bucket, Name string }
	if err := input(r, &in); err != nil {
		return nil, err
	}
	_, o, err := a.cat.Find(r.Context(), in.Bucket, in.Name)
	if err != nil {
		return nil, err
	}
	return nil, a.cat.EnqueueRepair(r.Context(), o.ID, 0)
}

func (a *api) settings(r *http.Request) (any, error) {
	all, err := a.cat.Settings(r.Context())
	maps.DeleteFunc(all, func(key, _ string) bool { return strings.HasPrefix(key, store.ReservedSettings) })
	return all, err
}

func (a *api) setSetting(r *http.Request) (any, error) {
	var in struct{ Key, Value string }
	if err := input(r, &in); err != nil {
		return nil, err
	}
	if in.Key == "" {
		return nil, badf("no key is named")
	}
	if err := store.CheckSetting(in.Key, in.Value); err != nil {
		return nil, badf("%v", err)
	}
	return nil, a.cat.SetSetting(r.Context(), in.Key, in.Value)
}
