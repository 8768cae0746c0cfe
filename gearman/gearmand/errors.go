package gearmand

import (
	"errors"
	"fmt"

	"wheelhouse/gearman/packet"
)

// Errors of a [Server]'s methods.
var (
	ErrServerClosed = errors.New("gearmand: server closed")
	// ErrForced says that a shutdown's time was over before all running jobs had finished.
	ErrForced = errors.New("gearmand: jobs were still running")
)

// refusal is an ERROR packet: a code for programs and a text for people.
type refusal struct{ code, text string }

func (r *refusal) Error() string { return "gearmand: " + r.code + ": " + r.text }

// The refusals with texts that Gearman's own server has too.
var (
	errMagic       = &refusal{"INVALID_MAGIC", "Request magic expected"}
	errCommand     = &refusal{"INVALID_COMMAND", "Command not expected"}
	errUniqueSize  = &refusal{"ARGUMENT_TOO_LARGE", "Unique value too large"}
	errOption      = &refusal{"UNKNOWN_OPTION", "Server does not recognize given option"}
	errWorkJob     = &refusal{"JOB_NOT_FOUND", "Job given in work result not found"}
	errDataJob     = &refusal{"JOB_NOT_FOUND", "Job does not exist on server"}
	errException   = &refusal{"JOB_NOT_FOUND", "An exception was received for a job that does not exist"}
	errQueueFull   = &refusal{"QUEUE_ERROR", "Job queue is full"}
	errMemory      = &refusal{"QUEUE_ERROR", "Job queue is full: the server's memory for jobs is used up"}
	errNotStored   = &refusal{"QUEUE_ERROR", "Job could not be stored"}
	errStopping    = &refusal{"SHUTDOWN", "The server is shutting down and takes no more jobs"}
	errFuncSize    = &refusal{"ARGUMENT_TOO_LARGE", fmt.Sprintf("Function name is longer than %d bytes", packet.MaxFunc)}
	errFuncEmpty   = &refusal{"INVALID_ARGUMENTS", "Function name is empty"}
	errClientID    = &refusal{"ARGUMENT_TOO_LARGE", fmt.Sprintf("Client id is longer than %d bytes", packet.MaxClientID)}
	errFunctions   = &refusal{"QUEUE_ERROR", "Too many functions"}
	errAbilities   = &refusal{"INVALID_ARGUMENTS", fmt.Sprintf("More than %d functions on one connection", maxAbilities)}
	errEpoch       = &refusal{"INVALID_ARGUMENTS", "SUBMIT_JOB_EPOCH: the time is not a number of seconds"}
	errTimeout     = &refusal{"INVALID_ARGUMENTS", "CAN_DO_TIMEOUT: the timeout is not a number"}
	errReducerSize = &refusal{"ARGUMENT_TOO_LARGE", fmt.Sprintf("Reducer's name is longer than %d bytes", packet.MaxFunc)}
)

func argumentsRefusal(t packet.Type) *refusal {
	return &refusal{"INVALID_ARGUMENTS", fmt.Sprintf("%s wants %d arguments", t, t.Args())}
}

func sizeRefusal(t packet.Type, size uint32, limit int) *refusal {
	return &refusal{"ARGUMENT_TOO_LARGE", fmt.Sprintf("%s has %d bytes; this server takes %d", t, size, limit)}
}
