package memcache

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// DefaultPort is the port of a server that names none.
const DefaultPort = 11211

// MaxServers limits the servers of a client.
const MaxServers = 4096

// maxWeight keeps a ring small: 160 points for each unit, at the most.
const maxWeight = 1 << 16

// maxPath is the longest path of a socket, bytes: sun_path of unix(7) without its end.
const maxPath = 107

// Server says where a server is, and how many keys it shall take.
type Server struct {
	Host   string // a name, an address, or, beginning with "/", the path of a socket
	Port   int    // 0 with a path
	Weight int    // its part of the keys is Weight of the sum of all; distributions without weights ignore it
}

// ParseServer reads HOST, HOST:PORT, [IPV6]:PORT or /PATH, and "/?WEIGHT" after it, as libmemcached writes a weight. The port is
// [DefaultPort] and the weight 1 where they are not given.
func ParseServer(s string) (Server, error) {
	addr, weight, weighted := strings.Cut(s, "/?")
	server := Server{Host: addr, Weight: 1}
	fail := func(what string) (Server, error) { return Server{}, fmt.Errorf("memcache: server %q: %s", s, what) }
	if weighted {
		w, err := strconv.Atoi(weight)
		if err != nil || w < 1 || w > maxWeight {
			return fail(fmt.Sprintf("the weight must be a number from 1 to %d", maxWeight))
		}
		server.Weight = w
	}
	if strings.HasPrefix(addr, "/") {
		if len(addr) > maxPath || strings.ContainsRune(addr, 0) {
			return fail(fmt.Sprintf("a socket's path has at most %d bytes, none of them 0", maxPath))
		}
		return server, nil
	}
	server.Port = DefaultPort
	if host, port, err := net.SplitHostPort(addr); err == nil {
		p, err := strconv.ParseUint(port, 10, 16)
		if err != nil || p == 0 {
			return fail("the port must be a number from 1 to 65535")
		}
		server.Host, server.Port = host, int(p)
	} else if inner, ok := strings.CutPrefix(addr, "["); ok && strings.HasSuffix(inner, "]") {
		server.Host = strings.TrimSuffix(inner, "]")
	} else if strings.Count(addr, ":") == 1 || strings.ContainsAny(addr, "[]") {
		return fail("want HOST, HOST:PORT, [IPV6]:PORT or /PATH")
	}
	if checkKey(server.Host) != nil || strings.ContainsAny(server.Host, "/[]") {
		return fail("the host is no name and no address")
	}
	return server, nil
}

// ParseServers is [ParseServer] for a list. The error names all that are wrong.
func ParseServers(list ...string) ([]Server, error) {
	servers := make([]Server, 0, len(list))
	var errs []error
	for _, s := range list {
		server, err := ParseServer(s)
		servers, errs = append(servers, server), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return servers, nil
}

// Network returns "tcp" or "unix".
func (s Server) Network() string {
	if strings.HasPrefix(s.Host, "/") {
		return "unix"
	}
	return "tcp"
}

// Addr returns HOST:PORT, or the path of the socket.
func (s Server) Addr() string {
	if s.Network() == "unix" {
		return s.Host
	}
	return net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
}

// String returns what [ParseServer] reads.
func (s Server) String() string {
	if s.Weight == 1 {
		return s.Addr()
	}
	return fmt.Sprintf("%s/?%d", s.Addr(), s.Weight)
}

// point is the name that libmemcached hashes for a server's points: without the port where it is the default one.
func (s Server) point() string {
	if s.Port == DefaultPort {
		return s.Host
	}
	return s.Host + ":" + strconv.Itoa(s.Port)
}

// checkServers says what is wrong with a list.
func checkServers(servers []Server) error {
	if len(servers) == 0 {
		return ErrNoServers
	}
	if len(servers) > MaxServers {
		return fmt.Errorf("memcache: %d servers; the limit is %d", len(servers), MaxServers)
	}
	seen := map[string]bool{}
	total := 0
	for _, s := range servers {
		again, err := ParseServer(s.String())
		if err != nil {
			return err
		}
		if again != s {
			return fmt.Errorf("memcache: server %+v: not an address", s)
		}
		if seen[s.Addr()] {
			return fmt.Errorf("memcache: server %s stands there twice", s.Addr())
		}
		seen[s.Addr()] = true
		total += s.Weight
	}
	if total > maxWeight {
		return fmt.Errorf("memcache: the sum of the weights is %d; the limit is %d", total, maxWeight)
	}
	return nil
}
