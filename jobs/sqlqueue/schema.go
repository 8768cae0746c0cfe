package sqlqueue

import "wheelhouse/internal/sqldb"

// schema is TheSchwartz's, in SQLite's types. Times are Unix seconds. The index that finds ready jobs holds the priority
// too, and NULL, which Perl writes for no priority, is 0.
var schema = sqldb.Schema{Name: "jobs", Steps: []string{schema1}}

const schema1 = `
CREATE TABLE funcmap(funcid INTEGER PRIMARY KEY AUTOINCREMENT, funcname VARCHAR(255) NOT NULL UNIQUE);
CREATE TABLE job(
	jobid INTEGER PRIMARY KEY AUTOINCREMENT, funcid INTEGER NOT NULL, arg MEDIUMBLOB, uniqkey VARCHAR(255),
	insert_time INTEGER, run_after INTEGER NOT NULL, grabbed_until INTEGER NOT NULL, priority SMALLINT,
	coalesce VARCHAR(255), UNIQUE(funcid, uniqkey));
CREATE INDEX job_ready ON job(funcid, ifnull(priority, 0), run_after);
CREATE INDEX job_coalesce ON job(funcid, coalesce);
CREATE TABLE error(
	error_time INTEGER NOT NULL, jobid INTEGER NOT NULL, message VARCHAR(255) NOT NULL, funcid INTEGER NOT NULL DEFAULT 0);
CREATE INDEX error_func ON error(funcid, error_time);
CREATE INDEX error_time ON error(error_time);
CREATE INDEX error_job ON error(jobid);
CREATE TABLE exitstatus(
	jobid INTEGER PRIMARY KEY, funcid INTEGER NOT NULL DEFAULT 0, status SMALLINT, completion_time INTEGER, delete_after INTEGER);
CREATE INDEX exitstatus_func ON exitstatus(funcid);
CREATE INDEX exitstatus_delete ON exitstatus(delete_after);
`
