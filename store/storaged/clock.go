package storaged

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"wheelhouse/internal/http1"
)

// headerTime is what a node answers, besides 403, to a request whose time is too far from its own: its time in unix seconds, a
// colon, and a signature over that and the request's own, so that nobody else can talk a process into dating its requests ahead.
const headerTime = "X-Wheelhouse-Time"

// peerClock is how far the clock of another process is known to be ahead of ours. A machine whose clock is wrong, or is set while
// everything runs, must not be shut out: signatures are dated by the clock of whoever checks them. Safe for concurrent use.
type peerClock struct{ ahead atomic.Int64 } // seconds

func (c *peerClock) time(now time.Time) time.Time { return now.Add(c.offset()) }

func (c *peerClock) offset() time.Duration { return time.Duration(c.ahead.Load()) * time.Second }

// timeFor is the value of headerTime in the answer to a request with this Authorization.
func (s Secret) timeFor(authorization string, now time.Time) string {
	t := strconv.FormatInt(now.Unix(), 10)
	return t + ":" + s.mac("TIME", authorization, t)
}

// learn takes in what a node has answered to a request. It reports whether there was news in it, after which the request may be sent
// again.
func (c *peerClock) learn(s Secret, authorization string, h *http1.Header, now time.Time) bool {
	v := h.Get(headerTime)
	if v == "" || authorization == "" {
		return false
	}
	t, sum, _ := strings.Cut(v, ":")
	seconds, err := strconv.ParseInt(t, 10, 64)
	if err != nil || !equal(sum, s.mac("TIME", authorization, t)) {
		return false
	}
	c.ahead.Store(seconds - now.Unix())
	return true
}
