// Package memcache is a client of cache servers that speak memcached's protocols, Wheelhouse's or any other.
//
// A [Client] spreads keys over servers by consistent hashing, as libmemcached does unless told otherwise, keeps a pool of connections for
// each server, and sets a server aside for a while when it fails. It imports the standard library alone. Its methods are those that users
// of gomemcache know, with a context in front.
package memcache
