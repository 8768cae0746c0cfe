package memcached

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"wheelhouse/memcache/segcache"
)

// Version is what the server says of itself. Clients read the number in front.
const Version = "1.6.42-wheelhouse"

// Limits that are not options.
const (
	maxKey       = 250
	maxLine      = 2048    // bytes of a command that is not a multiget
	maxMultiget  = 1 << 20 // bytes of one that is
	longMultiget = 8 << 10 // bytes of keys for which others do not wait
	readBuffer   = 16 << 10
	crowdBuffer  = 8 << 10  // read buffer, and first answers, of one of a crowd
	flushAt      = 64 << 10 // bytes of answers that are gathered
	flushEarly   = 8 << 10  // the same in a crowd, for what is done in steps
	holdAbove    = 32 << 10 // values above are written from where they are
	streamAbove  = 8 << 10  // values above that have not arrived are read to where they are to be
	maxTokens    = 24
	maxMeta      = 20 // tokens of a meta command
	maxWatchers  = 20
	maxVerbose   = 2
	maxUsers     = 8 << 10   // users of the authentication file
	maxAuth      = 16384     // bytes of "user password"
	maxKept      = 24 << 20  // bytes of all connections that are in nobody's hands, see pressed
	leastPiece   = 256       // bytes that a connection reads, and answers, before it writes,
	mostPiece    = 4 << 10   // while others keep much
	copyMost     = 256 << 10 // bytes of a value that are copied for who does not take them at once
	heldPart     = 8         // of the limit, that is held for them instead while others keep much
	tlsRecord    = 16 << 10  // bytes
	crowd        = 144       // connections, above which they do not keep what they have taken for large answers
	maxPending   = 8 << 20   // bytes of requests that are not complete, of all connections, see pending
	maxBinary    = 1<<31 - 3
	maxOpaque    = 32
	maxTags      = 8       // of an item
	maxTagBytes  = 250     // of them together, with the commas between
	maxDumpBytes = 2 << 20 // of stats cachedump
)

// Protocol is what a connection speaks.
type Protocol uint8

// The protocols.
const (
	Auto Protocol = iota // the first byte tells
	ASCII
	Binary
)

func (p Protocol) String() string { return [...]string{"auto-negotiate", "ascii", "binary"}[p] }

// Options of a [Server]. The zero value is ready for use. Flags in parentheses are memcached's.
type Options struct {
	// Limit is the memory for items and index, in bytes (-m). Default 64 MiB, least 1 MiB.
	Limit int64
	// NoEvict refuses items when memory is full, rather than forget others (-M).
	NoEvict bool
	// MaxConns is how many connections there may be (-c). Default 1024.
	MaxConns int
	// MaxItem bounds an item, as memcached counts its size, in bytes (-I). Default 1 MiB, least 1 KiB, most 1 GiB.
	MaxItem int
	// Growth (-f) and LeastItem (-n) make the classes by which items are counted. Default 1.25 and 48.
	Growth    float64
	LeastItem int
	// ChunkMax is the size of the last class, in bytes (-o slab_chunk_max). Default 512 KiB.
	ChunkMax int
	// Verbose (-v) is how much is logged, 0 to 2, for "stats settings"; the command verbosity calls OnVerbosity, if it is not nil, with another
	// number.
	Verbose     int
	OnVerbosity func(level int)
	// Threads is how many goroutines serve those connections that are sockets and nothing else (-t). They keep as
	// many of GOMAXPROCS busy. Default: half of GOMAXPROCS. Less than 0: each connection has a goroutine of its own, as those of TLS have, which is
	// slower, takes more memory, and is right for a process that does other things besides.
	Threads int
	// Batch is how many requests of a connection are answered before others have a turn (-R). Default 20.
	Batch int
	// Protocol is what connections speak (-B). Default: their first byte tells.
	Protocol Protocol
	// NoCAS gives items no version (-C).
	NoCAS bool
	// NoFlush, NoDump and NoWatch disable commands (-F, -X, -W).
	NoFlush, NoDump, NoWatch bool
	// OnShutdown is called, at most once, by the command shutdown (-A). It must not wait for the server. Default nil: there is no such
	// command.
	OnShutdown func(graceful bool)
	// Delimiter ends a key's prefix (-D). Default ':'. Detail counts by prefix from the start.
	Delimiter byte
	Detail    bool
	// IdleTimeout closes connections that have been silent for so long (-o idle_timeout). Default 0: never.
	IdleTimeout time.Duration
	// WriteTimeout closes connections that take nothing for so long. Default 1 min.
	WriteTimeout time.Duration
	// Users are those who may connect with the text protocol's authentication (-Y), by name. Nil: nobody has to.
	Users map[string]string
	// SASL are those who may connect with the binary protocol's, by PLAIN (-S). Nil: nobody has to.
	SASL map[string]string
	// ACL says what users may do. Default nil: everything.
	ACL *ACL
	// DebugTime enables the command debugtime, which changes the server's clock (-o relaxed_privileges).
	DebugTime bool
	// TrackSizes enables stats sizes (-o track_sizes).
	TrackSizes bool
	// File and Meta keep the items for the next process (-e); see [segcache.Options].
	File string
	Meta *segcache.Meta
	// Snapshot is the file that the command snapshot writes and Open reads; Open fails if it cannot be written. Default "": there is none.
	Snapshot string
	// SlowAfter is how long a command may take before it is listed by "stats slow". Default 0: none is.
	SlowAfter time.Duration
	// RefreshCerts reads certificates again, for the command refresh_certs. They have been read when Open is called. Default nil: there is no TLS.
	RefreshCerts func() error
	// Settings are further lines of "stats settings", by name, where they differ from memcached's defaults.
	Settings map[string]string
	// Unused names options of memcached that were given and mean nothing here, for "stats settings".
	Unused []string
	// Log takes what the server has to say. Default: nothing is logged.
	Log *slog.Logger

	still bool // nothing happens in the background: for tests
}

// threads is how many serve connections at once.
func (o *Options) threads() int {
	if o.Threads < 0 {
		return runtime.GOMAXPROCS(0)
	}
	return o.Threads
}

func (o Options) withDefaults() Options {
	o.Limit = cmp.Or(o.Limit, 64<<20)
	o.MaxConns = cmp.Or(o.MaxConns, 1024)
	o.MaxItem = cmp.Or(o.MaxItem, 1<<20)
	o.Growth = cmp.Or(o.Growth, 1.25)
	o.LeastItem = cmp.Or(o.LeastItem, 48)
	o.ChunkMax = cmp.Or(o.ChunkMax, 512<<10)
	o.Batch = cmp.Or(o.Batch, 20)
	o.Threads = cmp.Or(o.Threads, max(runtime.GOMAXPROCS(0)/2, 1))
	o.Delimiter = cmp.Or(o.Delimiter, ':')
	if o.SASL != nil && o.Protocol == Auto { // the text protocol would ask nobody who he is
		o.Protocol = Binary
	}
	if o.Users != nil && o.Protocol == Auto { // the binary protocol would ask nobody who he is
		o.Protocol = ASCII
	}
	o.WriteTimeout = cmp.Or(o.WriteTimeout, time.Minute)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return o
}

// Validate joins all that is wrong with the options.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("memcached: "+format, args...)) }
	if o.Limit < 1<<20 || o.Limit > segcache.MaxMemory {
		bad("Limit (-m) is %d bytes; want 1 MiB to %d", o.Limit, int64(segcache.MaxMemory))
	}
	if o.MaxItem < 1<<10 || o.MaxItem > 1<<30 {
		bad("MaxItem (-I) is %d bytes; want 1 KiB to 1 GiB", o.MaxItem)
	}
	if o.MaxConns < 1 {
		bad("MaxConns (-c) is %d; want at least 1", o.MaxConns)
	}
	if o.Growth <= 1 {
		bad("Growth (-f) is %g; want more than 1", o.Growth)
	}
	if o.LeastItem < 1 || o.LeastItem > 64<<10 {
		bad("LeastItem (-n) is %d; want 1 to 65536", o.LeastItem)
	}
	if o.ChunkMax < 1<<10 || o.ChunkMax > pageSize {
		bad("ChunkMax (-o slab_chunk_max) is %d bytes; want 1 KiB to 1 MiB", o.ChunkMax)
	}
	if o.Verbose < 0 || o.Verbose > maxVerbose {
		bad("Verbose (-v) is %d; want 0 to %d", o.Verbose, maxVerbose)
	}
	if o.Batch < 1 {
		bad("Batch (-R) is %d; want at least 1", o.Batch)
	}
	if o.IdleTimeout < 0 || o.WriteTimeout < 0 || o.SlowAfter < 0 {
		bad("a timeout is negative")
	}
	if o.Users != nil && o.Protocol == Binary {
		bad("Users (-Y) is for the text protocol, and Protocol (-B) is binary")
	}
	if o.SASL != nil && o.Protocol == ASCII {
		bad("SASL (-S) is for the binary protocol, and Protocol (-B) is ascii")
	}
	if o.Users != nil && o.SASL != nil {
		bad("Users (-Y) and SASL (-S) exclude each other")
	}
	return errors.Join(errs...)
}
