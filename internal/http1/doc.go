// Package http1 is the project's own HTTP/1.1 engine, server and client side (RFC 9110, RFC 9112).
//
// One goroutine serves one connection. Heads are parsed in place in the connection's read buffer, without allocation;
// head and small body of an answer leave in one write; large bodies go by sendfile and splice. Parsing is strict
// where leniency lets requests be smuggled: every deviation is an [Error] with a status and a sentence that names it.
//
// # Timeouts
//
// Arming a timer for each read and write costs more than the parsing. A sweeper goroutine per [Server] looks at all
// connections every tick instead (a quarter of the shortest timeout, between 5 and 250 ms), compares the time at which
// each entered its present phase with that phase's limit, and wakes those that are late by a deadline in the past.
// A server's timeout therefore fires up to two ticks late, never early.
// The [Client] arms deadlines half as long again as asked and re-arms them only when less than the whole timeout is
// left: it fires between one and one and a half times the timeout.
//
// # Validity
//
// What an [Exchange] gives is valid until ServeExchange returns, what a [Response] gives until its Body is closed:
// both point into the connection's buffers.
package http1
