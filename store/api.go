package store

import "time"

// The types in which the operator's API (store/control) speaks JSON.

// APIError is an answer that is not what was asked for.
type APIError struct {
	Status int    `json:"status"`
	Reason string `json:"error"`
}

func (e *APIError) Error() string { return e.Reason }

// StorageStatus is a storage as the API shows it.
type StorageStatus struct {
	ID       StorageID `json:"id"`
	Cluster  ClusterID `json:"cluster"`
	URI      string    `json:"uri"`
	Mode     string    `json:"mode"`     // in force; in requests, what to set
	Capacity int64     `json:"capacity"` // bytes; 0 not known yet
	Used     int64     `json:"used"`

	Set       string    `json:"set,omitempty"` // by operators, or dead by the system
	BySystem  bool      `json:"by_system,omitempty"`
	DownSince time.Time `json:"down_since,omitzero"`
	Reason    string    `json:"reason,omitempty"` // why it is down
	Owed      int64     `json:"owed,omitempty"`   // entities; in the status alone
	// Uncounted is how many seconds of its being down do not count towards its being declared dead (see [Outage]).
	Uncounted int64 `json:"uncounted_seconds,omitempty"`
}

// ClusterStatus is a cluster as the API shows it.
type ClusterStatus struct {
	ID       ClusterID   `json:"id"`
	Name     string      `json:"name"`
	Mode     string      `json:"mode"` // as operators have set it
	Storages []StorageID `json:"storages,omitempty"`
	InForce  string      `json:"in_force,omitempty"` // ro where it has lost a storage and others take the writes, or cannot take any
	Degraded bool        `json:"degraded,omitempty"` // takes writes although it has lost a storage
}

// ClassStatus is a class as the API shows it.
type ClassStatus struct {
	Name       string      `json:"name"`
	Clusters   []ClusterID `json:"clusters,omitempty"`
	MinDurable int         `json:"min_durable"`
}

// AccountStatus is an account as the API shows it.
type AccountStatus struct {
	ID      AccountID `json:"id"`
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Created time.Time `json:"created,omitzero"`
}

// KeyStatus is an access key as the API shows it; Secret only in the answer to its creation.
type KeyStatus struct {
	ID      string    `json:"id"`
	Secret  string    `json:"secret,omitempty"`
	Created time.Time `json:"created,omitzero"`
}

// ObjectStatus is an object and the state of each of its entities.
type ObjectStatus struct {
	ID          ObjectID       `json:"id"`
	Bucket      string         `json:"bucket"`
	Name        string         `json:"name"`
	Cluster     ClusterID      `json:"cluster"`
	Size        int64          `json:"size"`
	ETag        string         `json:"etag"`
	ContentType string         `json:"content_type"`
	Created     time.Time      `json:"created"`
	Entities    []EntityStatus `json:"entities"`
}

// EntityStatus is one entity, as its storage describes it at the moment.
type EntityStatus struct {
	Storage StorageID `json:"storage"`
	Mode    string    `json:"mode"`  // of the storage
	State   string    `json:"state"` // present, absent, wrong size, unreachable
	Owed    bool      `json:"owed"`  // the catalog knows that it is missing
	URI     string    `json:"uri"`
	Error   string    `json:"error,omitempty"`
}

// QueueStats counts the jobs of one kind.
type QueueStats struct {
	Ready   int64 `json:"ready"`
	Running int64 `json:"running"`
	Delayed int64 `json:"delayed"`
	Failed  int64 `json:"failed"`
}

// Status is the whole installation.
type Status struct {
	Verdict  string                `json:"verdict"` // one of the Verdict… constants
	Time     time.Time             `json:"time"`
	Problems []Problem             `json:"problems"` // worst first
	Totals   Totals                `json:"totals"`
	Clusters []ClusterStatus       `json:"clusters"`
	Storages []StorageStatus       `json:"storages"`
	Queue    map[string]QueueStats `json:"queue"`
	// Operations are those that are not at their end, most urgent first, and the newest others, 20 in all.
	Operations []OperationStatus `json:"operations"`
	// Processes are those that serve or work with the catalog now. Those that serve storages alone are not among them.
	Processes []Process `json:"processes"`
	// Lookups are the cache servers that the process which answers asks before the catalog; nil: none.
	Lookups *LookupStatus `json:"lookups,omitempty"`
}

// LookupStatus is how one process uses cache servers for look-ups. The numbers are of look-ups since it was started; all but hits went to the catalog.
type LookupStatus struct {
	Servers  []LookupServer `json:"servers"`
	Hits     int64          `json:"hits"`
	Misses   int64          `json:"misses"`
	Avoided  int64          `json:"avoided"`  // not sent, because the server has not answered of late
	Failures int64          `json:"failures"` // not answered
}

// LookupServer is a cache server. State is "in" (it is read from), "joining", "out", "other list" (another process was started with other servers), or
// "unknown" (the catalog did not say).
type LookupServer struct {
	Addr  string `json:"addr"`
	State string `json:"state"`
}

// The verdicts on an installation.
const (
	VerdictHealthy  = "healthy"
	VerdictDegraded = "degraded" // everything is served, and something has a copy less than it should
	VerdictCritical = "critical" // something is not served, or cannot be written
)

// Problem is something that keeps an installation from being healthy.
type Problem struct {
	Severity string    `json:"severity"` // the verdict that it alone would give
	Storage  StorageID `json:"storage,omitempty"`
	Cluster  ClusterID `json:"cluster,omitempty"`
	What     string    `json:"what"`
	Do       string    `json:"do,omitempty"` // what an operator can do about it
}
