// Package jobstest has the conformance suite of jobs.Backend: every implementation passes the same one.
package jobstest
