package memcache

import "errors"

// Errors of the client's methods, to be asked for with [errors.Is]. All of them leave the client usable.
var (
	// ErrCacheMiss: there is no such item, or it has expired. Get the value from where it comes from.
	ErrCacheMiss = errors.New("memcache: cache miss")
	// ErrNotStored: the condition of an Add (there is none), a Replace, Append or Prepend (there is one) was not met.
	ErrNotStored = errors.New("memcache: item not stored")
	// ErrCASConflict: the item was changed since it was read. Read it again.
	ErrCASConflict = errors.New("memcache: compare-and-swap conflict")
	// ErrMalformedKey: a key is empty, longer than 250 bytes, or has a space or a control character.
	ErrMalformedKey = errors.New("memcache: malformed: key must be 1 to 250 bytes without spaces and control characters")
	// ErrNoServers: the list of servers is empty.
	ErrNoServers = errors.New("memcache: no servers")
	// ErrUnavailable: the key's server has failed lately and is set aside; nothing was sent. Do without the cache.
	ErrUnavailable = errors.New("memcache: server set aside after failures")
	// ErrProtocol: a server said what it must not say. The connection is closed.
	ErrProtocol = errors.New("memcache: unexpected reply")
	// ErrTooLarge: a value is larger than the client's limit ([WithMaxValue]).
	ErrTooLarge = errors.New("memcache: value larger than the client's limit")
	// ErrCompression: a value was to be compressed or decompressed and could not be.
	ErrCompression = errors.New("memcache: compression")
	// ErrNoLeases: the server does not speak the meta protocol, in which leases are (memcached does from 1.6 on).
	ErrNoLeases = errors.New("memcache: the server does not speak the meta protocol")
	// ErrSpread: keys that must be of one server are of several.
	ErrSpread = errors.New("memcache: keys of different servers")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("memcache: client closed")
)

// ServerError is a server's refusal, such as "SERVER_ERROR object too large for cache".
type ServerError struct {
	Text string // the line that the server sent, beginning with ERROR, CLIENT_ERROR or SERVER_ERROR
}

func (e *ServerError) Error() string { return "memcache: the server says " + e.Text }
