// Package jobstest has the conformance suite of jobs.Queue: every implementation passes the same one.
package jobstest
