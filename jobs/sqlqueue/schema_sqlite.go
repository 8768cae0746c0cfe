package sqlqueue

import (
	"context"

	"wheelhouse/internal/sqldb"
)

// migrateSQLite makes the tables, or what is missing of them.
func migrateSQLite(ctx context.Context, db *sqldb.DB, prefix string) error {
	d := newDialect(sqlite, prefix)
	return db.Migrate(ctx, sqldb.Schema{Name: prefix + "jobs", Steps: []string{d.words.Replace(sqliteStep1), d.words.Replace(sqliteStep2)}})
}

// sqliteStep1 is TheSchwartz's schema, in SQLite's types; where Perl has made the tables, they are taken as they are. Times
// are Unix seconds. The index that finds ready jobs holds the priority too, and NULL, which Perl writes for no priority, is 0.
const sqliteStep1 = `
CREATE TABLE IF NOT EXISTS {funcmap}(funcid INTEGER PRIMARY KEY AUTOINCREMENT, funcname VARCHAR(255) NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS {job}(
	jobid INTEGER PRIMARY KEY AUTOINCREMENT, funcid INTEGER NOT NULL, arg MEDIUMBLOB, uniqkey VARCHAR(255),
	insert_time INTEGER, run_after INTEGER NOT NULL, grabbed_until INTEGER NOT NULL, priority SMALLINT,
	coalesce VARCHAR(255), UNIQUE(funcid, uniqkey));
CREATE INDEX IF NOT EXISTS {prefix}job_ready ON {job}(funcid, {prio}, run_after);
CREATE INDEX IF NOT EXISTS {prefix}job_coalesce ON {job}(funcid, coalesce);
CREATE TABLE IF NOT EXISTS {error}(
	error_time INTEGER NOT NULL, jobid INTEGER NOT NULL, message VARCHAR(255) NOT NULL, funcid INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS {prefix}error_func ON {error}(funcid, error_time);
CREATE INDEX IF NOT EXISTS {prefix}error_time ON {error}(error_time);
CREATE INDEX IF NOT EXISTS {prefix}error_job ON {error}(jobid);
CREATE TABLE IF NOT EXISTS {exitstatus}(
	jobid INTEGER PRIMARY KEY, funcid INTEGER NOT NULL DEFAULT 0, status SMALLINT, completion_time INTEGER, delete_after INTEGER);
CREATE INDEX IF NOT EXISTS {prefix}exitstatus_func ON {exitstatus}(funcid);
CREATE INDEX IF NOT EXISTS {prefix}exitstatus_delete ON {exitstatus}(delete_after);
`

// sqliteStep2 adds what TheSchwartz does not have.
const sqliteStep2 = `
CREATE TABLE IF NOT EXISTS {note}(jobid INTEGER NOT NULL, notekey VARCHAR(255), value MEDIUMBLOB, PRIMARY KEY(jobid, notekey));
ALTER TABLE {job} ADD COLUMN limit_key VARCHAR(255);
ALTER TABLE {job} ADD COLUMN owner VARCHAR(255);
ALTER TABLE {job} ADD COLUMN started INTEGER;
ALTER TABLE {job} ADD COLUMN progress_done INTEGER;
ALTER TABLE {job} ADD COLUMN progress_total INTEGER;
ALTER TABLE {job} ADD COLUMN progress_note VARCHAR(255);
CREATE TABLE {job_record}(
	jobid INTEGER PRIMARY KEY, funcid INTEGER NOT NULL, state VARCHAR(10) NOT NULL, status INTEGER NOT NULL, arg MEDIUMBLOB,
	uniqkey VARCHAR(255), insert_time INTEGER, run_after INTEGER NOT NULL, priority INTEGER, coalesce VARCHAR(255),
	limit_key VARCHAR(255), owner VARCHAR(255), started INTEGER, finished INTEGER NOT NULL, delete_after INTEGER NOT NULL,
	failures INTEGER NOT NULL, progress_done INTEGER, progress_total INTEGER, progress_note VARCHAR(255));
CREATE INDEX {prefix}job_record_func ON {job_record}(funcid, state);
CREATE INDEX {prefix}job_record_delete ON {job_record}(delete_after);
CREATE TABLE {job_control}(
	funcid INTEGER PRIMARY KEY, paused INTEGER NOT NULL, max_running INTEGER NOT NULL, max_running_key INTEGER NOT NULL,
	rate_n INTEGER NOT NULL, rate_per INTEGER NOT NULL, key_rate_n INTEGER NOT NULL, key_rate_per INTEGER NOT NULL,
	keep_done INTEGER NOT NULL, keep_dead INTEGER NOT NULL);
CREATE TABLE {job_slot}(jobid INTEGER PRIMARY KEY, funcid INTEGER NOT NULL, limit_key VARCHAR(255) NOT NULL);
CREATE INDEX {prefix}job_slot_func ON {job_slot}(funcid);
CREATE TABLE {job_bucket}(
	funcid INTEGER NOT NULL, kind INTEGER NOT NULL, limit_key VARCHAR(255) NOT NULL, tokens INTEGER NOT NULL, filled INTEGER NOT NULL,
	full_at INTEGER NOT NULL, PRIMARY KEY(funcid, kind, limit_key)) WITHOUT ROWID;
CREATE INDEX {prefix}job_bucket_full ON {job_bucket}(full_at);
CREATE TABLE {job_periodic}(
	name VARCHAR(255) PRIMARY KEY, spec VARCHAR(1000) NOT NULL, zone VARCHAR(255) NOT NULL, funcname VARCHAR(255) NOT NULL, arg MEDIUMBLOB,
	priority INTEGER NOT NULL, limit_key VARCHAR(255) NOT NULL, next_time INTEGER NOT NULL, last_time INTEGER NOT NULL) WITHOUT ROWID;
`
