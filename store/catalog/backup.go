package catalog

import (
	"context"
	"time"

	"wheelhouse/internal/sqldb"
)

// Backup writes a copy of the catalog as it is now to a new file, while everybody goes on. What else is in the same file, the
// jobs, is in the copy too.
func (c *SQLite) Backup(ctx context.Context, path string) error {
	return translate(c.db.Backup(ctx, path))
}

// When the next backup is due, in seconds since 1970, is the counter backup_due; it is not there in a new catalog.

// firstBackup divides the time between backups into that before the first one.
const firstBackup = 12

// ClaimBackup is as in [store.Catalog].
func (c *SQLite) ClaimBackup(ctx context.Context, every, lease time.Duration) (due bool, err error) {
	var at int64
	var scheduled bool
	err = c.read(ctx, func(conn *sqldb.Conn) (err error) {
		at, scheduled, err = backupDue(conn)
		return err
	})
	now := c.now()
	// This is asked every few seconds: it must not cost a write each time.
	if err != nil || scheduled && at > now && (every <= 0 || at <= now+seconds(every)) || !scheduled && every <= 0 {
		return false, err
	}
	err = c.write(ctx, func(t *txn) error {
		at, scheduled, err := backupDue(t)
		if err != nil {
			return err
		}
		due = false
		switch {
		case !scheduled:
			return t.setBackupDue(now + seconds(every/firstBackup))
		case at <= now:
			due = true
			return t.setBackupDue(now + seconds(lease))
		case every > 0 && at > now+max(seconds(every), seconds(lease)): // backups were made less often when it was set
			return t.setBackupDue(now + seconds(every))
		}
		return nil
	})
	return due && err == nil, err
}

// seconds rounds up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

func backupDue(s selector) (at int64, scheduled bool, err error) {
	st, err := s.Select("SELECT value FROM counter WHERE name='backup_due'")
	if err != nil {
		return 0, false, err
	}
	if scheduled, err = st.Step(); scheduled {
		at = st.ColumnInt64(0)
	}
	return at, scheduled, err
}

func (t *txn) setBackupDue(at int64) error {
	_, err := t.Exec("INSERT INTO counter(name,value) VALUES('backup_due',?1) ON CONFLICT(name) DO UPDATE SET value=?1",
		func(st *sqldb.Stmt) { st.BindInt64(1, at) })
	return err
}

// ScheduleBackup is as in [store.Catalog].
func (c *SQLite) ScheduleBackup(ctx context.Context, at time.Time) error {
	return c.write(ctx, func(t *txn) error {
		if at.IsZero() {
			_, err := t.Exec("DELETE FROM counter WHERE name='backup_due'", func(*sqldb.Stmt) {})
			return err
		}
		return t.setBackupDue(at.Unix())
	})
}
