package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/rawio"
)

func (p *memcachedProcess) listen() (list []memcachedEndpoint, err error) {
	defer func() {
		if err != nil {
			for _, e := range list {
				e.close()
			}
		}
	}()
	m := p.m
	if m.socket != "" {
		ln, err := m.listenUnix()
		if err != nil {
			return nil, err
		}
		list = append(list, memcachedEndpoint{scheme: "memcached", ln: ln})
	} else {
		addrs := m.listen
		if len(addrs) == 0 {
			addrs = []string{"127.0.0.1"}
		}
		for _, a := range addrs {
			more, err := p.listenTCP(a)
			list = append(list, more...)
			if err != nil {
				return list, err
			}
		}
	}
	if m.metrics != "" {
		ln, err := net.Listen("tcp", m.metrics)
		if err != nil {
			return list, fmt.Errorf("--metrics: %w", err)
		}
		list = append(list, memcachedEndpoint{scheme: "http", ln: ln})
	}
	return list, nil
}

func (m *memcachedConfig) listenUnix() (net.Listener, error) {
	mode, err := strconv.ParseUint(m.mask, 8, 9)
	if err != nil {
		return nil, err
	}
	ln, err := listenFor("unix", m.socket)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chmod(m.socket, fs.FileMode(mode)), setBacklog(ln, m.backlog)); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// listenMode takes what is before an address of -l off: notls, btls or mtls; "": nothing is.
func listenMode(addr string) (mode, rest string) {
	for _, name := range []string{"notls", "btls", "mtls"} {
		if rest, ok := strings.CutPrefix(addr, name+":"); ok {
			return name, rest
		}
	}
	return "", addr
}

// listenHost splits an address of -l without what listenMode takes off it. host is "" where none is named; port may be missing, and is "" then.
func listenHost(addr string) (host, port string) {
	if h, n, err := net.SplitHostPort(addr); err == nil {
		return h, n
	}
	return strings.Trim(addr, "[]"), ""
}

// listenTCP opens one address of -l, and the same for UDP if there is to be UDP.
func (p *memcachedProcess) listenTCP(addr string) (list []memcachedEndpoint, err error) {
	m := p.m
	mode, addr := listenMode(addr)
	if p.certs == nil && (mode == "btls" || mode == "mtls") {
		return nil, usagef("-l %s:%s: there is no TLS without -Z", mode, addr)
	}
	host, port := listenHost(addr)
	port = cmp.Or(port, strconv.Itoa(max(m.port, 0)))
	if host == "*" {
		host = ""
	}
	ln, err := listenFor("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	list = append(list, memcachedEndpoint{scheme: "memcached", ln: ln})
	if err := setBacklog(ln, m.backlog); err != nil {
		return list, err
	}
	if p.certs != nil && mode != "notls" {
		conf, err := p.certs.config(mode)
		if err != nil {
			return list, err
		}
		list[0] = memcachedEndpoint{scheme: "memcacheds", ln: tls.NewListener(rawio.Listener(ln), conf)}
	}
	if m.udpPort != 0 && p.certs == nil {
		ua, err := net.ResolveUDPAddr("udp", net.JoinHostPort(host, strconv.Itoa(max(m.udpPort, 0))))
		if err != nil {
			return list, err
		}
		udp, err := net.ListenUDP("udp", ua)
		if err != nil {
			return list, err
		}
		list = append(list, memcachedEndpoint{scheme: "udp", udp: udp})
	}
	return list, nil
}

// maxUnsent is how many bytes of answers the kernel holds for a client of TCP beyond what is on its way: it would take megabytes for each that
// reads nothing, and resets connections of anybody when all that it has for TCP is used up (net.ipv4.tcp_mem).
const maxUnsent = 512 << 10

// listenFor listens for clients of a cache, by "tcp" or "unix". Connections of TCP inherit maxUnsent (tcp(7), TCP_NOTSENT_LOWAT); those of a listener
// of Multipath TCP would not. A socket that a process has left behind is replaced.
func listenFor(network, addr string) (net.Listener, error) {
	if network == "unix" {
		if err := removeStale(addr); err != nil {
			return nil, err
		}
		return net.Listen(network, addr)
	}
	conf := net.ListenConfig{Control: tcpOption(unix.TCP_NOTSENT_LOWAT, maxUnsent)}
	conf.SetMultipathTCP(false)
	return conf.Listen(context.Background(), network, addr)
}

// tcpOption sets an option of TCP, where the kernel knows it, as the Control function of a [net.ListenConfig] or [net.Dialer].
func tcpOption(name, value int) func(network, addr string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, name, value) }); e != nil {
			return e
		}
		if err == unix.ENOPROTOOPT {
			return nil
		}
		return os.NewSyscallError("setsockopt", err)
	}
}
