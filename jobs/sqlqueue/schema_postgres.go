package sqlqueue

import (
	"context"
	"strings"
)

// pgTables are TheSchwartz's tables and ours. Room is left in the pages of job, so that a lease changes a row in place.
var pgTables = []tableDef{
	{"funcmap", "funcid SERIAL PRIMARY KEY, funcname VARCHAR(255) NOT NULL UNIQUE"},
	{"job", `jobid BIGSERIAL PRIMARY KEY, funcid INT NOT NULL, arg BYTEA, uniqkey VARCHAR(255), insert_time BIGINT,
		run_after BIGINT NOT NULL, grabbed_until BIGINT NOT NULL, priority SMALLINT, coalesce VARCHAR(255)`},
	{"note", "jobid BIGINT NOT NULL, notekey VARCHAR(255), value BYTEA, PRIMARY KEY(jobid, notekey)"},
	{"error", "error_time BIGINT NOT NULL, jobid BIGINT NOT NULL, message VARCHAR(255) NOT NULL, funcid INT NOT NULL DEFAULT 0"},
	{"exitstatus", "jobid BIGINT PRIMARY KEY, funcid INT NOT NULL DEFAULT 0, status INTEGER, completion_time BIGINT, delete_after BIGINT"},
	{"job_record", `jobid BIGINT PRIMARY KEY, funcid INT NOT NULL, state VARCHAR(10) NOT NULL, status INT NOT NULL, arg BYTEA,
		uniqkey VARCHAR(255), insert_time BIGINT, run_after BIGINT NOT NULL, priority INT, coalesce VARCHAR(255), limit_key VARCHAR(255),
		owner VARCHAR(255), started BIGINT, finished BIGINT NOT NULL, delete_after BIGINT NOT NULL, failures INT NOT NULL,
		progress_done BIGINT, progress_total BIGINT, progress_note VARCHAR(255)`},
	{"job_control", `funcid INT PRIMARY KEY, paused INT NOT NULL, max_running BIGINT NOT NULL, max_running_key BIGINT NOT NULL,
		rate_n BIGINT NOT NULL, rate_per BIGINT NOT NULL, key_rate_n BIGINT NOT NULL, key_rate_per BIGINT NOT NULL,
		keep_done BIGINT NOT NULL, keep_dead BIGINT NOT NULL`},
	{"job_slot", "jobid BIGINT PRIMARY KEY, funcid INT NOT NULL, limit_key VARCHAR(255) NOT NULL"},
	{"job_bucket", `funcid INT NOT NULL, kind INT NOT NULL, limit_key VARCHAR(255) NOT NULL, tokens BIGINT NOT NULL, filled BIGINT NOT NULL,
		full_at BIGINT NOT NULL, PRIMARY KEY(funcid, kind, limit_key)`},
	{"job_periodic", `name VARCHAR(255) PRIMARY KEY, spec VARCHAR(1000) NOT NULL, zone VARCHAR(255) NOT NULL, funcname VARCHAR(255) NOT NULL,
		arg BYTEA, priority INT NOT NULL, limit_key VARCHAR(255) NOT NULL, next_time BIGINT NOT NULL, last_time BIGINT NOT NULL`},
}

// pgChanges lead from TheSchwartz's tables to ours. One is done where the column is missing, or is of the type that was.
var pgChanges = []struct{ table, column, was, clause string }{
	{"job", "insert_time", "int4", "ALTER COLUMN insert_time TYPE BIGINT"}, // until 2038
	{"job", "run_after", "int4", "ALTER COLUMN run_after TYPE BIGINT"},
	{"job", "grabbed_until", "int4", "ALTER COLUMN grabbed_until TYPE BIGINT"},
	{"job", "limit_key", "", "ADD COLUMN limit_key VARCHAR(255)"},
	{"job", "owner", "", "ADD COLUMN owner VARCHAR(255)"},
	{"job", "started", "", "ADD COLUMN started BIGINT"},
	{"job", "progress_done", "", "ADD COLUMN progress_done BIGINT"},
	{"job", "progress_total", "", "ADD COLUMN progress_total BIGINT"},
	{"job", "progress_note", "", "ADD COLUMN progress_note VARCHAR(255)"},
	{"error", "error_time", "int4", "ALTER COLUMN error_time TYPE BIGINT"},
	{"error", "errorid", "", "ADD COLUMN errorid BIGSERIAL PRIMARY KEY"},
	{"exitstatus", "status", "int2", "ALTER COLUMN status TYPE INTEGER"}, // until 32767
	{"exitstatus", "completion_time", "int4", "ALTER COLUMN completion_time TYPE BIGINT"},
	{"exitstatus", "delete_after", "int4", "ALTER COLUMN delete_after TYPE BIGINT"},
}

// pgIndexes are made where there is none of that name. The names are those of TheSchwartz's own schema, as far as it has
// them.
var pgIndexes = []struct{ name, on string }{
	{"job_funcid_uniqkey", "UNIQUE job(funcid, uniqkey)"},
	{"job_funcid_coalesce", "job(funcid, coalesce)"},
	{"job_ready", "job(funcid, (COALESCE(priority,0)), run_after, jobid)"},
	{"error_funcid_errortime", "error(funcid, error_time)"},
	{"error_time", "error(error_time)"},
	{"error_jobid", "error(jobid)"},
	{"exitstatus_funcid", "exitstatus(funcid)"},
	{"exitstatus_deleteafter", "exitstatus(delete_after)"},
	{"job_record_func", "job_record(funcid, state)"},
	{"job_record_delete", "job_record(delete_after)"},
	{"job_slot_func", "job_slot(funcid)"},
	{"job_bucket_full", "job_bucket(full_at)"},
}

// migrate makes what is missing of the tables, in one transaction. Rows that are there stay.
func (s *pgServer) migrate(ctx context.Context, prefix string) error {
	ctx, cancel := context.WithTimeout(ctx, schemaTimeout)
	defer cancel()
	done := false
	err := s.read(ctx, func(ctx context.Context, t tx) (err error) {
		done, err = s.pgSchema(ctx, t, prefix, false)
		return err
	})
	if err != nil || done {
		return err
	}
	return s.write(ctx, func(ctx context.Context, t tx) error {
		// One process at a time; the others find it done.
		if _, err := t.exec(ctx, "SELECT pg_advisory_xact_lock(7463216)"); err != nil {
			return err
		}
		_, err := s.pgSchema(ctx, t, prefix, true)
		return err
	})
}

// pgSchema reports whether the tables are complete, or makes them so.
func (s *pgServer) pgSchema(ctx context.Context, t tx, prefix string, do bool) (complete bool, err error) {
	var todo []string
	for _, d := range pgTables {
		ok, err := exists(ctx, t, prefix+d.name)
		if err != nil {
			return false, err
		}
		if !ok {
			fill := ""
			if d.name == "job" {
				fill = " WITH (fillfactor=70)"
			}
			todo = append(todo, "CREATE TABLE {"+d.name+"} ("+d.body+")"+fill)
		}
	}
	if complete = len(todo) == 0; !complete && !do {
		return false, nil
	}
	for _, q := range todo {
		if _, err := t.exec(ctx, q); err != nil {
			return false, err
		}
	}
	types := make(map[string]string)
	for _, table := range []string{"job", "error", "exitstatus"} {
		err := t.query(ctx, func(r row) error {
			var column, kind string
			err := r.Scan(&column, &kind)
			types[table+"."+column] = kind
			return err
		}, `SELECT a.attname::text, y.typname::text FROM pg_attribute a JOIN pg_type y ON y.oid=a.atttypid
			WHERE a.attrelid IN (SELECT c.oid `+pgNamed+`) AND a.attnum>0 AND NOT a.attisdropped`, strings.ToLower(prefix+table))
		if err != nil {
			return false, err
		}
	}
	todo = pgAlter(types)
	for _, x := range pgIndexes {
		ok, err := exists(ctx, t, prefix+x.name)
		if err != nil {
			return false, err
		}
		if !ok {
			unique, on := "", x.on
			if rest, ok := strings.CutPrefix(on, "UNIQUE "); ok {
				unique, on = "UNIQUE ", rest
			}
			table, columns, _ := strings.Cut(on, "(")
			todo = append(todo, "CREATE "+unique+"INDEX {prefix}"+x.name+" ON {"+table+"}("+columns)
		}
	}
	if !do {
		return complete && len(todo) == 0, nil
	}
	for _, q := range todo {
		if _, err := t.exec(ctx, q); err != nil {
			return false, err
		}
	}
	return true, nil
}

// pgAlter returns the statements that make the changes.
func pgAlter(types map[string]string) (todo []string) {
	for _, table := range []string{"job", "error", "exitstatus"} {
		var clauses []string
		for _, c := range pgChanges {
			have, ok := types[c.table+"."+c.column]
			if c.table == table && (!ok || c.was != "" && have == c.was) {
				clauses = append(clauses, c.clause)
			}
		}
		if len(clauses) > 0 {
			todo = append(todo, "ALTER TABLE {"+table+"} "+strings.Join(clauses, ", "))
		}
	}
	return todo
}

// pgNamed are the tables and indexes of a name on the search path. Not by to_regclass: that may believe what this connection
// saw before another made them.
const pgNamed = "FROM pg_class c JOIN pg_namespace n ON n.oid=c.relnamespace WHERE c.relname=? AND n.nspname=ANY(current_schemas(false))"

// exists reports whether there is a table or an index of a name.
func exists(ctx context.Context, t tx, name string) (bool, error) {
	n, _, err := queryInt(ctx, t, "SELECT count(*) "+pgNamed, strings.ToLower(name)) // as names without quotes are
	return n > 0, err
}
