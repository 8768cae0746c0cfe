package gearmand

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"wheelhouse/gearman/packet"
)

// Version is what the server says of itself. Gearman's tools read the number in front.
const Version = "2.0.0-wheelhouse"

// Limits that are not options.
const (
	maxLine      = 8 << 10   // bytes of a text command
	maxAbilities = 8192      // functions of one connection
	maxUnstored  = 1024      // submissions of one connection that wait for the store
	highWater    = 256 << 10 // bytes of answers after which a connection's own requests wait
	batchPackets = 64        // packets handled under one lock
)

// DefaultMaxMemory is the default of Options.MaxMemory.
const DefaultMaxMemory = 2 << 30

// Options of a [Server]. The zero value is ready for use.
type Options struct {
	// Store keeps background jobs. Default nil: they live in memory and end with the process.
	Store Store
	// StoreTimeout bounds one call of Store (default 30 s). A submission that takes longer is answered by an ERROR.
	StoreTimeout time.Duration
	// Log takes what the server has to say. Default: nothing is logged.
	Log *slog.Logger
	// HandlePrefix begins each job handle (default "H:" and the host's name, at most 40 bytes).
	HandlePrefix string
	// Retries is how often a job may be lost by its worker before it is given up with WORK_FAIL. Default 0, and negative: no limit.
	Retries int
	// RoundRobin moves a function to the end of a worker's list when the worker got one of its jobs. Default: the functions
	// are asked in the order in which the worker announced them. Priority comes before either.
	RoundRobin bool
	// Wakeup is how many sleeping workers are woken for a job. Default 0: all.
	Wakeup int
	// Exceptions switches the option "exceptions" on for all connections (default off).
	Exceptions bool
	// TimeoutFails ends a job that outlives its function's timeout with WORK_FAIL. Default: it is queued again, like a job whose
	// worker has left.
	TimeoutFails bool
	// OnShutdown is called, at most once, when an administrator on this machine sends "shutdown" ("shutdown graceful"). It must
	// not wait for the server. Default nil: there is no such command.
	OnShutdown func(graceful bool)
	// Verbose is what the command "verbose" answers (default "ERROR").
	Verbose string

	// MaxConns is how many connections there may be (default 20000); more are closed as they come.
	MaxConns int
	// MaxPacket bounds a packet's data in bytes (default 64 MiB).
	MaxPacket int
	// MaxOutput bounds what waits for a connection that does not read, in bytes (default 16 MiB; a single packet may be larger).
	// One that goes beyond is closed.
	MaxOutput int
	// MaxMemory bounds jobs, unfinished packets and unread answers of all connections together, in bytes (default 2 GiB). Jobs
	// beyond are refused with QUEUE_ERROR.
	MaxMemory int64
	// MaxFunctions bounds the functions that are known at once (default 65536).
	MaxFunctions int
	// MaxQueue bounds the jobs, queued and running, of each function that has no limit of its own. Default 0: no limit.
	MaxQueue int
	// WriteTimeout is how long a connection may take none of what is written to it (default 1 min); then it is closed.
	WriteTimeout time.Duration
	// IdleTimeout closes connections that neither work nor wait for a job and have been silent for so long. Default 0: never.
	IdleTimeout time.Duration
	// HandshakeTimeout bounds TLS's handshake (default 10 s).
	HandshakeTimeout time.Duration
}

func (o Options) withDefaults() Options {
	o.StoreTimeout = cmp.Or(o.StoreTimeout, 30*time.Second)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.HandlePrefix = cmp.Or(o.HandlePrefix, defaultPrefix())
	o.Verbose = cmp.Or(o.Verbose, "ERROR")
	o.MaxConns = cmp.Or(o.MaxConns, 20000)
	o.MaxPacket = cmp.Or(o.MaxPacket, 64<<20)
	o.MaxOutput = cmp.Or(o.MaxOutput, 16<<20)
	o.MaxMemory = cmp.Or(o.MaxMemory, DefaultMaxMemory)
	o.MaxFunctions = cmp.Or(o.MaxFunctions, 65536)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, time.Minute)
	o.HandshakeTimeout = cmp.Or(o.HandshakeTimeout, 10*time.Second)
	return o
}

const maxPrefix = 40 // leaves room for a colon and 20 digits in a handle

func defaultPrefix() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost" // a name is all it is
	}
	p := "H:" + host
	return p[:min(len(p), maxPrefix)]
}

// Validate joins all that is wrong with the options.
func (o Options) Validate() error {
	var errs []error
	if len(o.HandlePrefix) > maxPrefix {
		errs = append(errs, fmt.Errorf("gearmand: HandlePrefix (--job-handle-prefix) has %d bytes; at most %d leave room for the number", len(o.HandlePrefix), maxPrefix))
	}
	for i := range len(o.HandlePrefix) {
		if o.HandlePrefix[i] <= ' ' || o.HandlePrefix[i] == 0x7f {
			errs = append(errs, fmt.Errorf("gearmand: HandlePrefix (--job-handle-prefix) %q has a blank or a control character", o.HandlePrefix))
			break
		}
	}
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"Wakeup (--worker-wakeup)", int64(o.Wakeup)},
		{"StoreTimeout", int64(o.StoreTimeout)},
		{"MaxConns (--max-connections)", int64(o.MaxConns)},
		{"MaxPacket (--max-packet)", int64(o.MaxPacket)},
		{"MaxOutput (--max-output)", int64(o.MaxOutput)},
		{"MaxMemory (--max-memory)", o.MaxMemory},
		{"MaxFunctions (--max-functions)", int64(o.MaxFunctions)},
		{"MaxQueue (--max-queue)", int64(o.MaxQueue)},
		{"WriteTimeout (--write-timeout)", int64(o.WriteTimeout)},
		{"IdleTimeout (--idle-timeout)", int64(o.IdleTimeout)},
		{"HandshakeTimeout", int64(o.HandshakeTimeout)},
	} {
		if n.value < 0 {
			errs = append(errs, fmt.Errorf("gearmand: %s is %d; want 0 or more", n.name, n.value))
		}
	}
	if int64(o.MaxPacket) > 1<<32-1-packet.HeaderSize {
		errs = append(errs, fmt.Errorf("gearmand: MaxPacket (--max-packet) is %d; the protocol ends at 4 GiB", o.MaxPacket))
	}
	return errors.Join(errs...)
}
