package store

import (
	"context"
	"time"
)

// Catalog knows what exists and where it is. Implementations live in store/catalog; storetest.Catalog is the suite that
// all of them pass. Safe for concurrent use. A method that returns nil has made its change durable.
type Catalog interface {
	Objects
	Buckets
	Housekeeping
	Witnesses
	Undeletion
	Health
	Processes
	Administration
	Operations
	Inventory
	Close() error
}

// Objects is the part of a [Catalog] that serves requests.
type Objects interface {
	// Find looks an object up by the names of its bucket and its own. ErrNoBucket, or ErrNoObject (then the Bucket is
	// valid).
	Find(ctx context.Context, bucket, name string) (Bucket, Object, error)
	// Commit makes a stored object visible under its name, replacing what was there. In the same transaction it lists
	// what is missing and enqueues its replication, and enqueues the deletion of the version replaced, after the grace
	// time. It returns that version, or a zero Object. ErrNoBucket, ErrPrecondition; ErrLease when the id's block has
	// been closed or was never leased.
	Commit(ctx context.Context, c Commit) (replaced Object, err error)
	// Delete removes an object from view and enqueues the deletion of its entities after the grace time. It returns
	// what was removed. ErrNoObject, ErrPrecondition.
	Delete(ctx context.Context, bucket BucketID, name string, cond Condition) (Object, error)
	// Update replaces ContentType, CacheControl, Meta and Replicas of an object, by its id and name. ErrNoObject when
	// that version is no longer the visible one.
	Update(ctx context.Context, o Object) error
	// Rename gives an object another name, possibly in another bucket; its id and entities stay. ErrNoObject,
	// ErrNoBucket (destination), ErrExists (something has the destination's name).
	Rename(ctx context.Context, from BucketID, fromName string, to BucketID, toName string) error
	// Scan calls f for the objects of a bucket in byte order of their names: those with name >= from, up to limit, until
	// f returns false. f must not call the Catalog.
	Scan(ctx context.Context, bucket BucketID, from string, limit int, f func(*Object) bool) error
	// LeaseIDs hands out a block of n ids, first to first+n-1, that nobody else will ever get. owner names the process;
	// the block is kept on record (see [Housekeeping.Leases]) until DropLease.
	LeaseIDs(ctx context.Context, owner string, n int) (first ObjectID, err error)
	// RenewLeases says that owner is alive and still uses the blocks that begin at these ids.
	RenewLeases(ctx context.Context, owner string, firsts []ObjectID) error
}

// Commit is one object to be made visible.
type Commit struct {
	Object    Object // Missing lists the storages of its cluster that are owed an entity, unless Written says who has one
	Written   *Written
	Condition Condition
}

// Written says which storages hold an object that is to be made visible. The catalog then finds out by itself, in the same
// transaction, whom else the object is owed: every other storage of its cluster that is not dead, and those that were begun to be
// filled after the topology that the writer went by, as the entity may have been lost with what was there before.
//
// Those it goes by must still hold it: where fewer than Durable of On are in the cluster, alive, and not begun anew, as when the cluster
// was drained and removed meanwhile, nothing becomes visible, and the error is ErrNoWritable.
type Written struct {
	On       []StorageID
	Topology uint64 // version of the topology by which the storages were chosen
	Durable  int    // how many must hold it; 0: 1
}

// Condition must hold for the object that is visible at the time, or nothing happens and ErrPrecondition is returned. The
// zero Condition always holds.
type Condition struct {
	Absent          bool       // no object has the name
	Match           [][16]byte // an object has the name, with one of these ETags (nil: no such demand)
	Exists          bool       // an object has the name
	NoneMatch       [][16]byte // no object has the name with one of these ETags
	UnmodifiedSince time.Time  // the object was created no later, in whole seconds (zero: no such demand)
}

// IsZero reports whether c demands nothing.
func (c Condition) IsZero() bool {
	return !c.Absent && c.Match == nil && !c.Exists && c.NoneMatch == nil && c.UnmodifiedSince.IsZero()
}

// Holds evaluates c against the object that has the name now, or nil.
func (c Condition) Holds(o *Object) bool {
	if c.Absent && o != nil {
		return false
	}
	if (c.Exists || c.Match != nil || !c.UnmodifiedSince.IsZero()) && o == nil {
		return false
	}
	if c.Match != nil && !hasETag(c.Match, o.ETag) {
		return false
	}
	if c.NoneMatch != nil && o != nil && hasETag(c.NoneMatch, o.ETag) {
		return false
	}
	return c.UnmodifiedSince.IsZero() || o.Created.Unix() <= c.UnmodifiedSince.Unix()
}

func hasETag(list [][16]byte, etag [16]byte) bool {
	for _, e := range list {
		if e == etag {
			return true
		}
	}
	return false
}

// Buckets is the part of a [Catalog] that manages buckets.
type Buckets interface {
	// Bucket looks a bucket up by name. ErrNoBucket.
	Bucket(ctx context.Context, name string) (Bucket, error)
	// BucketByID finds a bucket whether visible or being deleted. ErrNoBucket once its last object is gone.
	BucketByID(ctx context.Context, id BucketID) (Bucket, error)
	// CreateBucket makes a bucket and returns it with its ID and Created. ErrExists together with the bucket that is there.
	CreateBucket(ctx context.Context, b Bucket) (Bucket, error)
	// UpdateBucket replaces Access, Class, CacheControl and Owner of the bucket with b's ID. ErrNoBucket.
	UpdateBucket(ctx context.Context, b Bucket) error
	// RenameBucket gives a bucket another name. ErrNoBucket, ErrExists.
	RenameBucket(ctx context.Context, from, to string) error
	// DeleteBucket removes a bucket from view. If it holds objects, recursive must be set (else ErrNotEmpty), and their
	// deletion is enqueued. The name is free again at once. ErrNoBucket.
	DeleteBucket(ctx context.Context, name string, recursive bool) error
	// ListBuckets returns up to limit buckets with names > after, in byte order.
	ListBuckets(ctx context.Context, after string, limit int) ([]Bucket, error)
}

// Housekeeping is the part of a [Catalog] that workers use.
type Housekeeping interface {
	// ObjectByID finds a visible object by its id. ErrNoObject.
	ObjectByID(ctx context.Context, id ObjectID) (Object, error)
	// AddMissing records that storages have to be given an entity of an object and enqueues its replication.
	AddMissing(ctx context.Context, id ObjectID, storages []StorageID) error
	// ClearMissing records that storages hold the object now.
	ClearMissing(ctx context.Context, id ObjectID, storages []StorageID) error
	// MissingOn lists objects that a storage has to be given, with ids > after, in order of id, up to limit.
	MissingOn(ctx context.Context, storage StorageID, after ObjectID, limit int) ([]ObjectID, error)
	// EnqueueRepair enqueues a check of an object's entities, as after a failed read: storage is the suspect. One job an
	// object and storage is enough; a second one while it waits is folded into it.
	EnqueueRepair(ctx context.Context, id ObjectID, storage StorageID) error
	// DeletedObject finds an object that is no longer visible and whose entities are not all gone. ErrNoObject.
	DeletedObject(ctx context.Context, id ObjectID) (Object, error)
	// BeginDelete is DeletedObject for who is about to delete its entities: it cannot be undeleted any more. ErrInUse before
	// its grace time is over.
	BeginDelete(ctx context.Context, id ObjectID) (Object, error)
	// ForgetDeleted drops the rows of deleted objects whose entities are gone.
	ForgetDeleted(ctx context.Context, ids []ObjectID) error
	// EmptyBucket takes up to n objects of a deleted bucket out, as by Delete, and returns how many there were. At 0
	// the deleted bucket's own row is gone too. ErrInUse when the bucket is visible.
	EmptyBucket(ctx context.Context, id BucketID, n int) (int, error)
	// Unknown returns those of ids that are neither a visible nor a deleted object.
	Unknown(ctx context.Context, ids []ObjectID) ([]ObjectID, error)
	// Leases returns the blocks of ids that were last renewed (or leased) before t, oldest first, up to limit. With a t in the
	// future these are all, also those that are kept since the catalog was restored from a backup: what storages hold with ids
	// of theirs must not be deleted because the catalog does not know it.
	Leases(ctx context.Context, before time.Time, limit int) ([]Lease, error)
	// CloseLease fences a block of ids off: a Commit of an object with an id of it fails with ErrLease from now on, and
	// renewing it does nothing. Closing it again is no error. The block stays in Leases until DropLease.
	CloseLease(ctx context.Context, first ObjectID) error
	// DropLease forgets a closed block of ids, once no entity can appear in it that the catalog does not know.
	DropLease(ctx context.Context, first ObjectID) error
	// Fenced lists the blocks of ids that are kept since the catalog was restored from a backup, or was found to be older than
	// what storages hold (Owner is FencedBehind then), in order: until it has been brought up to what they hold, nothing with an id
	// of theirs is deleted for being unknown.
	Fenced(ctx context.Context) ([]Lease, error)
	// ClaimBackup reports whether a backup of the catalog is due, and if so makes the caller the one to make it: nobody else is
	// told so for the time of lease. every is the time between backups; with 0 only one that was asked for by ScheduleBackup is
	// ever due. The first one of a new catalog is due after a twelfth of it.
	ClaimBackup(ctx context.Context, every, lease time.Duration) (due bool, err error)
	// ScheduleBackup says when the next backup is due, in whole seconds. A time in the past: now; the zero Time: when every
	// of ClaimBackup says so.
	ScheduleBackup(ctx context.Context, at time.Time) error
	// Totals counts what is there, for status pages: exact where that is cheap, else a recent estimate.
	Totals(ctx context.Context) (Totals, error)
}

// Lease is a block of ids that a process has been given.
type Lease struct {
	First ObjectID
	N     int
	Owner string
	Seen  time.Time // leased or last renewed
}

// FencedBehind is the owner of a block of ids that is fenced since storages were found to hold what the catalog does not know.
const FencedBehind = "older than the storages"

// Totals counts what a catalog holds.
type Totals struct {
	Buckets        int64
	Objects        int64 // visible
	Bytes          int64 // of visible objects, one copy
	Missing        int64 // entities owed
	DeletedObjects int64 // waiting for their entities to be deleted
	DeletedBuckets int64
}

// Administration is the part of a [Catalog] that operators change.
type Administration interface {
	// Topology returns the clusters, storages and classes. It may be up to a second old.
	Topology(ctx context.Context) (*Topology, error)
	// TopologyNow is Topology as it is at the moment, for whom an older one did not serve.
	TopologyNow(ctx context.Context) (*Topology, error)
	// PutCluster creates a cluster (ID 0: the next free one) or replaces the one with that ID, and returns its ID.
	PutCluster(ctx context.Context, c Cluster) (ClusterID, error)
	// RemoveCluster removes a cluster that has neither storages nor objects. ErrInUse, ErrNoCluster.
	RemoveCluster(ctx context.Context, id ClusterID) error
	// PutStorage creates a storage (ID 0: the next free one) or replaces the one with that ID, and returns its ID. What is set
	// is Mode, or Set where Down is active, so that what [Administration.Topology] gave can be put back. A storage that is new to a
	// cluster which holds objects, or has held them a moment ago, becomes filling, unless it is put as a spare or dead, or has no
	// sibling that is not dead. ErrNoCluster; ErrInUse when it is to leave a cluster from which it could not be removed;
	// ErrExists when another storage has the URI.
	PutStorage(ctx context.Context, s Storage) (StorageID, error)
	// SetStorageMode changes the mode that is set, and that alone. ErrNoStorage.
	SetStorageMode(ctx context.Context, id StorageID, mode StorageMode) error
	// SetStorageUsage records what a storage last said of itself. ErrNoStorage.
	SetStorageUsage(ctx context.Context, id StorageID, capacity, used int64) error
	// RemoveStorage removes a storage: one that is dead and not the last of its cluster, or whose cluster holds no objects. ErrInUse,
	// ErrNoStorage.
	RemoveStorage(ctx context.Context, id StorageID) error
	// PutClass creates or replaces a class.
	PutClass(ctx context.Context, c Class) error

	// CreateAccount makes an account and returns it with its ID. ErrExists.
	CreateAccount(ctx context.Context, a Account) (Account, error)
	// Accounts lists all accounts, by id.
	Accounts(ctx context.Context) ([]Account, error)
	// RemoveAccount removes an account and its keys. ErrNoAccount; ErrInUse while it owns buckets.
	RemoveAccount(ctx context.Context, id AccountID) error
	// PutKey adds an access key to an account. ErrNoAccount, ErrExists.
	PutKey(ctx context.Context, k AccessKey) error
	// RemoveKey withdraws an access key. ErrNoAccount.
	RemoveKey(ctx context.Context, id string) error
	// Key finds an access key and its account. ErrNoAccount.
	Key(ctx context.Context, id string) (AccessKey, Account, error)
	// Keys lists an account's access keys.
	Keys(ctx context.Context, account AccountID) ([]AccessKey, error)

	// Settings returns what operators have set while it ran, by key.
	Settings(ctx context.Context) (map[string]string, error)
	// SetSetting sets one, or removes it when value is "".
	SetSetting(ctx context.Context, key, value string) error
	// SwapSetting sets one to value if it is old, in one step, and reports whether it was. "" is that of a setting that is not
	// there: as old it must not be set, as value it is removed.
	SwapSetting(ctx context.Context, key, old, value string) (swapped bool, err error)
}
