// Package sqlqueue is a queue of jobs in SQL tables, those of TheSchwartz: job, funcmap, error, exitstatus.
//
// The tables live in the database of those who enqueue, and [Queue.InsertTx] enqueues in their transaction: a job exists if and
// only if the change that made it necessary does.
//
// Where it goes beyond TheSchwartz, the tables stay the same: a lease can be renewed (grabbed_until is set anew); a job
// that is inserted again under its Unique key while it runs is done once more (its insert_time grows, and completing a job
// whose insert_time has grown puts it back instead of removing it); priorities are followed exactly.
package sqlqueue
