package memqueue_test

import (
	"testing"
	"time"

	"wheelhouse/jobs"
	"wheelhouse/jobs/jobstest"
	"wheelhouse/jobs/memqueue"
)

func TestQueue(t *testing.T) {
	jobstest.Queue(t, func(t *testing.T, now func() time.Time) (jobs.Backend, func() jobs.Backend) {
		return memqueue.New(now), nil
	})
}
