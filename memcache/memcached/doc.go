// Package memcached is a cache server that speaks memcached's protocols: text, meta and binary, over TCP, Unix sockets, TLS and UDP.
// Where memcached 1.6.18 and 1.6.42 differ it does as the latter. Items live in a [wheelhouse/memcache/segcache.Cache].
//
// Requests are read into a buffer, all that are complete are answered, and the answers are written at once. A few goroutines, the leaders, do so
// for all connections that are sockets and nothing else (see poller); those of TLS have a goroutine each.
// A connection that waits for its next request has no buffers. Locks are held only while bytes are copied from memory to memory.
package memcached
