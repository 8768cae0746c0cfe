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
	Mode     string    `json:"mode"`
	Capacity int64     `json:"capacity"` // bytes; 0 not known yet
	Used     int64     `json:"used"`
}

// ClusterStatus is a cluster as the API shows it.
type ClusterStatus struct {
	ID       ClusterID   `json:"id"`
	Name     string      `json:"name"`
	Mode     string      `json:"mode"`
	Storages []StorageID `json:"storages,omitempty"`
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
	Totals   Totals                `json:"totals"`
	Clusters []ClusterStatus       `json:"clusters"`
	Storages []StorageStatus       `json:"storages"`
	Queue    map[string]QueueStats `json:"queue"`
	// Operations are those that are not at their end, most urgent first, and the newest others, 20 in all.
	Operations []OperationStatus `json:"operations"`
}
