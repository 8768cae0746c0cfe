package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"wheelhouse/store"
)

// maxOperations is how many operations one answer lists.
const maxOperations = store.MaxOperations

func (a *api) operations(r *http.Request) (any, error) {
	limit := 50
	if v := r.FormValue("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return nil, badf("limit is not a positive number: %q", v)
		}
		limit = min(n, maxOperations)
	}
	return a.operationList(r.Context(), limit)
}

func (a *api) operationList(ctx context.Context, limit int) ([]store.OperationStatus, error) {
	ops, err := a.cat.Operations(ctx, limit)
	if err != nil {
		return nil, err
	}
	list := make([]store.OperationStatus, len(ops))
	for i := range ops {
		list[i] = ops[i].Status()
	}
	return list, nil
}

func (a *api) operation(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	op, err := a.cat.Operation(r.Context(), store.OperationID(id))
	if err != nil {
		return nil, err
	}
	return op.Status(), nil
}

// operationProblems lists what an operation has found.
func (a *api) operationProblems(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	op, err := a.cat.Operation(r.Context(), store.OperationID(id))
	if err != nil {
		return nil, err
	}
	report, err := op.Report()
	return append([]store.OperationProblem{}, report.Problems...), err
}

func (a *api) setOperationState(r *http.Request) (any, error) {
	var in struct{ State store.OperationState }
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	if err := input(r, &in); err != nil {
		return nil, err
	}
	if !slices.Contains([]store.OperationState{store.OpRunning, store.OpPaused, store.OpCancelled}, in.State) {
		return nil, badf("state %q: want running, paused or cancelled", in.State)
	}
	return nil, a.cat.SetOperationState(r.Context(), store.OperationID(id), in.State)
}

// addOperation begins long work. What it is about is put into the mode that the work needs.
func (a *api) addOperation(r *http.Request) (any, error) {
	var in struct {
		Kind    store.OperationKind
		Storage store.StorageID
		Cluster store.ClusterID
		Bucket  string
		Options rawJSON
	}
	if err := input(r, &in); err != nil {
		return nil, err
	}
	op := store.Operation{Kind: in.Kind, Storage: in.Storage, Cluster: in.Cluster, Bucket: in.Bucket, Options: in.Options}
	if _, err := store.ParseOperationKind(string(op.Kind)); err != nil {
		return nil, badf("%v", err)
	}
	top, err := a.cat.Topology(r.Context())
	if err != nil {
		return nil, err
	}
	if err := a.checkTarget(r.Context(), &op, top); err != nil {
		return nil, err
	}
	if err := a.prepare(r.Context(), &op, top); err != nil {
		return nil, err
	}
	op.Priority = op.Urgency(top)
	id, err := a.cat.CreateOperation(r.Context(), op)
	if err != nil {
		return nil, err
	}
	if op, err = a.cat.Operation(r.Context(), id); err != nil {
		return nil, err
	}
	return op.Status(), nil
}

// rawJSON is a value that is passed on as it is.
type rawJSON []byte

func (j *rawJSON) UnmarshalJSON(b []byte) error {
	if *j = nil; string(b) != "null" {
		*j = slices.Clone(b)
	}
	return nil
}

func findStorage(top *store.Topology, id store.StorageID) (store.Storage, error) {
	for _, s := range top.Storages {
		if s.ID == id {
			return s, nil
		}
	}
	return store.Storage{}, fmt.Errorf("%w: id %d", store.ErrNoStorage, id)
}

func findCluster(top *store.Topology, id store.ClusterID) (store.Cluster, error) {
	for _, c := range top.Clusters {
		if c.ID == id {
			return c, nil
		}
	}
	return store.Cluster{}, fmt.Errorf("%w: id %d", store.ErrNoCluster, id)
}

// checkTarget refuses an operation about what there is not, or about the wrong thing.
func (a *api) checkTarget(ctx context.Context, op *store.Operation, top *store.Topology) error {
	targets := 0
	if op.Storage != 0 {
		targets++
		if _, err := findStorage(top, op.Storage); err != nil {
			return err
		}
	}
	if op.Cluster != 0 {
		targets++
		if _, err := findCluster(top, op.Cluster); err != nil {
			return err
		}
	}
	if op.Bucket != "" {
		targets++
		if _, err := a.cat.Bucket(ctx, op.Bucket); err != nil {
			return err
		}
	}
	allowed := map[store.OperationKind]bool{
		store.OpRebuild:   op.Storage != 0,
		store.OpDrain:     op.Storage != 0 || op.Cluster != 0,
		store.OpRebalance: op.Storage == 0 && op.Bucket == "",
		store.OpScrub:     op.Cluster == 0 && op.Bucket == "",
		store.OpFsck:      true,
		store.OpBackup:    targets == 0,
	}
	if targets > 1 || !allowed[op.Kind] {
		return badf("%s of %s: rebuild takes a storage, drain a storage or a cluster, rebalance a cluster or nothing, "+
			"scrub a storage or nothing, fsck one of all, backup nothing", op.Kind, op.Target())
	}
	return nil
}

// prepare puts a storage or a cluster into the mode in which the operation finds it.
func (a *api) prepare(ctx context.Context, op *store.Operation, top *store.Topology) error {
	switch {
	case op.Kind == store.OpScrub:
		return a.makeWay(ctx, op)
	case op.Kind == store.OpRebuild:
		s, err := findStorage(top, op.Storage)
		if err != nil {
			return err
		}
		if !hasSibling(top, s) {
			return fmt.Errorf("%w: storage %d has no sibling that can be read: there is nothing to rebuild it from", store.ErrInUse, s.ID)
		}
		return a.cat.SetStorageMode(ctx, s.ID, store.ModeFilling)
	case op.Kind == store.OpDrain && op.Storage != 0:
		s, err := findStorage(top, op.Storage)
		if err != nil {
			return err
		}
		if !s.Mode.Readable() {
			return fmt.Errorf("%w: storage %d is %s: it cannot be read, rebuild its siblings from each other instead", store.ErrInUse, s.ID, s.Mode)
		}
		if !hasSibling(top, s) {
			return fmt.Errorf("%w: storage %d has no sibling; drain its cluster", store.ErrInUse, s.ID)
		}
		return a.cat.SetStorageMode(ctx, s.ID, store.ModeDrain)
	case op.Kind == store.OpDrain:
		c, err := findCluster(top, op.Cluster)
		if err != nil {
			return err
		}
		c.Mode = store.ClusterRetire
		_, err = a.cat.PutCluster(ctx, c)
		return err
	}
	return nil
}

// makeWay cancels a scrub that a worker has begun by itself, so that the operator's can begin.
func (a *api) makeWay(ctx context.Context, op *store.Operation) error {
	ops, err := a.cat.Operations(ctx, maxOperations)
	if err != nil {
		return err
	}
	for _, o := range ops {
		var opt struct{ Auto bool }
		if o.Kind != store.OpScrub || o.State.Final() || op.Storage != 0 && o.Storage != op.Storage ||
			len(o.Options) == 0 || json.Unmarshal(o.Options, &opt) != nil || !opt.Auto {
			continue
		}
		if err := a.cat.SetOperationState(ctx, o.ID, store.OpCancelled); err != nil && !errors.Is(err, store.ErrInUse) {
			return err
		}
	}
	return nil
}

func hasSibling(top *store.Topology, s store.Storage) bool {
	return slices.ContainsFunc(top.Storages, func(o store.Storage) bool {
		return o.Cluster == s.Cluster && o.ID != s.ID && o.Mode.Readable()
	})
}
