package config

import (
	"slices"
	"strings"
	"time"

	"wheelhouse/balancer"
)

// PoolTunable is a parameter of pools.
type PoolTunable struct {
	Name, Default, Doc string

	apply func(p *balancer.PoolSettings, v string) error
}

func poolTunables() []PoolTunable {
	type pool = balancer.PoolSettings
	num := func(f func(*pool) *int) func(*pool, string) error {
		return func(p *pool, v string) (err error) { *f(p), err = ParseInt(v); return err }
	}
	span := func(f func(*pool) *time.Duration) func(*pool, string) error {
		return func(p *pool, v string) (err error) { *f(p), err = ParseTime(v); return err }
	}
	return []PoolTunable{
		{"nodefile", "", "file of nodes, one to a line, which take the place of those that there are; read again when it changes, until then POOL changes them; none to stop that, its nodes stay", func(p *pool, v string) error {
			p.NodeFile = v
			return checkFile(v)
		}},
		{"balance_method", "random", "random (first free connection), round_robin, least_conn, power_of_two, consistent_hash", func(p *pool, v string) error {
			i := slices.Index(balancer.Methods[:], strings.ToLower(v))
			if i < 0 {
				return Fault("Unknown balance method")
			}
			p.Method = balancer.Method(i)
			return nil
		}},
		{"hash_key", "uri", "what consistent_hash goes by: uri, path, ip, header:NAME, cookie:NAME; requests that lack the header or cookie go to any node", func(p *pool, v string) error {
			kind, name, _ := strings.Cut(v, ":")
			if !slices.Contains([]string{"uri", "path", "ip", "header", "cookie"}, kind) || (kind == "header" || kind == "cookie") != (name != "") {
				return kindFault("Expecting uri, path, ip, header:NAME or cookie:NAME for parameter '%s'")
			}
			p.HashKey = v
			return nil
		}},
		{"max_connections", "0", "connections to one node; 0: no limit", num(func(p *pool) *int { return &p.MaxConns })},
		{"health_path", "", "path that each node is asked for, to see whether it is well; none to stop that", func(p *pool, v string) error {
			if !strings.HasPrefix(v, "/") && v != "*" {
				return kindFault("Expecting a path for parameter '%s'")
			}
			p.HealthPath = v
			return nil
		}},
		{"health_host", "", "Host of those requests; the node's address if none is given", func(p *pool, v string) error { p.HealthHost = v; return nil }},
		{"health_interval", "5", "seconds between them", span(func(p *pool) *time.Duration { return &p.HealthInterval })},
		{"health_timeout", "2", "seconds to wait for an answer, more than 0", func(p *pool, v string) (err error) {
			if p.HealthTimeout, err = ParseTime(v); err == nil && p.HealthTimeout == 0 {
				return errRange // every node would be sick
			}
			return err
		}},
		{"health_status", "0", "status that means well; 0: any from 200 to 399", num(func(p *pool) *int { return &p.HealthStatus })},
		{"health_rise", "2", "good answers in a row after which a node is used again", num(func(p *pool) *int { return &p.HealthRise })},
		{"health_fall", "3", "bad answers in a row after which it is not", num(func(p *pool) *int { return &p.HealthFall })},
		{"eject_errors", "5", "failures of requests in a row after which a node is left alone; 0: never", num(func(p *pool) *int { return &p.EjectErrors })},
		{"eject_time", "10", "seconds for which, at first; each further time longer, up to ten times as long", span(func(p *pool) *time.Duration { return &p.EjectTime })},
		{"eject_max", "50", "percent of the nodes that may be left alone at once", num(func(p *pool) *int { return &p.EjectMax })},
		{"eject_probes", "1", "requests at once that such a node is given when its time is over (half-open), until it has answered one; 0: all at once", num(func(p *pool) *int { return &p.EjectProbes })},
		{"slow_start", "0", "seconds over which a node that comes back is given its full share", span(func(p *pool) *time.Duration { return &p.SlowStart })},
		{"resolve_interval", "30", "seconds between look-ups of nodes that are given by name; 0: once, until it succeeds", span(func(p *pool) *time.Duration { return &p.ResolveInterval })},
		{"max_requests", "0", "requests under way at the whole pool, those that wait for a node included; more are refused with 503 at once; 0: no limit", num(func(p *pool) *int { return &p.MaxRequests })},
		{"max_pending", "0", "requests that may wait for a node of the pool, of all services together; more are refused with 503 at once; 0: no limit", num(func(p *pool) *int { return &p.MaxPending })},
		{"max_retries", "0", "requests under way that are tried again because a node failed them; more are not tried again; 0: no limit", num(func(p *pool) *int { return &p.MaxRetries })},
		{"circuit_errors", "0", "failures in a row (no connection, no answer, or 502, 503, 504), of all nodes together, after which the circuit opens: requests are refused with 503 at once; 0: not for that", num(func(p *pool) *int { return &p.CircuitErrors })},
		{"circuit_percent", "0", "percent of the requests in circuit_window whose failure opens the circuit; 0: not for that", func(p *pool, v string) (err error) {
			if p.CircuitPercent, err = ParseInt(v); err == nil && p.CircuitPercent > 100 {
				return errRange
			}
			return err
		}},
		{"circuit_min_requests", "20", "requests in circuit_window below which circuit_percent does not count", num(func(p *pool) *int { return &p.CircuitMinRequests })},
		{"circuit_window", "10", "seconds over which circuit_percent is taken", span(func(p *pool) *time.Duration { return &p.CircuitWindow })},
		{"circuit_time", "5", "seconds for which the circuit is open; then it is half-open", span(func(p *pool) *time.Duration { return &p.CircuitTime })},
		{"circuit_probes", "1", "requests that a half-open circuit lets through; when they have all succeeded it closes, when one fails it opens again", num(func(p *pool) *int { return &p.CircuitProbes })},
	}
}
