package store

import (
	"context"
	"time"
)

// DeletedVersion is a version of an object that was deleted or overwritten, and whose bytes are still there.
type DeletedVersion struct {
	Object
	Deleted time.Time // when it went out of view
	Until   time.Time // when its bytes are deleted; soon after, that is
}

// Undeletion is the part of a [Catalog] that brings back what went out of view, within the grace time.
type Undeletion interface {
	// Deleted lists versions that can be brought back, of a bucket that is visible: those whose names begin with prefix, by name
	// and, of one name, the newest first, up to limit. ErrNoBucket.
	Deleted(ctx context.Context, bucket, prefix string, limit int) ([]DeletedVersion, error)
	// Undelete makes a version visible again: the one with an id, or the newest one where it is 0. Its entities are checked by a
	// task, since what storages were owed is no longer known. ErrNoBucket; ErrNoObject when there is no such version any
	// more; ErrExists when the name is in use, unless replace is set: then what has it is deleted.
	Undelete(ctx context.Context, bucket, name string, id ObjectID, replace bool) (Object, error)
	// UndeleteBucket makes the bucket that last had a name visible again, with all that was in it when it was deleted, as far as it
	// has not been taken out yet: what has is then a deleted object of it. ErrNoBucket, ErrExists.
	UndeleteBucket(ctx context.Context, name string) (Bucket, error)
}

// The types in which the operator's API speaks of this.

// DeletedStatus is a version as the API shows it.
type DeletedStatus struct {
	Bucket  string    `json:"bucket"`
	Name    string    `json:"name"`
	Version ObjectID  `json:"version"`
	Size    int64     `json:"size"`
	ETag    string    `json:"etag"`
	Created time.Time `json:"created"`
	Deleted time.Time `json:"deleted"`
	Until   time.Time `json:"until"`
}

// UndeleteRequest says what to bring back. Without a name it is the bucket.
type UndeleteRequest struct {
	Bucket  string   `json:"bucket"`
	Name    string   `json:"name,omitempty"`
	Version ObjectID `json:"version,omitempty"`
	Replace bool     `json:"replace,omitempty"`
}
