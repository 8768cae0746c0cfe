// Package jobs is a reliable queue of work that is to be done later, and the worker that does it, after TheSchwartz.
//
// A [Queue] holds jobs: sqlqueue in a database, in the tables of TheSchwartz, where "change the data" and "enqueue what
// follows from it" are one transaction; memqueue in memory; failover in several queues used as one. An [Inspector] is what
// operators look into it with, a [Scheduler] keeps periodic jobs, a [Backend] is all three. jobstest.Queue is the suite that
// every Backend passes. A [Worker] grabs jobs under a lease that it renews while it works on them, so that the jobs of a
// worker that was killed come back.
//
// A job is done at least once, perhaps twice: handlers must not mind.
package jobs
