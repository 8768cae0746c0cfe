package memcache

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Protocol says what is spoken.
type Protocol int

const (
	Auto    Protocol = iota // the meta protocol with servers that answer "mn", the classic one with others
	Classic                 // get, set, … as all servers know them
	Meta                    // mg, ms, … of memcached 1.6 and later; saves the question
)

// Option changes how a client works. The defaults stand with each.
type Option func(*options)

// DialFunc connects to a server. network is "tcp" or "unix".
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

type options struct {
	kind           Distribution
	protocol       Protocol
	timeout        time.Duration
	dialTimeout    time.Duration
	maxConns       int
	maxIdle        int
	maxValue       int
	failures       int
	minEject       time.Duration
	maxEject       time.Duration
	failover       bool
	dialer         DialFunc
	user, password string
	codecs         []Codec
	compressAbove  int
	now            func() time.Time
}

func defaults() options {
	return options{
		timeout: 500 * time.Millisecond, dialTimeout: 500 * time.Millisecond, maxConns: 64, maxIdle: 8, maxValue: 64 << 20,
		failures: 2, minEject: time.Second, maxEject: time.Minute, dialer: (&net.Dialer{}).DialContext, now: time.Now,
	}
}

// greatestValue is the limit of WithMaxValue, bytes: memcached's -I goes no further.
const greatestValue = 1 << 30

func (o *options) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("memcache: "+format, args...))
		}
	}
	check(o.protocol >= Auto && o.protocol <= Meta, "WithProtocol(%d): there is no such protocol", o.protocol)
	check(o.timeout > 0 && o.dialTimeout > 0, "WithTimeout(%v, %v): both must be above 0", o.timeout, o.dialTimeout)
	check(o.maxIdle >= 0 && o.maxConns > 0 && o.maxIdle <= o.maxConns, "WithConns(%d, %d): want 0 ≤ idle ≤ most, 1 ≤ most", o.maxIdle, o.maxConns)
	check(o.maxValue > 0 && o.maxValue <= greatestValue, "WithMaxValue(%d): want 1 to %d", o.maxValue, greatestValue)
	check(o.failures >= 0 && o.minEject > 0 && o.maxEject >= o.minEject, "WithEject(%d, %v, %v): want 0 ≤ failures, 0 < first ≤ most",
		o.failures, o.minEject, o.maxEject)
	check(o.dialer != nil, "WithDialer(nil)")
	check(!strings.ContainsAny(o.user, " \r\n") && !strings.ContainsAny(o.password, "\r\n"), "WithAuth: a space or an end of line")
	check(len(o.codecs) == 0 || o.compressAbove >= minCompress, "WithCompression(%d): want at least %d bytes", o.compressAbove, minCompress)
	check(len(o.codecs) < 32, "WithCompression: %d codecs; there are 32 flags", len(o.codecs))
	var flags uint32
	for _, c := range o.codecs {
		f := c.Flag()
		check(f != 0 && f&(f-1) == 0 && flags&f == 0, "WithCompression: flag %#x must be one bit, another for each codec", f)
		flags |= f
	}
	return errors.Join(errs...)
}

// WithDistribution says how keys are spread over servers; default [Ketama].
func WithDistribution(kind Distribution) Option { return func(o *options) { o.kind = kind } }

// WithProtocol says what is spoken; default [Auto].
func WithProtocol(p Protocol) Option { return func(o *options) { o.protocol = p } }

// WithTimeout says how long a request may take, and how long to connect; default 500 ms each. A context can shorten both.
func WithTimeout(request, dial time.Duration) Option {
	return func(o *options) { o.timeout, o.dialTimeout = request, dial }
}

// WithConns says how many unused connections are kept for each server, and how many there are at most, default 8 and 64. Who finds none
// free waits for one as long as a request may take.
func WithConns(idle, most int) Option { return func(o *options) { o.maxIdle, o.maxConns = idle, most } }

// WithMaxValue limits the size of a value, bytes, stored or read, compressed or not; default 64 MiB, at most 1 GiB.
func WithMaxValue(n int) Option { return func(o *options) { o.maxValue = n } }

// WithEject sets a server aside after so many failures in a row: connections that are refused, broken, too slow, or make no sense. Its
// requests then fail with [ErrUnavailable] at once, for the time first; when that is over one request tries the server, and if it fails
// the time doubles, up to most. Default 2, 1 s, 1 min. With 0 failures no server is ever set aside.
//
// A request that the caller's context cuts short by its deadline counts as a failure, one that is cancelled does not.
func WithEject(failures int, first, most time.Duration) Option {
	return func(o *options) { o.failures, o.minEject, o.maxEject = failures, first, most }
}

// WithFailover has the keys of a server that is set aside or cannot be reached go to others meanwhile. When it comes back it still has what
// it had: an application that cannot bear old values does better without. Default: off.
func WithFailover() Option { return func(o *options) { o.failover = true } }

// WithDialer says how to connect, for TLS ([crypto/tls.Dialer.DialContext]) or tests.
func WithDialer(dial DialFunc) Option { return func(o *options) { o.dialer = dial } }

// WithAuth says who the client is, to servers with an authentication file (memcached -Y). It is sent in the clear unless the dialer makes
// TLS connections.
func WithAuth(user, password string) Option {
	return func(o *options) { o.user, o.password = user, password }
}

// WithCompression compresses values of more than above bytes (64 at least), by the first codec; all are known in what is read. A value
// that would not become smaller stays as it is. Default: none. Append and Prepend are refused then: they would be joined to a compressed
// value.
func WithCompression(above int, codecs ...Codec) Option {
	return func(o *options) { o.compressAbove, o.codecs = above, codecs }
}
