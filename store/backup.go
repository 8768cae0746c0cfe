package store

import (
	"strings"
	"time"
)

// CatalogBucket holds backups of the catalog. It is a private bucket that belongs to nobody, that administrators read and that
// the store alone writes. Since each entity says which bucket and name it has, backups are found on the storages alone when
// there is no catalog any more.
const CatalogBucket = ".catalog"

// BackupType is the content type of a backup: a SQLite file, compressed by gzip.
const BackupType = "application/vnd.wheelhouse.catalog+gzip"

const (
	backupLayout = "20060102T150405Z"
	backupExt    = ".sqlite.gz"
)

// BackupName is the name of a backup that shows the catalog as it was at a time. Names are in order of time, which they hold in
// seconds.
func BackupName(at time.Time) string { return at.UTC().Format(backupLayout) + backupExt }

// ParseBackupName reads what [BackupName] writes, and nothing else.
func ParseBackupName(name string) (at time.Time, ok bool) {
	text, ok := strings.CutSuffix(name, backupExt)
	if !ok {
		return time.Time{}, false
	}
	at, err := time.Parse(backupLayout, text)
	return at, err == nil && BackupName(at) == name
}

// BackupStatus is a backup as the operator's API shows it.
type BackupStatus struct {
	Name    string    `json:"name"`
	Object  ObjectID  `json:"object"`
	Size    int64     `json:"size"` // bytes, compressed
	ETag    string    `json:"etag"`
	Created time.Time `json:"created"` // the moment that it shows
}
