package config

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// server is SERVER param = value.
func (l *Language) server(s *State, c *Context, cmd Command) error {
	param, value, ok := strings.Cut(cmd.Args, "=")
	param, value = strings.ToLower(strings.TrimSpace(param)), strings.TrimSpace(value)
	if !ok || value == "" || param == "" {
		return syntax("server")
	}
	number := func(to *int) error {
		n, err := ParseInt(value)
		if err != nil {
			return named(err, param, "")
		}
		*to = n
		return nil
	}
	if addr, ok := strings.CutPrefix(param, "max_reproxy_connections("); ok {
		addr, err := ParseNode(strings.TrimSuffix(addr, ")"))
		if err != nil {
			return err
		}
		var n int
		err = number(&n)
		s.Server.MaxReproxyTo[addr] = n
		return err
	}
	switch param {
	case "max_reproxy_connections":
		return number(&s.Server.MaxReproxy)
	case "max_connections":
		return number(&s.Server.MaxConnections)
	case "nice_level":
		n, err := strconv.Atoi(value)
		if err != nil || n < -20 || n > 19 {
			return Fault("Expecting a nice level from -20 to 19")
		}
		s.Server.NiceLevel = n
	case "pidfile":
		if !strings.HasPrefix(value, "/") {
			return Fault("pidfile must be an absolute path")
		}
		if dir := filepath.Dir(value); checkDir(dir) != nil {
			return fault("pidfile: there is no directory %s", dir)
		}
		s.Server.PIDFile = value
	case "metrics_listen":
		host, port, err := net.SplitHostPort(value)
		if _, isIP := parseIP(host); err != nil || host != "" && !isIP && !validName(host) || !validPort(port) {
			return Fault("metrics_listen must be ip:port")
		}
		s.Server.MetricsListen = value
	case "console_networks":
		if _, err := ParsePrefixes(value); err != nil {
			return err
		}
		s.Server.ConsoleNetworks = value
	case "shutdown_timeout", "handover_timeout":
		if _, err := ParseTime(value); err != nil {
			return named(err, param, "")
		}
		if param == "handover_timeout" {
			s.Server.HandoverTimeout = value
		} else {
			s.Server.ShutdownTimeout = value
		}
	case "aio_mode":
		if v := strings.ToLower(value); v != "none" && v != "ioaio" {
			return fault("Unknown AIO mode: %s", value)
		}
		s.Server.Others[param] = value
	case "aio_threads", "track_obj", "crash_backtrace":
		s.Server.Others[param] = value
		if c.File {
			c.warn("SERVER %s has no meaning here", param)
		}
	default:
		return fault("unknown server option '%s'", param)
	}
	return nil
}
