package sqldb

import (
	"errors"
	"fmt"
	"os"

	"zombiezen.com/go/sqlite"
)

// Errors that callers and operators are expected to tell apart, by errors.Is. What is returned is an [*Error], whose
// text names the file and the way out.
var (
	ErrBusy     = errors.New("sqldb: database is locked")            // nothing was changed; try again later
	ErrDamaged  = errors.New("sqldb: database is damaged")           // restore it from a backup
	ErrForeign  = errors.New("sqldb: database is of another kind")   // wrong path
	ErrNewer    = errors.New("sqldb: database has a newer schema")   // use the newer program
	ErrDiskFull = errors.New("sqldb: no space left for database")    // nothing was changed; make room
	ErrReadOnly = errors.New("sqldb: database cannot be written to") // check owner, mode, mount
	ErrMoved    = errors.New("sqldb: database's file is gone")       // removed, moved or replaced while it is open; nothing was changed
	ErrIO       = errors.New("sqldb: input/output error")            // check the disk
	ErrClosed   = errors.New("sqldb: database is closed")            // programmer's error, or shutting down
)

// Error is a failure of the database as a whole, as opposed to that of a statement.
type Error struct {
	Kind   error  // one of the sentinels
	Path   string // the file
	Advice string // what to do
	Err    error  // SQLite's own, or the system's; may be nil
}

func (e *Error) Error() string {
	s := e.Kind.Error() + ": " + e.Path
	if e.Advice != "" {
		s += " (" + e.Advice + ")"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

var kinds = []struct {
	code   sqlite.ResultCode
	kind   error
	advice string
}{
	{sqlite.ResultBusy, ErrBusy, "another process keeps a transaction open: a second server on the same data, or a sqlite3 shell; `fuser FILE` shows who, end or wait for it"},
	{sqlite.ResultLocked, ErrBusy, "another connection keeps a transaction open"},
	{sqlite.ResultProtocol, ErrBusy, "another process keeps the write-ahead log locked; `fuser FILE` shows who"},
	{sqlite.ResultCorrupt, ErrDamaged, damageAdvice},
	{sqlite.ResultNotADB, ErrDamaged, damageAdvice},
	{sqlite.ResultFull, ErrDiskFull, "make room on its file system; nothing was changed"},
	{sqlite.ResultReadOnly, ErrReadOnly, "check owner and mode of the file and its directory, and that the file system is not mounted read-only"},
	{sqlite.ResultPerm, ErrReadOnly, "check owner and mode of the file and its directory"},
	{sqlite.ResultCantOpen, ErrReadOnly, "check that its directory exists and may be written to"},
	{sqlite.ResultIOErr, ErrIO, "check the disk and the kernel's log"},
}

const movedAdvice = "it was removed, moved away or replaced while this process has it open; put it back, or stop all processes that use it; nothing was changed"

const damageAdvice = "keep a copy of it with its -wal file, then restore it from a backup or rebuild it"

// translate puts SQLite's error codes into this package's terms. An error that is no failure of the whole database is
// returned as it is.
func (db *DB) translate(err error) error { return translate(db.path, err) }

func translate(path string, err error) error {
	var own *Error
	if err == nil || errors.As(err, &own) {
		return err
	}
	code := sqlite.ErrCode(err).ToPrimary()
	for _, k := range kinds {
		if k.code == code {
			return &Error{Kind: k.kind, Path: path, Advice: k.advice, Err: err}
		}
	}
	return err
}

// fileError puts the system's errors into this package's terms.
func fileError(path string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return &Error{Kind: ErrReadOnly, Path: path, Advice: "check owner and mode of the file and its directory", Err: err}
	}
	return fmt.Errorf("sqldb: %w", err)
}

// IsConstraint reports whether err is a violated constraint of the schema, such as a UNIQUE column.
func IsConstraint(err error) bool {
	return err != nil && sqlite.ErrCode(err).ToPrimary() == sqlite.ResultConstraint
}
