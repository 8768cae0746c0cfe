package balancer

import (
	"net/netip"
	"time"
)

// Settings are the tunables of a service, in the types in which they are used. Which name sets which, for which role, with
// which default and meaning, is the table in package config; here stand units, and what zero means where that is special.
// Settings in force are never changed, only replaced.
type Settings struct {
	Role   string
	Listen string // address, "unix:/path", or "" for a service that is reached through selectors only

	// Clients.
	PersistClient     bool
	ClientIdleTimeout time.Duration // between requests
	IdleTimeout       time.Duration // silence in any other phase
	HeadTimeout       time.Duration // of a request's head, first byte to last
	ClientSndbuf      int           // bytes, 0: the kernel's choice
	MaxConnections    int           // 0: no limit of the service's own
	MaxRequestBody    int64         // bytes
	MaxChunked        int64         // bytes of a chunked request, 0: MaxRequestBody alone
	ServerTokens      bool
	ProxyProtocol     bool // clients' connections begin with a PROXY header
	HTTP2             bool
	TLS               TLS

	// Trust in what stands in front.
	AlwaysTrusted  bool
	TrustedProxies []netip.Prefix
	BlindProxy     bool

	// Backends.
	Pool               string
	PersistBackend     bool
	BackendPersist     int // idle used connections that are kept
	ConnectAhead       int
	MaxBackendUses     int // 0: no limit
	VerifyBackend      bool
	VerifyBackendPath  string
	BackendTLS         bool
	BackendTLSVerify   bool
	SendProxyProtocol  int           // version of the PROXY header that backends get, 0: none
	ConnectTimeout     time.Duration // of one attempt
	QueueTimeout       time.Duration // the longest wait for a backend, 0: IdleTimeout
	ResponseTimeout    time.Duration // request sent to response's head
	BackendBodyTimeout time.Duration // silence in a response's body
	MaxQueue           int           // requests that may wait for a backend, 0: no limit
	RetryAttempts      int           // further attempts of an idempotent request whose backend failed
	RetryBudget        int           // percent of the requests that may be such attempts
	UpgradeTimeout     time.Duration // silence in a WebSocket or other upgraded connection, 0: no limit

	// Bodies.
	BufferSize           int64
	BufferSizeReproxyURL int64
	BufferBackendConnect int64
	BufferUploads        bool
	BufferUploadsPath    string
	BufferUploadsTotal   int64 // bytes that a service's uploads may take there at once, 0: no limit
	BufferThresholdSize  int64
	BufferThresholdTime  time.Duration
	BufferThresholdRate  int64 // bytes/s

	// Queues.
	HighPriorityCookie         string
	HighPriorityCookieContents string
	QueueReliefSize            int
	QueueReliefChance          int // percent

	// Reproxying.
	EnableReproxy       bool
	ReproxyCacheMaxSize int
	ReproxyRoots        []string       // directories that X-REPROXY-FILE may name files in; none: any, as Perlbal did
	ReproxyNetworks     []netip.Prefix // networks that X-REPROXY-URL may name; none: any

	EnableErrorRetries bool
	ErrorRetrySchedule []time.Duration

	UploadStatusListeners []string // host:port of UDP

	// Answers.
	Compress        []string // codings in the order of preference: zstd, gzip
	CompressMinSize int64
	CompressTypes   []string
	Cache           Cache
	RateLimit       RateLimit

	// web_server.
	Docroot         string
	DirIndexing     bool
	IndexFiles      []string
	EnablePut       bool
	EnableDelete    bool
	EnableMD5       bool
	MaxPutSize      int64
	MinPutDirectory int
	EnableConcat    bool
	Precompressed   bool              // files with .zst or .gz behind their names are the same in that coding
	MIME            map[string]string // media types by lower-case extension, "" for one that is unknown, where they differ from the table
	ServerProcess   string

	// selector.
	DefaultService string
	Latency        time.Duration

	AccessLog       string // file, "stdout", "stderr", or "" for none
	AccessLogFormat string // combined or json

	HeaderInsert []HeaderRule // applied last to what goes to the backend: removals, then insertions
	HeaderRemove []string

	Extra map[string]string // extra.NAME and what plugins have added, by lower-case name
}

// HeaderRule is a field that HEADER … INSERT sets.
type HeaderRule struct{ Name, Value string }

// TLS is how a listener encrypts.
type TLS struct {
	Enabled       bool
	CertFiles     []string // PEM, one for each of KeyFiles; chosen by the name that the client asks for
	KeyFiles      []string
	TicketKeys    []string // files of the keys of session tickets; none: the process makes them itself
	CAPath        string   // of client certificates
	Verify        int      // IO::Socket::SSL's modes: 0 none, 1 ask, 2 demand (bits)
	Ciphers       string   // OpenSSL's names; those that Go does not have are ignored
	MinVersion    uint16
	ACMEDomains   []string
	ACMEEmail     string
	ACMEDirectory string // URL, "" for Let's Encrypt's
	ACMETrust     string // PEM file of the authorities of that URL, "": the system's
	ACMEStorage   string // directory that keeps keys and certificates
}

// Cache is a service's response cache.
type Cache struct {
	Enabled       bool
	Memory        int64 // bytes
	Disk          string
	DiskSize      int64
	MaxObject     int64
	AskAlways     bool // about each answer that is kept, whatever it says of itself
	StaleIfError  time.Duration
	StaleWhileRev time.Duration // for answers that do not say themselves
	PurgeNetworks []netip.Prefix
}

// RateLimit bounds what one client may ask for.
type RateLimit struct {
	Rate  float64 // requests/s, 0: no limit
	Burst int
	Key   string // ip, host, header:NAME, cookie:NAME
}

// Node is a backend of a pool as it is configured.
type Node struct {
	Addr   string // ip:port, [ipv6]:port, name:port, "unix:/path", or "local:NAME" for a handler of this process
	Weight int    // 1 and up: its share where the method weighs
}

// PoolSettings are what a pool is set to.
type PoolSettings struct {
	Name         string
	Nodes        []Node
	NodeFile     string    // when it changes, what it names takes the place of Nodes
	NodeFileTime time.Time // of the NodeFile that Nodes were read from
	Method       Method
	HashKey      string // of ConsistentHash: uri, path, ip, header:NAME, cookie:NAME
	MaxConns     int    // connections to one node, 0: no limit

	HealthPath     string        // asked of each node, "": no active checks
	HealthHost     string        // Host field of the check, "": the node's address
	HealthInterval time.Duration // between checks
	HealthTimeout  time.Duration
	HealthStatus   int // expected, 0: any of 200–399
	HealthRise     int // good checks in a row after which a node is used again
	HealthFall     int // bad checks in a row after which it is not

	EjectErrors     int           // failures in a row after which a node is left alone, 0: never
	EjectTime       time.Duration // for how long, the first time; doubled each time up to ten times as long
	EjectMax        int           // percent of the nodes that may be ejected at once
	EjectProbes     int           // requests at once to a node that comes back, until it has answered one; 0: no limit
	SlowStart       time.Duration // over which a node that comes back is given its full share
	ResolveInterval time.Duration // between look-ups of names

	// Limits and circuit breaker of the whole pool, over all services that use it. What they refuse is answered with 503 at once.
	MaxRequests        int           // requests under way, those that wait for a node included, 0: no limit
	MaxPending         int           // requests that wait for a node, 0: no limit
	MaxRetries         int           // requests under way that are tried again after a node failed them, 0: no limit
	CircuitErrors      int           // failures in a row after which the circuit opens, 0: not for that
	CircuitPercent     int           // percent of the requests in CircuitWindow whose failure opens it, 0: not for that
	CircuitMinRequests int           // in CircuitWindow, below which CircuitPercent does not count
	CircuitWindow      time.Duration // about: it moves in halves
	CircuitTime        time.Duration // for which it is open, before it is half-open
	CircuitProbes      int           // requests that a half-open circuit lets through, and that must succeed to close it; at least 1
}

// Method is how a node is chosen.
type Method uint8

// The methods.
const (
	FirstFree      Method = iota // Perlbal's: whichever connection is free first takes the next request
	RoundRobin                   // in turn, by weight
	LeastConn                    // the node with the fewest requests under way for its weight
	PowerOfTwo                   // the better of two that are drawn
	ConsistentHash               // by HashKey
)

// Methods are the methods' names in the configuration.
var Methods = [...]string{"random", "round_robin", "least_conn", "power_of_two", "consistent_hash"}

func (m Method) String() string { return Methods[m] }
