package plugin

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"wheelhouse/balancer"
	"wheelhouse/balancer/config"
)

// stats counts, for the console's "stats" and "recent".
type stats struct{ balancer.Base }

func (stats) Name() string { return "Stats" }

// maxRecent is how many requests are remembered.
const maxRecent = 100

func (stats) New(svc balancer.Service, set *balancer.Settings, _ *balancer.PluginConf, prev any) (any, error) {
	s := &statsOf{service: svc.Name(), role: set.Role, counts: &statCounts{}}
	if p, ok := prev.(*statsOf); ok {
		s.counts = p.counts
	}
	return s, nil
}

type statsOf struct {
	service, role string
	counts        *statCounts
}

// statCounts outlive changes of the configuration.
type statCounts struct {
	filesReproxied, filesSent, proxied, proxiedHigh, web atomic.Int64

	mu     sync.Mutex // guards recent
	recent []string
}

// Start implements balancer.Starter.
func (s *statsOf) Start(*balancer.Request) bool {
	if s.role == config.WebServer {
		s.counts.web.Add(1)
	}
	return false
}

// Alter counts files on their way. A plugin before this one in the list that alters a file hides it from here.
func (s *statsOf) Alter(*balancer.Request, string, *os.File) ([]byte, error) {
	s.counts.filesSent.Add(1)
	if s.role == config.ReverseProxy {
		s.counts.filesReproxied.Add(1)
	}
	return nil, nil
}

// End implements balancer.Ender.
func (s *statsOf) End(r *balancer.Request) {
	if s.role != config.ReverseProxy || r.Attempts == 0 {
		return
	}
	if r.Priority == balancer.High {
		s.counts.proxiedHigh.Add(1)
	} else {
		s.counts.proxied.Add(1)
	}
	if r.Head == 0 {
		return // no backend has answered
	}
	host := string(r.Host)
	if host == "" {
		host = "unknown"
	}
	line := fmt.Sprintf("%s %-6.4f http://%s%s", s.service, r.Head.Seconds(), host, r.URI())
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	if len(s.counts.recent) >= maxRecent {
		s.counts.recent = append(s.counts.recent[:0], s.counts.recent[1:]...)
	}
	s.counts.recent = append(s.counts.recent, line)
}

// Info answers "stats" and "recent" for the service; the sums over all of them are the console's.
func (s *statsOf) Info(verb, _ string) ([]string, bool) {
	c := s.counts
	switch verb {
	case "stats":
		return statLines(s.service, map[string]int64{
			"files_reproxied": c.filesReproxied.Load(), "files_sent": c.filesSent.Load(), "proxy_requests": c.proxied.Load(),
			"proxy_requests_highpri": c.proxiedHigh.Load(), "web_requests": c.web.Load(),
		}), true
	case "recent":
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Clone(c.recent), true
	}
	return nil, false
}

func statLines(service string, values map[string]int64) []string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		lines = append(lines, fmt.Sprintf("%-15s %-25s %12d", service, key, values[key]))
	}
	return lines
}
