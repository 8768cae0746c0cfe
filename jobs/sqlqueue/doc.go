// Package sqlqueue is a queue of jobs in SQL tables, those of TheSchwartz: funcmap, job, note, error, exitstatus. They live in
// SQLite, MariaDB, MySQL or PostgreSQL, and Perl's TheSchwartz may use the same tables at the same time.
//
// The tables live in the database of those who enqueue, and [Queue.InsertTx], [Queue.InsertSQLTx] and [Queue.InsertPgxTx]
// enqueue in their transaction: a job exists if and only if the change that made it necessary does.
//
// Where it goes beyond TheSchwartz there are more columns in those tables, which may be NULL, and tables of its own beside them
// (see the schema files). A lease can be renewed (grabbed_until is set anew); a job that is inserted again under its
// Unique key while it runs is done once more (its insert_time grows, and a job whose insert_time has grown is put back
// when it is done); priorities are followed exactly; jobs that are given up, cancelled or kept when done become records.
//
// # Clocks
//
// All times are whole Unix seconds. On SQLite they are those of this machine's clock, as Perl's are there. On MariaDB,
// MySQL and PostgreSQL they are the server's: how far it is from the clock here is measured when the queue is opened and about every
// minute by Tend. Options.Now replaces both.
//
// # Perl
//
// A Perl worker proves a lease by the old grabbed_until as this package does, so either finds jobs of the other left alone.
// It knows nothing of limits, rates and pauses, does not renew leases (its grab_for must be long enough), and does not
// notice that a job was cancelled or inserted again while it ran. What it gives up leaves an exit status but no record that
// could be revived.
package sqlqueue
