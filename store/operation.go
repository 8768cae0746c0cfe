package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// OperationID identifies an operation. Begins at 1.
type OperationID int64

// Operation is long work on the store as a whole: rebuilding a storage, comparing catalog and storages. It is kept in the
// catalog, goes on where it was when its worker ends, and is done by one worker at a time, which proves by a lease that it is
// the one.
type Operation struct {
	ID   OperationID
	Kind OperationKind
	// What it is about. Zero fields do not restrict it; which are needed depends on the kind.
	Storage StorageID
	Cluster ClusterID
	Bucket  string
	// Options are the kind's own, as JSON: the same that started it.
	Options []byte

	State OperationState
	// Cursor is where it stands, in the kind's own form. It is written together with the progress, and only once everything
	// before it is durable.
	Cursor   []byte
	Progress OperationProgress

	Priority int // larger first: how little is left of what it saves
	Created  time.Time
	Started  time.Time // zero: not yet
	Updated  time.Time // when Progress was last written
	Ended    time.Time // zero: not yet
	Owner    string    // which worker has it; "" none
	Leased   time.Time // until when
	Error    string    // why it failed, or what holds it up at the moment
}

// Target names what it is about, for people.
func (op *Operation) Target() string {
	switch {
	case op.Storage != 0:
		return fmt.Sprintf("storage %d", op.Storage)
	case op.Cluster != 0:
		return fmt.Sprintf("cluster %d", op.Cluster)
	case op.Bucket != "":
		return "bucket " + op.Bucket
	}
	return "everything"
}

// Urgency is the priority of an operation of a kind: rebuilds first, the fewer storages of their cluster are left to read from
// the sooner; what only looks comes last.
func (op *Operation) Urgency(t *Topology) int {
	switch op.Kind {
	case OpRebuild:
		living, cluster := 0, ClusterID(0)
		for _, s := range t.Storages {
			if s.ID == op.Storage {
				cluster = s.Cluster
			}
		}
		for _, s := range t.Storages {
			if s.Cluster == cluster && s.ID != op.Storage && s.Mode.Readable() {
				living++
			}
		}
		return max(100, 1000-100*living)
	case OpBackup:
		return 60
	case OpDrain:
		return 50
	case OpRebalance:
		return 20
	case OpFsck:
		return 10
	}
	return 0
}

// OperationKind is what is to be done.
type OperationKind string

// The kinds of operations.
const (
	OpRebuild   OperationKind = "rebuild"   // Storage: fill it from its siblings
	OpDrain     OperationKind = "drain"     // Storage or Cluster: move everything elsewhere
	OpRebalance OperationKind = "rebalance" // Cluster, or between all clusters: even out space
	OpScrub     OperationKind = "scrub"     // Storage, or all: read all bytes
	OpFsck      OperationKind = "fsck"      // Bucket, Cluster, Storage, or all: compare catalog and storages
	OpBackup    OperationKind = "backup"    // the catalog, into the store itself
)

// OperationKinds are all kinds.
var OperationKinds = []OperationKind{OpRebuild, OpDrain, OpRebalance, OpScrub, OpFsck, OpBackup}

// ParseOperationKind checks a kind's name.
func ParseOperationKind(s string) (OperationKind, error) {
	if k := OperationKind(s); slices.Contains(OperationKinds, k) {
		return k, nil
	}
	return "", fmt.Errorf("operation %q: want one of %q", s, OperationKinds)
}

// OperationState is where an operation stands.
type OperationState string

// The states. Only running ones are worked on; the last three are final.
const (
	OpRunning   OperationState = "running"
	OpPaused    OperationState = "paused"
	OpDone      OperationState = "done"
	OpFailed    OperationState = "failed"
	OpCancelled OperationState = "cancelled"
)

// Final reports whether nothing more will happen.
func (s OperationState) Final() bool { return s == OpDone || s == OpFailed || s == OpCancelled }

// OperationProgress is how far an operation is. Totals may grow while it runs; 0: not known.
type OperationProgress struct {
	Objects, TotalObjects int64
	Bytes, TotalBytes     int64
	Problems              int64   // found: missing, extra, corrupt
	Fixed                 int64   // of those
	Rate                  float64 // bytes a second of late
	ObjectRate            float64 // objects a second of late
	Throttled             string  // why it goes slower than it could: "limit", "foreground latency", ""
}

// Left estimates the time to the end at the rate of late; 0 when it cannot be told.
func (p OperationProgress) Left() time.Duration {
	switch {
	case p.TotalBytes > p.Bytes && p.Rate > 0:
		return time.Duration(float64(p.TotalBytes-p.Bytes) / p.Rate * float64(time.Second))
	case p.TotalObjects > p.Objects && p.ObjectRate > 0:
		return time.Duration(float64(p.TotalObjects-p.Objects) / p.ObjectRate * float64(time.Second))
	}
	return 0
}

// MaxOperations is how many operations that are at their end are kept on record.
const MaxOperations = 200

// OperationProblem is something that an operation found.
type OperationProblem struct {
	Kind    string    `json:"kind"` // one of the Problem… constants
	Object  ObjectID  `json:"object,omitempty"`
	Storage StorageID `json:"storage,omitempty"` // 0: all of the object's
	Bucket  string    `json:"bucket,omitempty"`
	Name    string    `json:"name,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Fixed   bool      `json:"fixed"` // or what it takes has been enqueued
}

// The kinds of problems.
const (
	ProblemMissing     = "missing"     // a storage does not hold an object's entity, and the catalog did not know
	ProblemLost        = "lost"        // no storage does
	ProblemExtra       = "extra"       // an entity belongs to no object
	ProblemCorrupt     = "corrupt"     // an entity has other bytes than its object
	ProblemUnreachable = "unreachable" // a storage could not be asked
)

// MaxProblems is how many problems an operation keeps; its progress counts all of them, and the worker logs each.
const MaxProblems = 1000

// OperationReport is what an operation found, the first MaxProblems of it. The worker that does it keeps it in the cursor.
type OperationReport struct {
	Problems []OperationProblem `json:"report,omitempty"`
}

// Report reads what an operation has found so far.
func (op *Operation) Report() (r OperationReport, err error) {
	if len(op.Cursor) > 0 {
		err = json.Unmarshal(op.Cursor, &r)
	}
	return r, err
}

// OperationStatus is an operation as the operator's API shows it, and, in a request for a new one, what it is to be.
type OperationStatus struct {
	ID           OperationID     `json:"id"`
	Kind         OperationKind   `json:"kind"`
	Storage      StorageID       `json:"storage,omitempty"`
	Cluster      ClusterID       `json:"cluster,omitempty"`
	Bucket       string          `json:"bucket,omitempty"`
	Options      json.RawMessage `json:"options,omitempty"`
	Target       string          `json:"target"`
	State        OperationState  `json:"state"`
	Priority     int             `json:"priority"`
	Created      time.Time       `json:"created,omitzero"`
	Started      time.Time       `json:"started,omitzero"`
	Updated      time.Time       `json:"updated,omitzero"`
	Ended        time.Time       `json:"ended,omitzero"`
	Objects      int64           `json:"objects"`
	TotalObjects int64           `json:"total_objects"` // 0: not known
	Bytes        int64           `json:"bytes"`
	TotalBytes   int64           `json:"total_bytes"` // 0: not known
	Problems     int64           `json:"problems"`
	Fixed        int64           `json:"fixed"`
	Rate         float64         `json:"bytes_per_second"`
	ObjectRate   float64         `json:"objects_per_second"`
	LeftSeconds  int64           `json:"left_seconds,omitempty"` // 0: not known
	Throttled    string          `json:"throttled,omitempty"`
	Owner        string          `json:"owner,omitempty"`
	Error        string          `json:"error,omitempty"`
}

// Status shows an operation.
func (op *Operation) Status() OperationStatus {
	p := &op.Progress
	s := OperationStatus{
		ID: op.ID, Kind: op.Kind, Storage: op.Storage, Cluster: op.Cluster, Bucket: op.Bucket, Options: op.Options, Target: op.Target(),
		State: op.State, Priority: op.Priority, Created: op.Created, Started: op.Started, Updated: op.Updated, Ended: op.Ended,
		Objects: p.Objects, TotalObjects: p.TotalObjects, Bytes: p.Bytes, TotalBytes: p.TotalBytes, Problems: p.Problems, Fixed: p.Fixed,
		Owner: op.Owner, Error: op.Error,
	}
	if !op.State.Final() {
		s.Rate, s.ObjectRate, s.Throttled, s.LeftSeconds = p.Rate, p.ObjectRate, p.Throttled, int64(p.Left().Round(time.Second)/time.Second)
	}
	return s
}

// Operations is the part of a [Catalog] that keeps operations.
type Operations interface {
	// CreateOperation enters a running operation and returns its ID. ErrExists, with the ID of the other, when one of the
	// same kind and target is not at its end.
	CreateOperation(ctx context.Context, op Operation) (OperationID, error)
	// Operations lists those that are not at their end, most urgent first, then the newest others, up to limit in all.
	Operations(ctx context.Context, limit int) ([]Operation, error)
	// Operation returns one. ErrNoOperation.
	Operation(ctx context.Context, id OperationID) (Operation, error)
	// ClaimOperation leases the most urgent running operation that nobody holds until then, and returns it; ErrNoOperation when
	// there is none. kinds restricts it, if not empty.
	ClaimOperation(ctx context.Context, owner string, until time.Time, kinds ...OperationKind) (Operation, error)
	// SaveOperation writes Cursor, Progress, Error and, if final, State of an operation that owner holds, and extends the
	// lease. It returns the state as it is now: one that is no longer running must be let go of. ErrLease when the lease is lost.
	// A zero until gives it back.
	SaveOperation(ctx context.Context, op Operation, owner string, until time.Time) (OperationState, error)
	// SetOperationState pauses, resumes or cancels. ErrNoOperation; ErrInUse when it is at its end.
	SetOperationState(ctx context.Context, id OperationID, state OperationState) error
}

// ErrNoOperation says that there is no such operation.
var ErrNoOperation = errors.New("store: no such operation")
