// Package store is the vocabulary of the object store: what a bucket, an object, an entity, a storage, a cluster and a
// class are, and the two interfaces that the rooms of the house meet at, [Catalog] (what exists, and where it is) and
// [Device] (one storage's bytes).
//
// It imports the standard library alone. The rooms are subdirectories; docs/architecture.md draws them.
package store

import (
	"errors"
	"fmt"
	"time"
)

// Limits of names. All are counted in bytes after URL-decoding.
const (
	MaxBucketName  = 255
	MaxObjectName  = 1024
	MaxObjectSize  = 5 << 40 // 5 TiB
	MaxMetaSize    = 8 << 10 // user metadata: names and values together
	MaxContentType = 255
)

// ObjectID identifies one version of one object. Ids are dense, begin at 1, and are never used again.
type ObjectID uint64

// BucketID identifies a bucket; a bucket created again under an old name has another id.
type BucketID uint64

// StorageID identifies a storage: one disk on one host. Begins at 1.
type StorageID uint32

// ClusterID identifies a cluster: a mirror group of storages. Begins at 1.
type ClusterID uint32

// Errors that a caller is expected to tell apart, by errors.Is. Wrapped errors carry what was looked for.
var (
	ErrNoBucket      = errors.New("store: no such bucket")
	ErrNoObject      = errors.New("store: no such object")
	ErrNoEntity      = errors.New("store: no such entity")          // this storage does not hold it; a sibling may
	ErrCorrupt       = errors.New("store: checksum mismatch")       // this storage's copy is bad; a sibling's may be good
	ErrExists        = errors.New("store: already exists")          // bucket, destination of a move, storage id
	ErrNotEmpty      = errors.New("store: bucket is not empty")     // delete it recursively, or empty it first
	ErrPrecondition  = errors.New("store: precondition failed")     // the object is not what the caller expected
	ErrFull          = errors.New("store: storage is full")         // nothing was written; try another storage
	ErrReadOnly      = errors.New("store: storage is read-only")    // nothing was written; try another storage
	ErrLease         = errors.New("store: object id is not leased") // store the object again, with a fresh id
	ErrNoWritable    = errors.New("store: no cluster takes writes") // try again later
	ErrNoAccount     = errors.New("store: no such account or key")
	ErrNoStorage     = errors.New("store: no such storage")
	ErrNoCluster     = errors.New("store: no such cluster")
	ErrInUse         = errors.New("store: still in use")
	ErrSchemaNewer   = errors.New("store: catalog was written by a newer wheelhouse")
	ErrCatalogDamage = errors.New("store: catalog is damaged")
	ErrNoChanges     = errors.New("store: the catalog takes no changes") // nothing was changed; the rest of the text says why
)

// Access says who may read a bucket's objects without credentials.
type Access uint8

// The kinds of access.
const (
	Private    Access = 0
	PublicRead Access = 1
)

func (a Access) String() string {
	if a == PublicRead {
		return "public-read"
	}
	return "private"
}

// ParseAccess reads what [Access.String] writes.
func ParseAccess(s string) (Access, error) {
	switch s {
	case "private":
		return Private, nil
	case "public-read":
		return PublicRead, nil
	}
	return 0, fmt.Errorf("access %q: want private or public-read", s)
}

// Bucket is a named set of objects.
type Bucket struct {
	ID           BucketID
	Name         string
	Access       Access
	Class        string    // "" is the class "default"
	CacheControl string    // sent with objects that have none of their own; "" sends none
	Owner        AccountID // 0: only administrators may write
	Created      time.Time
}

// Object is the catalog's row: one version of one object. It lives on every storage of its cluster, except on those
// that the catalog lists as missing it.
type Object struct {
	ID           ObjectID
	Bucket       BucketID
	Name         string
	Cluster      ClusterID
	Size         int64    // bytes
	ETag         [16]byte // MD5 of the content
	ContentType  string
	CacheControl string // "" means the bucket's
	Created      time.Time
	Meta         []Field // user metadata, in the order given; names in lower case without prefix
	Replicas     uint8   // copies asked for by the writer; 0: as many as the cluster has storages
	// Missing are the storages of the cluster that do not hold the object yet. Normally nil.
	Missing []StorageID
}

// Field is one user metadata header.
type Field struct{ Name, Value string }

// StorageMode says what may be done with a storage.
type StorageMode uint8

// The modes of a storage. docs/glossary.md has the words STF and MogileFS use for them.
const (
	ModeRW      StorageMode = iota // read and written
	ModeRO                         // read only
	ModeDown                       // temporarily away: nothing is sent there, entities count as alive
	ModeDead                       // crashed: entities count as lost
	ModeSpare                      // written, not read
	ModeDrain                      // leaving: read, not written
	ModeFilling                    // being rebuilt: written, not read
)

var modeNames = [...]string{"rw", "ro", "down", "dead", "spare", "drain", "filling"}

func (m StorageMode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("StorageMode(%d)", uint8(m))
}

// ParseStorageMode reads what [StorageMode.String] writes.
func ParseStorageMode(s string) (StorageMode, error) {
	for i, n := range modeNames {
		if n == s {
			return StorageMode(i), nil
		}
	}
	return 0, fmt.Errorf("storage mode %q: want one of %q", s, modeNames)
}

// Readable reports whether clients are served from a storage in this mode.
func (m StorageMode) Readable() bool { return m == ModeRW || m == ModeRO || m == ModeDrain }

// Writable reports whether new entities are sent to a storage in this mode.
func (m StorageMode) Writable() bool { return m == ModeRW || m == ModeSpare || m == ModeFilling }

// ClusterMode says what may be done with a cluster.
type ClusterMode uint8

// The modes of a cluster.
const (
	ClusterRW     ClusterMode = iota // takes new objects
	ClusterRO                        // read only
	ClusterRetire                    // read only; its objects are to move elsewhere
)

var clusterModeNames = [...]string{"rw", "ro", "retire"}

func (m ClusterMode) String() string {
	if int(m) < len(clusterModeNames) {
		return clusterModeNames[m]
	}
	return fmt.Sprintf("ClusterMode(%d)", uint8(m))
}

// ParseClusterMode reads what [ClusterMode.String] writes.
func ParseClusterMode(s string) (ClusterMode, error) {
	for i, n := range clusterModeNames {
		if n == s {
			return ClusterMode(i), nil
		}
	}
	return 0, fmt.Errorf("cluster mode %q: want one of %q", s, clusterModeNames)
}

// Storage is one disk on one host.
type Storage struct {
	ID      StorageID
	Cluster ClusterID
	URI     string // base of its entities over HTTP, without a trailing slash: http://10.0.0.7:7500/dev3
	// Mode is what is in force: Set, but down while the storage is reported failing (see [Health]).
	Mode StorageMode
	// Set is the mode that operators have set, or dead where the system has declared it so.
	Set      StorageMode
	Down     Outage // what is reported, whatever is set
	BySystem bool   // Set is dead because the storage was down for too long
	Capacity int64  // bytes, as last reported; 0 unknown
	Used     int64  // bytes, as last reported
	Created  time.Time
}

// Cluster is a mirror group: all its storages hold the same objects.
type Cluster struct {
	ID   ClusterID
	Name string
	Mode ClusterMode
}

// Class says which clusters may take a bucket's objects and when a write is acknowledged.
type Class struct {
	Name       string
	Clusters   []ClusterID // empty: all
	MinDurable int         // entities that must be durable before a write is acknowledged; 0: 2
}

// DefaultMinDurable is how many entities must be durable before a write is acknowledged, where the class says nothing.
const DefaultMinDurable = 2

// DefaultClass is the class of buckets that name none.
const DefaultClass = "default"

// Topology is what the installation consists of, at one moment. It is never changed once made.
type Topology struct {
	Version  uint64 // grows with each change
	Clusters []Cluster
	Storages []Storage
	Classes  []Class
}

// AccountID identifies an account. Begins at 1.
type AccountID uint64

// Role says what an account may do.
type Role uint8

// The roles, each of which may do what those before it may.
const (
	RoleRead  Role = 1 // read the objects of its own buckets
	RoleWrite Role = 2 // write them too, and create buckets
	RoleAdmin Role = 3 // everything, to all buckets
)

var roleNames = [...]string{"", "read", "write", "admin"}

func (r Role) String() string {
	if r >= RoleRead && int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// ParseRole reads what [Role.String] writes.
func ParseRole(s string) (Role, error) {
	for i, n := range roleNames {
		if i > 0 && n == s {
			return Role(i), nil
		}
	}
	return 0, fmt.Errorf("role %q: want read, write or admin", s)
}

// Account owns buckets.
type Account struct {
	ID      AccountID
	Name    string
	Role    Role
	Created time.Time
}

// AccessKey lets its bearer act as an account. The catalog keeps the secret itself, because signed URLs are checked with it.
type AccessKey struct {
	ID      string // public part, 20 characters
	Secret  string // 40 characters
	Account AccountID
	Created time.Time
}
