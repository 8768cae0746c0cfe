package catalog

import (
	"context"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// schemaProcess adds the processes that run. seen and started are Unix seconds, p99 nanoseconds.
const schemaProcess = `
CREATE TABLE process(
	name TEXT PRIMARY KEY, role TEXT NOT NULL, version TEXT NOT NULL, schema INTEGER NOT NULL, started INTEGER NOT NULL,
	seen INTEGER NOT NULL, p99 INTEGER NOT NULL, reads INTEGER NOT NULL) WITHOUT ROWID;
`

// SchemaVersion is the version of the tables that this program makes and reads: it grows with each change of them.
func SchemaVersion() int { return len(schema.Steps) }

// ReportProcess is as in [store.Processes].
func (c *SQLite) ReportProcess(ctx context.Context, p store.Process) error {
	return c.write(ctx, func(t *txn) error {
		now := c.now()
		if _, err := t.Exec("DELETE FROM process WHERE seen<?", func(st *sqldb.Stmt) {
			st.BindInt64(1, now-int64(store.ProcessWindow/time.Second))
		}); err != nil {
			return err
		}
		_, err := t.Exec("INSERT OR REPLACE INTO process(name,role,version,schema,started,seen,p99,reads) VALUES(?,?,?,?,?,?,?,?)", func(st *sqldb.Stmt) {
			st.BindText(1, p.Name)
			st.BindText(2, p.Role)
			st.BindText(3, p.Version)
			st.BindInt64(4, int64(p.Schema))
			st.BindInt64(5, p.Started.Unix())
			st.BindInt64(6, now)
			st.BindInt64(7, int64(p.P99))
			st.BindInt64(8, p.Reads)
		})
		return err
	})
}

// EndProcess is as in [store.Processes].
func (c *SQLite) EndProcess(ctx context.Context, name string) error {
	return c.write(ctx, func(t *txn) error {
		_, err := t.Exec("DELETE FROM process WHERE name=?", func(st *sqldb.Stmt) { st.BindText(1, name) })
		return err
	})
}

// Processes is as in [store.Processes].
func (c *SQLite) Processes(ctx context.Context) (list []store.Process, err error) {
	err = c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select("SELECT name,role,version,schema,started,seen,p99,reads FROM process WHERE seen>=? ORDER BY role,name")
		if err != nil {
			return err
		}
		st.BindInt64(1, c.now()-int64(store.ProcessWindow/time.Second))
		return each(st, func() {
			list = append(list, store.Process{
				Name: st.ColumnText(0), Role: st.ColumnText(1), Version: st.ColumnText(2), Schema: int(st.ColumnInt64(3)),
				Started: unixTime(st.ColumnInt64(4)), Seen: unixTime(st.ColumnInt64(5)),
				Foreground: store.Foreground{P99: time.Duration(st.ColumnInt64(6)), Reads: st.ColumnInt64(7)},
			})
		})
	})
	return list, err
}
