// Package memcached is a cache server that speaks memcached's protocols: text, meta and binary, over TCP, Unix sockets, TLS and UDP.
// Where memcached 1.6.18 and 1.6.42 differ it does as the latter. Items live in a [wheelhouse/memcache/segcache.Cache].
//
// A connection has one goroutine, which reads requests into a buffer, answers all that are complete, and writes the answers at once.
// A connection that waits for its next request has no buffers. Locks are held only while bytes are copied from memory to memory.
package memcached
