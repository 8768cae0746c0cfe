package console

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/config"
	"wheelhouse/balancer/proxy"
)

type proxyState = proxy.ReproxyState

// procFigures are what the process has used up.
type procFigures struct {
	user, system time.Duration
	requests     int64
}

func procNow(b *balancerd.Balancer) procFigures {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru) // fails only on a bad argument
	return procFigures{time.Duration(ru.Utime.Nano()), time.Duration(ru.Stime.Nano()), b.Requests()}
}

// decimal prints seconds as Perl does: as many decimals as there are, of six.
func decimal(d time.Duration) string {
	return strconv.FormatFloat(d.Round(time.Microsecond).Seconds(), 'f', -1, 64)
}

func (c *Console) procLines(b *balancerd.Balancer) []string {
	now := procNow(b)
	c.mu.Lock()
	last := c.proc
	c.proc = now
	c.mu.Unlock()
	return []string{
		fmt.Sprintf("time: %d", time.Now().Unix()),
		fmt.Sprintf("pid: %d", syscall.Getpid()),
		fmt.Sprintf("utime: %s (+%s)", decimal(now.user), decimal(now.user-last.user)),
		fmt.Sprintf("stime: %s (+%s)", decimal(now.system), decimal(now.system-last.system)),
		fmt.Sprintf("reqs: %d (+%d)", now.requests, now.requests-last.requests),
	}
}

// setProf is PROF ON and PROF OFF: PROF DATA then shows what requests have cost in between.
func (c *Console) setProf(b *balancerd.Balancer, arg string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch arg {
	case "on":
		now := procNow(b)
		c.prof = &now
	case "off":
		c.prof = nil
	default:
		return badSyntax("prof")
	}
	return nil
}

// profData is PROF DATA: name, user and system time in all, calls, and both for one call.
func (c *Console) profData(b *balancerd.Balancer, _ config.Command) ([]string, error) {
	c.mu.Lock()
	began := c.prof
	c.mu.Unlock()
	if began == nil {
		return nil, nil
	}
	now := procNow(b)
	u, s, n := (now.user - began.user).Seconds(), (now.system - began.system).Seconds(), now.requests-began.requests
	if n == 0 {
		return nil, nil
	}
	return []string{fmt.Sprintf("requests %.5f %.5f %d %.7f %.7f", u, s, n, u/float64(n), s/float64(n))}, nil
}

var shutdownForm = regexp.MustCompile(`^(?i:(graceful))?\s?(\d{1,9})?$`)

// shutdown is SHUTDOWN [GRACEFUL] [seconds].
func (s *session) shutdown(args string) (end bool) {
	m := shutdownForm.FindStringSubmatch(strings.TrimSpace(args))
	if m == nil {
		s.fail(badSyntax("shutdown"))
		return false
	}
	n, _ := strconv.Atoi(m[2]) // "" is none
	graceful := m[1] != ""
	s.c.log.Info("shutdown from the console", "addr", s.nc.RemoteAddr(), "graceful", graceful)
	if graceful {
		s.ok()
		s.flush()
	}
	s.b.Stop(graceful, time.Duration(n)*time.Second)
	return !graceful
}
