package http1

import (
	"context"
	"io"
	"net"
	"os"
)

// Handler answers requests. ServeExchange returns when it has nothing more to say; an answer that it has not begun by
// then becomes 500 (or, when reading the body failed with an *Error, that error's status), one that it has not finished
// closes the connection. A panic is logged and counted; it becomes 500 if nothing has been sent, else closes the connection.
type Handler interface {
	ServeExchange(x Exchange)
}

// HandlerFunc is a function that is a [Handler].
type HandlerFunc func(Exchange)

// ServeExchange calls f(x).
func (f HandlerFunc) ServeExchange(x Exchange) { f(x) }

// As finds what an exchange can do besides ([Switcher], [Looper], [Pacer]), itself or, if it wraps another one and says so by a method
// Unwrap() Exchange, that.
func As[T any](x Exchange) (t T, ok bool) {
	for {
		if t, ok = x.(T); ok {
			return t, true
		}
		w, is := x.(interface{ Unwrap() Exchange })
		if !is {
			return t, false
		}
		x = w.Unwrap()
	}
}

// Exchange is one request and the means to answer it. The server of this package implements it, and so does
// [NetHTTP], over net/http (TLS with h2). It belongs to the goroutine that serves it, and nothing that it gave is
// valid after ServeExchange has returned.
type Exchange interface {
	// Context ends when the connection does, when the server gives up on it, or when the client is seen to have closed its
	// side. It is the connection's, not the request's: it does not end with the exchange.
	Context() context.Context
	// Request is the parsed head.
	Request() *Request
	// Body reads the request's body, de-chunked. The first Read sends 100 Continue where that is expected. Errors: io.EOF
	// at its proper end, io.ErrUnexpectedEOF when the client went away before, *Error when it broke the protocol or a
	// limit (the handler answers with that error's Status).
	Body() io.Reader
	// Header is that of the answer, empty at first. Content-Length, Transfer-Encoding and Connection are the engine's own:
	// they are not sent if set, but "Connection: close" closes the connection after the answer. Date is added unless it is
	// set, as it is when another server's answer is passed on.
	Header() *Header

	// Reply sends the whole answer, of status 200 to 999: head and body in one write, unless the body is large.
	Reply(status int, body []byte) error
	// Start sends the head; size is the body's length in bytes, -1 when it is not known (chunked, or until close for
	// HTTP/1.0). For HEAD, 204 and 304 the body's bytes are counted and dropped. The head may be held back until the first
	// bytes of the body, so that both go in one write. A size of 0 or -1 with 304 sends no Content-Length; 204 never does.
	Start(status int, size int64) error
	// Write sends a part of the body. More than Start announced is an error, and nothing of the excess is sent. What is
	// small may be held back until more comes, the answer is complete, or Flush is called.
	io.Writer
	// ReadFrom sends the rest of r as body, by splice where r is a connection or a [Body] (or an io.LimitedReader over
	// one), by sendfile where it is a regular file. Of r no more is read than Start announced. An error of r is a
	// *BodyReadError.
	io.ReaderFrom
	// SendFile sends n bytes of f at off, by sendfile from 64 KiB on, below by one read and one write. The file's own offset
	// is not used. A file that is shorter is a *BodyReadError.
	SendFile(f *os.File, off, n int64) (int64, error)
	// Flush sends what is held back.
	Flush() error
	// Started reports whether the head has been committed to, so that another status can no longer be sent.
	Started() bool
	// Abort closes the connection without finishing the answer, so that the client sees that it is broken.
	Abort()

	RemoteAddr() net.Addr
	LocalAddr() net.Addr
	// TLS reports whether the client's connection is encrypted.
	TLS() bool
}
