// Package gearmand is a Gearman job server: it takes jobs from clients and hands them to workers, over Gearman's binary
// protocol, its text protocol for administrators, and HTTP.
//
// All that is known of jobs, functions and connections is one state under one lock (Server.mu). A connection is one
// goroutine that takes the lock once for all packets that have arrived, appends what is to be sent to the buffers of those
// whom it concerns, and writes to their sockets itself after it has let go of the lock. Nobody ever waits for a socket or for
// the store under the lock: what a socket does not take at once is left to a goroutine that lives until it is written.
package gearmand
