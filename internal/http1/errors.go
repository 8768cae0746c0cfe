package http1

import (
	"errors"
	"net/http"
	"strconv"
)

// Error says what was wrong with a message: the status that answers it, and a short plain sentence.
type Error struct {
	Status int
	Reason string
}

// Error is "400 Bad Request: reason".
func (e *Error) Error() string {
	return strconv.Itoa(e.Status) + " " + http.StatusText(e.Status) + ": " + e.Reason
}

// ErrServerClosed is what Serve returns after Shutdown, Drain or Close.
var ErrServerClosed = errors.New("http1: server closed")

// Errors of an [Exchange] that is used wrongly, or that came to its end.
var (
	// ErrStarted: Start or Reply was called although an answer has been begun.
	ErrStarted = errors.New("http1: the answer has been begun already")
	// ErrNotStarted: a part of a body was sent before Start.
	ErrNotStarted = errors.New("http1: the answer has not been begun")
	// ErrTooLong: more body than Start announced. Nothing of the excess is sent.
	ErrTooLong = errors.New("http1: the answer's body exceeds its announced size")
	// ErrStatus: a status outside 200–999 was to be sent.
	ErrStatus = errors.New("http1: not a final status")
	// ErrAborted: the exchange was aborted.
	ErrAborted = errors.New("http1: the exchange was aborted")
	// ErrWriteTimeout: the peer took nothing for as long as Limits.WriteTimeout.
	ErrWriteTimeout = errors.New("http1: the peer stopped reading")
	// ErrClientGone is the cause of a cancelled [Exchange.Context] when the client closed its side.
	ErrClientGone = errors.New("http1: the client is gone")
)

// errSpliceBroken is the state of a body whose receiver failed in mid-splice: bytes are lost between the two.
var errSpliceBroken = errors.New("http1: the body was being sent on to a connection that failed")

// BodyReadError wraps a failure to read a body that was being sent on, so that it can be told from a failure to
// write: the former is the origin's fault and another may be tried, the latter means that the receiver is gone.
type BodyReadError struct{ Err error }

// Error is the reader's error, prefixed.
func (e *BodyReadError) Error() string { return "read body: " + e.Err.Error() }

// Unwrap is the reader's error.
func (e *BodyReadError) Unwrap() error { return e.Err }

// readError wraps err once.
func readError(err error) error {
	var r *BodyReadError
	if errors.As(err, &r) {
		return err
	}
	return &BodyReadError{err}
}

// What can be wrong with a message. They are values so that refusing costs no more than accepting.
var (
	errRequestLine  = &Error{400, "the request line is not METHOD SP TARGET SP VERSION"}
	errBareLF       = &Error{400, "a line of the head ends in LF without CR"}
	errBareCR       = &Error{400, "a CR in the head is not followed by LF"}
	errMethod       = &Error{400, "the method is not a token"}
	errMethodLong   = &Error{501, "the method is longer than any that is known"}
	errTarget       = &Error{400, "the request target holds an octet that it must not"}
	errTargetForm   = &Error{400, "the request target is of no form that this method allows"}
	errTargetPct    = &Error{400, "the path holds a broken percent-encoding"}
	errTargetHost   = &Error{400, "the authority in the request target is not a valid host"}
	errFragment     = &Error{400, "the request target holds a fragment"}
	errLineLong     = &Error{414, "the request line is too long"}
	errVersion      = &Error{400, "the protocol version is malformed"}
	errVersionOther = &Error{505, "only HTTP/1.0 and HTTP/1.1 are spoken here"}
	errHeadLong     = &Error{431, "the head is too large"}
	errFieldsMany   = &Error{431, "the head has too many fields"}
	errObsFold      = &Error{400, "a field line is folded"}
	errFieldLine    = &Error{400, "a field line has no colon"}
	errFieldSpace   = &Error{400, "there is white space before the colon of a field line"}
	errFieldName    = &Error{400, "a field name is not a token"}
	errFieldValue   = &Error{400, "a field value holds a control character"}
	errNoHost       = &Error{400, "the Host field is missing"}
	errHosts        = &Error{400, "there is more than one Host field"}
	errHost         = &Error{400, "the Host field is not a valid host"}
	errLengthBody   = &Error{400, "the body does not have the length that Content-Length says"}
	errLength       = &Error{400, "Content-Length is not a decimal number"}
	errLengths      = &Error{400, "Content-Length is given more than once"}
	errLengthCoding = &Error{400, "both Content-Length and Transfer-Encoding are given"}
	errCodingOld    = &Error{400, "Transfer-Encoding does not exist in HTTP/1.0"}
	errCodingEmpty  = &Error{400, "Transfer-Encoding is empty or malformed"}
	errCodingTwice  = &Error{400, "Transfer-Encoding names chunked more than once"}
	errCodingOrder  = &Error{400, "chunked is not the last transfer coding"}
	errCoding       = &Error{501, "the transfer coding is not known"}
	errExpect       = &Error{417, "the expectation is not known"}
	errBodyLong     = &Error{413, "the body is too large"}
	errChunkSize    = &Error{400, "a chunk size is not a hexadecimal number, or too large"}
	errChunkExt     = &Error{400, "a chunk extension holds an octet that it must not"}
	errChunkLine    = &Error{400, "a chunk line is too long"}
	errChunkExcess  = &Error{400, "the chunks hold too little data for their framing"}
	errChunkEnd     = &Error{400, "a chunk's data is not followed by CRLF"}
	errTrailerLong  = &Error{431, "the trailer section is too large"}
	errEmptyLines   = &Error{400, "too many empty lines precede the request"}
	errHeadTimeout  = &Error{408, "the head did not arrive in time"}
	errBodyTimeout  = &Error{408, "the body stopped arriving"}
	errPanic        = &Error{500, "the request could not be handled"}
	errNoAnswer     = &Error{500, "the request was not answered"}
	errStatusLine   = &Error{502, "the status line is malformed"}
	errManyInterim  = &Error{502, "too many interim responses"}
	errSwitched     = &Error{502, "the protocol was switched without being asked"}
)
