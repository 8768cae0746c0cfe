package gearman

import (
	"errors"
	"fmt"
)

var (
	// ErrFailed says that the worker reported failure without a reason. The server may have given up retrying.
	ErrFailed = errors.New("gearman: job failed")
	// ErrDisconnected says that the server was lost while the job ran: it may have been done, or not.
	ErrDisconnected = errors.New("gearman: connection to the job server lost")
	// ErrNoServer says that no job server could be reached. What was tried is in the error that wraps it.
	ErrNoServer = errors.New("gearman: no job server answers")
	// ErrTooSlow ends a [Task] whose events are not read: more than MaxBuffered bytes of them wait.
	ErrTooSlow = errors.New("gearman: the job's events are not read")
	// ErrClosed says that the client has been closed.
	ErrClosed = errors.New("gearman: client is closed")
)

// ServerError is an ERROR packet.
type ServerError struct {
	Code string // such as QUEUE_ERROR
	Text string
}

func (e *ServerError) Error() string {
	return fmt.Sprintf("gearman: job server: %s: %s", e.Code, e.Text)
}

// Exception is what a worker has thrown: an error with a text of its own. A [Func] that returns one has it sent as it is.
type Exception struct{ Data []byte }

func (e *Exception) Error() string { return fmt.Sprintf("gearman: worker: %.300s", e.Data) }
