-- What version 1 of this program made, with some rows.
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
INSERT INTO funcmap(funcname) VALUES('f');
INSERT INTO job(funcid,arg,run_after,grabbed_until,priority) VALUES(1,'old',0,0,0);
INSERT INTO error(error_time,jobid,message,funcid) VALUES(1,1,'x',1);
INSERT INTO exitstatus VALUES(99,1,1,4000000000,4000000000);
