package sqlqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// tableDef is a table as it is made where it is missing.
type tableDef struct{ name, body string }

// mysqlTables are TheSchwartz's tables and ours. Keys are bytes, so that they differ when they differ. The argument is
// LONGBLOB as MEDIUMBLOB is a byte too short for the longest that may be.
var mysqlTables = []tableDef{
	{"funcmap", "funcid INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, funcname VARBINARY(255) NOT NULL, UNIQUE(funcname)"},
	{"job", `jobid BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, funcid INT UNSIGNED NOT NULL, arg LONGBLOB,
		uniqkey VARBINARY(255), insert_time INT UNSIGNED, run_after INT UNSIGNED NOT NULL, grabbed_until INT UNSIGNED NOT NULL,
		priority INT, coalesce VARBINARY(255), UNIQUE(funcid, uniqkey), INDEX(funcid, coalesce)`},
	{"note", "jobid BIGINT UNSIGNED NOT NULL, notekey VARCHAR(255), value MEDIUMBLOB, PRIMARY KEY(jobid, notekey)"},
	{"error", `error_time INT UNSIGNED NOT NULL, jobid BIGINT UNSIGNED NOT NULL, message VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL,
		funcid INT UNSIGNED NOT NULL DEFAULT 0, INDEX(funcid, error_time), INDEX(error_time), INDEX(jobid)`},
	{"exitstatus", `jobid BIGINT UNSIGNED NOT NULL PRIMARY KEY, funcid INT UNSIGNED NOT NULL DEFAULT 0, status SMALLINT UNSIGNED,
		completion_time INT UNSIGNED, delete_after INT UNSIGNED, INDEX(funcid), INDEX(delete_after)`},
	{"job_record", `jobid BIGINT UNSIGNED NOT NULL PRIMARY KEY, funcid INT UNSIGNED NOT NULL, state VARCHAR(10) NOT NULL, status INT NOT NULL,
		arg LONGBLOB, uniqkey VARBINARY(255), insert_time BIGINT, run_after BIGINT NOT NULL, priority INT, coalesce VARBINARY(255),
		limit_key VARBINARY(255), owner VARBINARY(255), started BIGINT, finished BIGINT NOT NULL, delete_after BIGINT NOT NULL,
		failures INT NOT NULL, progress_done BIGINT, progress_total BIGINT, progress_note VARBINARY(255),
		INDEX(funcid, state), INDEX(delete_after)`},
	{"job_control", `funcid INT UNSIGNED NOT NULL PRIMARY KEY, paused INT NOT NULL, max_running BIGINT NOT NULL, max_running_key BIGINT NOT NULL,
		rate_n BIGINT NOT NULL, rate_per BIGINT NOT NULL, key_rate_n BIGINT NOT NULL, key_rate_per BIGINT NOT NULL,
		keep_done BIGINT NOT NULL, keep_dead BIGINT NOT NULL`},
	{"job_slot", "jobid BIGINT UNSIGNED NOT NULL PRIMARY KEY, funcid INT UNSIGNED NOT NULL, limit_key VARBINARY(255) NOT NULL, INDEX(funcid)"},
	{"job_bucket", `funcid INT UNSIGNED NOT NULL, kind INT NOT NULL, limit_key VARBINARY(255) NOT NULL, tokens BIGINT NOT NULL,
		filled BIGINT NOT NULL, full_at BIGINT NOT NULL, PRIMARY KEY(funcid, kind, limit_key), INDEX(full_at)`},
	{"job_periodic", `name VARBINARY(255) NOT NULL PRIMARY KEY, spec VARBINARY(1000) NOT NULL, zone VARBINARY(255) NOT NULL,
		funcname VARBINARY(255) NOT NULL, arg LONGBLOB, priority INT NOT NULL, limit_key VARBINARY(255) NOT NULL,
		next_time BIGINT NOT NULL, last_time BIGINT NOT NULL`},
}

// mysqlChanges lead from TheSchwartz's tables to ours; those of a table are done in one statement. One is done where the
// column is missing, or is of another type than wanted.
var mysqlChanges = []struct{ table, column, types, clause string }{
	{"job", "priority", "int(11) int", "MODIFY priority INT"}, // was UNSIGNED, and priorities are negative too
	{"job", "arg", "longblob", "MODIFY arg LONGBLOB"},
	{"job", "limit_key", "", "ADD COLUMN limit_key VARBINARY(255)"},
	{"job", "owner", "", "ADD COLUMN owner VARBINARY(255)"},
	{"job", "started", "", "ADD COLUMN started BIGINT"},
	{"job", "progress_done", "", "ADD COLUMN progress_done BIGINT"},
	{"job", "progress_total", "", "ADD COLUMN progress_total BIGINT"},
	{"job", "progress_note", "", "ADD COLUMN progress_note VARBINARY(255)"},
	// Not VIRTUAL, for the sake of servers whose indexes on such columns have been damaged.
	{"job", "prio", "", "ADD COLUMN prio INT AS (COALESCE(priority,0)) STORED, ADD INDEX {prefix}job_ready(funcid, prio, run_after)"},
	{"error", "message", "varchar(255) utf8mb4", "MODIFY message VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL"},
	{"error", "errorid", "", "ADD COLUMN errorid BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY"},
}

// schemaTimeout is how long making tables may take: those of others, with many rows, are copied.
const schemaTimeout = time.Hour

// migrate makes what is missing of the tables. Rows that are there stay.
func (s *mysqlServer) migrate(ctx context.Context, prefix string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, schemaTimeout)
	defer cancel()
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return s.fail(err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	t := sqlTx{s.d, conn}
	m := mysqlSchema{t: t, prefix: prefix, columns: make(map[string]string)}
	if err := m.look(ctx); err != nil || m.complete() {
		return s.fail(err)
	}
	// One process at a time; the others find it done.
	const lock = "wheelhouse-jobs"
	if ok, _, err := queryInt(ctx, t, "SELECT GET_LOCK('"+lock+"', 600)"); err != nil || ok != 1 {
		return s.fail(errors.Join(errors.New("another process is making the tables"), err))
	}
	if err = m.look(ctx); err == nil {
		err = m.make(ctx)
	}
	_, _, uerr := queryInt(context.WithoutCancel(ctx), t, "SELECT RELEASE_LOCK('"+lock+"')")
	return s.fail(errors.Join(err, uerr))
}

// mysqlSchema is what there is of the tables.
type mysqlSchema struct {
	t       tx
	prefix  string
	columns map[string]string // types with character sets, by "table.column"; tables are there as "table"
}

func (m *mysqlSchema) look(ctx context.Context) error {
	clear(m.columns)
	var foreign error
	err := m.t.query(ctx, func(r row) error {
		var name, engine string
		if err := r.Scan(&name, &engine); err != nil {
			return err
		}
		name, ok := strings.CutPrefix(name, m.prefix)
		if !ok || !m.ours(name) {
			return nil
		}
		m.columns[name] = engine
		if !strings.EqualFold(engine, "InnoDB") {
			foreign = fmt.Errorf("table %s%s has no transactions (engine %s): ALTER TABLE %[1]s%[2]s ENGINE=InnoDB", m.prefix, name, engine)
		}
		return nil
	}, "SELECT TABLE_NAME, COALESCE(ENGINE,'') FROM information_schema.TABLES WHERE TABLE_SCHEMA=DATABASE()")
	if err != nil || foreign != nil {
		return errors.Join(err, foreign)
	}
	return m.t.query(ctx, func(r row) error {
		var table, column, kind, set string
		err := r.Scan(&table, &column, &kind, &set)
		if name, ok := strings.CutPrefix(table, m.prefix); ok {
			m.columns[name+"."+strings.ToLower(column)] = strings.TrimSpace(kind + " " + set)
		}
		return err
	}, "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, COALESCE(CHARACTER_SET_NAME,'') FROM information_schema.COLUMNS WHERE TABLE_SCHEMA=DATABASE()")
}

func (m *mysqlSchema) ours(name string) bool {
	for _, t := range mysqlTables {
		if t.name == name {
			return true
		}
	}
	return false
}

// wants reports whether a change is to be made.
func (m *mysqlSchema) wants(i int) bool {
	c := mysqlChanges[i]
	have, ok := m.columns[c.table+"."+c.column]
	if !ok || c.types == "" {
		return !ok
	}
	if strings.Contains(c.types, ") ") && strings.Contains(c.types, "utf8") {
		return have != c.types
	}
	for _, t := range strings.Fields(c.types) {
		if t == have {
			return false
		}
	}
	return true
}

func (m *mysqlSchema) complete() bool {
	for _, t := range mysqlTables {
		if m.columns[t.name] == "" {
			return false
		}
	}
	for i := range mysqlChanges {
		if m.wants(i) {
			return false
		}
	}
	return true
}

func (m *mysqlSchema) make(ctx context.Context) error {
	for _, d := range mysqlTables {
		if m.columns[d.name] != "" {
			continue
		}
		if _, err := m.t.exec(ctx, "CREATE TABLE {"+d.name+"} ("+d.body+") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"); err != nil {
			return err
		}
	}
	if err := m.look(ctx); err != nil {
		return err
	}
	// Types first: a column that is computed from one comes after it is right.
	for _, word := range []string{"MODIFY", "ADD"} {
		for _, table := range []string{"job", "error"} {
			if err := m.change(ctx, table, word); err != nil {
				return err
			}
		}
	}
	return nil
}

// change makes the changes of one table that begin with a word.
func (m *mysqlSchema) change(ctx context.Context, table, word string) error {
	var clauses []string
	for i, c := range mysqlChanges {
		if c.table == table && strings.HasPrefix(c.clause, word) && m.wants(i) {
			clauses = append(clauses, c.clause)
		}
	}
	if len(clauses) == 0 {
		return nil
	}
	_, err := m.t.exec(ctx, "ALTER TABLE {"+table+"} "+strings.Join(clauses, ", "))
	return err
}
