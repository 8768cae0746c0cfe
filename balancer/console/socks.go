package console

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wheelhouse/balancer"
	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/config"
)

// sock is one line of "socks". perlbal-check takes such lines apart: their form is an interface.
type sock struct {
	fd           int
	age          time.Duration
	class, state string
	service      string
	text         string // what follows the class
}

// socks is SOCKS [all|summary].
func (c *Console) socks(b *balancerd.Balancer, cmd config.Command) ([]string, error) {
	switch mode := strings.ToLower(cmd.Args); {
	case mode == "summary":
		return c.summary(b), nil
	case mode != "" && mode != "all":
		if strings.Contains(mode, " ") {
			return nil, badSyntax(cmd.Verb)
		}
		return nil, nil // as Perlbal: a mode that does not exist shows nothing
	}
	lines := []string{fmt.Sprintf("%5s %6s", "fd", "age")}
	for _, s := range c.list(b, descriptors()) {
		lines = append(lines, fmt.Sprintf("%5d %5ds Perlbal::%s(R): %s", s.fd, seconds(s.age), s.class, s.text))
	}
	return lines, nil
}

func (c *Console) summary(b *balancerd.Balancer) (lines []string) {
	fds := descriptors()
	count := map[string]int{}
	for _, s := range c.list(b, fds) {
		count[s.class]++
	}
	for _, class := range slices.Sorted(keysOf(count)) {
		lines = append(lines, fmt.Sprintf("%5d Perlbal::%s", count[class], class))
	}
	return append(lines, fmt.Sprintf("Aggregate write buffer: %.1fk", float64(fds.unsent)/1024), fmt.Sprintf("            Open files: %d", fds.files))
}

// states is STATES [service].
func (c *Console) states(b *balancerd.Balancer, cmd config.Command) (lines []string, err error) {
	only := strings.ToLower(cmd.Args)
	if only != "" && b.Service(only) == nil {
		return nil, config.Fault("Service not found.")
	}
	count := map[string]int{}
	for _, s := range c.list(b, sockets{}) {
		if s.state != "" && (only == "" || s.service == only) {
			count["Perlbal::"+s.class+" "+s.state]++
		}
	}
	for _, k := range slices.Sorted(keysOf(count)) {
		lines = append(lines, fmt.Sprintf("%s %d", k, count[k]))
	}
	return lines, nil
}

// list is all sockets, by descriptor.
func (c *Console) list(b *balancerd.Balancer, fds sockets) (list []sock) {
	for _, s := range b.Services() {
		if a := s.Addr(); a != nil {
			class := "TCPListener"
			if s.Settings().Role == config.UploadTracker {
				class = "UploadListener"
			}
			list = append(list, sock{
				fd: fds.find(a, nil), age: time.Since(b.Started()), class: class, service: s.Name(),
				text: fmt.Sprintf("open: listening on %s for service '%s'", a, s.Name()),
			})
		}
		list = append(list, clients(s, fds)...)
		verifies := s.Settings().VerifyBackend
		for _, n := range s.Queue().Conns() {
			text := fmt.Sprintf("open to %s: localport=%s; uses=%d; %s", n.Addr, portOf(n.Local), n.Uses, n.State)
			if verifies {
				text += "; has_attention=" + yes(n.Uses > 0 || n.State.String() == "bored")
			}
			list = append(list, sock{fds.findText(n.Local, n.Addr), n.Age, "BackendHTTP", n.State.String(), s.Name(), text})
		}
	}
	c.mu.Lock()
	for nc, since := range c.clients {
		list = append(list, sock{
			fd: fds.find(nc.LocalAddr(), nc.RemoteAddr()), age: time.Since(since), class: "ClientManage", text: "open to " + nc.RemoteAddr().String(),
		})
	}
	c.mu.Unlock()
	slices.SortStableFunc(list, func(x, y sock) int { return cmp.Or(cmp.Compare(x.fd, y.fd), cmp.Compare(x.text, y.text)) })
	return list
}

// clients are the connections of a service's clients. Requests over HTTP/2 are listed one by one: they share connections.
func clients(s *balancerd.Service, fds sockets) (list []sock) {
	live := map[string][]balancerd.Live{}
	for _, l := range s.Live() {
		live[l.Client] = append(live[l.Client], l)
	}
	role := s.Settings().Role
	port := ""
	if a := s.Addr(); a != nil {
		port = portOf(a.String())
	}
	for _, conn := range s.Conns() {
		from := clientText(conn.Remote)
		l := balancerd.Live{Client: from}
		busy := false
		if q := live[from]; len(q) > 0 {
			l, busy = q[0], true
			live[from] = q[1:]
		}
		state := clientState(conn.State, busy, l.Phase, role)
		list = append(list, client(s, role, l, state, port, conn.Requests, fds.find(conn.Local, conn.Remote), conn.Open, busy))
	}
	for _, rest := range live {
		for _, l := range rest {
			list = append(list, client(s, role, l, clientState("handling", true, l.Phase, role), port, 1, 0, l.Age, true))
		}
	}
	return list
}

func client(s *balancerd.Service, role string, l balancerd.Live, state, port string, requests uint64, fd int, age time.Duration, busy bool) sock {
	text := "open to " + l.Client + ": localport=" + port
	if l.Observed != "" {
		text += "; observed_ip=" + l.Observed
	}
	text += "; reqs=" + strconv.FormatUint(requests, 10) + "; " + state
	if busy {
		text += "; http://" + cmp.Or(l.Host, "unknown") + l.URI
		if l.Backend != "" {
			text += "; backend=" + l.Backend
		}
		switch l.Priority {
		case balancer.High:
			text += "; highpri"
		case balancer.Low:
			text += "; lowpri"
		}
		if l.Phase == balancer.Delivering {
			text += "; responded"
		}
	}
	class := "ClientHTTPBase"
	switch {
	case role == config.ReverseProxy, l.Phase > balancer.Buffering:
		class = "ClientProxy"
	case role == config.WebServer:
		class = "ClientHTTP"
	}
	return sock{fd, age, class, state, s.Name(), text}
}

// clientState is Perlbal's name for what a client's connection does.
func clientState(engine string, busy bool, p balancer.Phase, role string) string {
	switch {
	case engine == "closing":
		return "closed"
	case !busy && engine == "idle":
		return "persist_wait"
	case !busy:
		return "reading_headers"
	}
	switch p {
	case balancer.Buffering:
		return "buffering_upload"
	case balancer.Waiting:
		return "wait_backend"
	case balancer.Asked:
		return "wait_res"
	case balancer.Delivering:
		return "xfer_res"
	}
	switch {
	case engine == "reading":
		return "buffering_request"
	case engine == "writing" && role == config.WebServer:
		return "xfer_disk"
	}
	return "xfer_resp"
}

// clientText is an address as Live has it.
func clientText(a net.Addr) string {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()).String()
	}
	return netip.AddrPortFrom(netip.IPv4Unspecified(), 0).String()
}

func portOf(addr string) string {
	if _, port, err := net.SplitHostPort(addr); err == nil {
		return port
	}
	return "0"
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// sockets are the process's descriptors, as the kernel tells.
type sockets struct {
	fd     map[string]int // by local and remote address
	unsent int            // bytes in TCP sockets that the other side has not taken in
	files  int            // regular files
}

// descriptors asks the kernel about all descriptors. One that is closed meanwhile, or opened, makes at worst a number wrong.
func descriptors() sockets {
	s := sockets{fd: map[string]int{}}
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return s
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what was read before an error will do
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		local, err := unix.Getsockname(fd)
		if err != nil {
			var st syscall.Stat_t
			if syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFREG {
				s.files++
			}
			continue
		}
		remote, err := unix.Getpeername(fd)
		if err != nil {
			s.fd[sockaddrText(local)+"|"] = fd
			continue
		}
		s.fd[sockaddrText(local)+"|"+sockaddrText(remote)] = fd
		if n, err := unix.IoctlGetInt(fd, unix.TIOCOUTQ); err == nil {
			s.unsent += n
		}
	}
	return s
}

func sockaddrText(a unix.Sockaddr) string {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port)).String()
	case *unix.SockaddrUnix:
		return a.Name
	}
	return ""
}

// find is the descriptor of a connection, or with a nil remote of a listener; 0 when there is none that fits.
func (s sockets) find(local, remote net.Addr) int {
	r := ""
	if remote != nil {
		r = addrText(remote)
	}
	return s.fd[addrText(local)+"|"+r]
}

func (s sockets) findText(local, remote string) int {
	return s.fd[local+"|"+strings.TrimPrefix(remote, "unix:")]
}

func addrText(a net.Addr) string {
	switch t := a.(type) {
	case *net.TCPAddr:
		return clientText(t)
	case *net.UnixAddr:
		return t.Name
	}
	return a.String()
}
