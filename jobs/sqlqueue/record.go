package sqlqueue

import (
	"context"
	"time"

	"wheelhouse/jobs"
)

// ended is a job that is about to leave the queue and to be kept as a record.
type ended struct {
	id, fn, status int64
	state          jobs.State
	keep           time.Duration
}

// recordSQL copies jobs from the queue to the records.
const recordSQL = `INSERT INTO {job_record}(state,status,finished,delete_after,jobid,funcid,arg,uniqkey,insert_time,run_after,priority,
	coalesce,limit_key,owner,started,progress_done,progress_total,progress_note,failures)
	SELECT {kept}, j.jobid, j.funcid, j.arg, j.uniqkey, j.insert_time, j.run_after, {prio},
	j.coalesce, j.limit_key, j.owner, j.started, j.progress_done, j.progress_total, j.progress_note,
	(SELECT count(*) FROM {error} e WHERE e.jobid=j.jobid) FROM {job} j WHERE j.jobid {in}`

// record keeps jobs as records, which still are in the queue. Of those that are done or dead there is an exit status too,
// for Perl.
func record(ctx context.Context, t tx, list []ended, now int64) error {
	type same struct {
		state  jobs.State
		status int64
		keep   time.Duration
	}
	groups := make(map[same]idList)
	for _, e := range list {
		s := same{e.state, e.status, e.keep}
		groups[s] = append(groups[s], e.id)
	}
	for s, ids := range groups {
		until := now + int64(s.keep/time.Second)
		// A server may give out ids again whose jobs were removed just before it was started.
		for _, table := range []string{"{job_record}", "{exitstatus}"} {
			if _, err := t.exec(ctx, "DELETE FROM "+table+" WHERE jobid {in}", ids); err != nil {
				return err
			}
		}
		if _, err := t.exec(ctx, recordSQL, string(s.state), s.status, now, until, ids); err != nil {
			return err
		}
		if s.state == jobs.StateCancelled {
			continue
		}
		_, err := t.exec(ctx, `INSERT INTO {exitstatus}(status,completion_time,delete_after,jobid,funcid)
			SELECT {status}, j.jobid, j.funcid FROM {job} j WHERE j.jobid {in}`, s.status, now, until, ids)
		if err != nil {
			return err
		}
	}
	return nil
}

// forget removes all that there is of jobs that are not in the queue any more.
func forget(ctx context.Context, t tx, ids idList) error {
	for _, table := range []string{"{job_record}", "{exitstatus}", "{error}"} {
		if _, err := t.exec(ctx, "DELETE FROM "+table+" WHERE jobid {in}", ids); err != nil {
			return err
		}
	}
	return nil
}
