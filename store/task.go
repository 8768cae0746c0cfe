package store

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Task is work that a [Catalog] leaves to be done later: it is enqueued in the transaction that makes it necessary.
type Task struct {
	Kind   string // one of the Task… constants
	Arg    []byte // JSON, see the …Arg types
	Unique string // while a task of this kind with this key waits, another one is folded into it; "" never
	// RunAfter is when it may begin; zero: at once.
	RunAfter time.Time
	Priority int // larger first; 0 is usual
}

// The kinds of tasks. They are the names of job functions, and part of the format of the database.
const (
	TaskReplicate    = "replicate"     // ReplicateArg: give the missing storages their entities
	TaskDeleteObject = "delete_object" // DeleteObjectArg: delete the entities of a deleted object, then forget it
	TaskDeleteBucket = "delete_bucket" // DeleteBucketArg: empty a deleted bucket
	TaskRepairObject = "repair_object" // RepairArg: check an object's entities, and replace what is gone or corrupt
)

// TaskKinds are all kinds.
var TaskKinds = [...]string{TaskReplicate, TaskDeleteObject, TaskDeleteBucket, TaskRepairObject}

// ReplicateArg is the argument of a [TaskReplicate].
type ReplicateArg struct {
	Object ObjectID `json:"object"`
}

// DeleteObjectArg is the argument of a [TaskDeleteObject].
type DeleteObjectArg struct {
	Object ObjectID `json:"object"`
}

// DeleteBucketArg is the argument of a [TaskDeleteBucket].
type DeleteBucketArg struct {
	Bucket BucketID `json:"bucket"`
}

// RepairArg is the argument of a [TaskRepairObject].
type RepairArg struct {
	Object  ObjectID  `json:"object"`
	Storage StorageID `json:"storage"` // the suspect
}

// NewReplicate makes the task that gives an object's missing storages their entities. One an object is enough.
func NewReplicate(id ObjectID) Task {
	n := strconv.FormatUint(uint64(id), 10)
	return Task{Kind: TaskReplicate, Arg: []byte(`{"object":` + n + `}`), Unique: n}
}

// NewDeleteObject makes the task that deletes the entities of a deleted object after a time.
func NewDeleteObject(id ObjectID, after time.Time) Task {
	n := strconv.FormatUint(uint64(id), 10)
	return Task{Kind: TaskDeleteObject, Arg: []byte(`{"object":` + n + `}`), RunAfter: after}
}

// NewDeleteBucket makes the task that empties a deleted bucket after a time. One a bucket is enough.
func NewDeleteBucket(id BucketID, after time.Time) Task {
	n := strconv.FormatUint(uint64(id), 10)
	return Task{Kind: TaskDeleteBucket, Arg: []byte(`{"bucket":` + n + `}`), Unique: n, RunAfter: after}
}

// NewRepair makes the task that checks an object's entities. One an object and storage is enough.
func NewRepair(id ObjectID, suspect StorageID) Task {
	n, s := strconv.FormatUint(uint64(id), 10), strconv.FormatUint(uint64(suspect), 10)
	return Task{Kind: TaskRepairObject, Arg: []byte(`{"object":` + n + `,"storage":` + s + `}`), Unique: n + "/" + s}
}

// DecodeArg reads a task's argument into one of the …Arg types.
func DecodeArg(kind string, arg []byte, into any) error {
	if err := json.Unmarshal(arg, into); err != nil {
		return fmt.Errorf("store: argument of task %s: %w", kind, err)
	}
	return nil
}
