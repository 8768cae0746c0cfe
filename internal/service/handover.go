package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// handoverEnv names the descriptor of the socket to the process that this one takes over from.
const handoverEnv = "WHEELHOUSE_HANDOVER_FD"

// HandoverVariables are environment variables that are not configuration.
var HandoverVariables = []string{handoverEnv}

// message is what the two processes of a handover say to each other. Descriptors travel beside it.
//
//	old → new  listeners  the sockets that are listened on, and a secret
//	new → old  prepared   configuration read and found good: the old one may stop
//	old → new  conns      connections between two requests
//	old → new  go         everything is closed: the new one may open it
//	new → old  ready      it serves; the old one ends
type message struct {
	Kind  string   `json:"kind"`
	Names []string `json:"names,omitempty"` // one for each descriptor: the endpoint that it belongs to
	// Secret travels with the listeners: what the new process is to know and nobody else, so it stands in no file, log or environment. One
	// that does not know it passes it over.
	Secret []byte `json:"secret,omitempty"`
}

const (
	// fdsPerMessage stays below SCM_MAX_FD, which is 253 on Linux.
	fdsPerMessage  = 128
	maxMessage     = 64 << 10
	maxSecret      = 16 << 10 // bytes, a third more as JSON: it leaves room for the names
	prepareTimeout = 30 * time.Second
	readyTimeout   = 5 * time.Minute // opening disks can take long after a crash
)

// link is one end of the socket between the two processes. It is a SOCK_SEQPACKET, so that messages keep their bounds.
type link struct{ c *net.UnixConn }

func newLink(f *os.File) (*link, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("handover socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, errors.New("handover socket: not a unix socket")
	}
	return &link{u}, nil
}

func (l *link) send(m message, files ...*os.File) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			if fds[i], err = descriptor(f); err != nil {
				return fmt.Errorf("handover: send %s: %w", m.Kind, err)
			}
		}
		rights = syscall.UnixRights(fds...)
	}
	if _, _, err := l.c.WriteMsgUnix(text, rights, nil); err != nil {
		return fmt.Errorf("handover: send %s: %w", m.Kind, err)
	}
	return nil
}

// descriptor is the number of f. f.Fd would do, but it makes the descriptor blocking, and with it the listener or connection
// that f is a duplicate of.
func descriptor(f *os.File) (fd int, err error) {
	c, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = c.Control(func(n uintptr) { fd = int(n) })
	return fd, err
}

// receive reads one message and the descriptors that came with it.
func (l *link) receive(timeout time.Duration) (message, []*os.File, error) {
	_ = l.c.SetReadDeadline(time.Now().Add(timeout)) // it fails only on a closed socket, which the read reports
	text, oob := make([]byte, maxMessage), make([]byte, syscall.CmsgSpace(4*fdsPerMessage))
	n, oobn, _, _, err := l.c.ReadMsgUnix(text, oob)
	if err != nil {
		return message{}, nil, fmt.Errorf("handover: %w", err)
	}
	if n == 0 {
		return message{}, nil, errors.New("handover: the other process has ended")
	}
	var m message
	if err := json.Unmarshal(text[:n], &m); err != nil {
		return m, nil, fmt.Errorf("handover: %w", err)
	}
	files, err := parseFiles(oob[:oobn])
	if err == nil && len(files) != len(m.Names) {
		err = fmt.Errorf("handover: %d descriptors came for %d names", len(files), len(m.Names))
	}
	return m, files, err
}

func parseFiles(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	controls, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("handover: %w", err)
	}
	var files []*os.File
	for i := range controls {
		fds, err := syscall.ParseUnixRights(&controls[i])
		if err != nil {
			return nil, fmt.Errorf("handover: %w", err)
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	return files, nil
}

// expect reads one message of a kind.
func (l *link) expect(kind string, timeout time.Duration) (message, []*os.File, error) {
	m, files, err := l.receive(timeout)
	if err == nil && m.Kind != kind {
		err = fmt.Errorf("handover: %q came, %q was expected", m.Kind, kind)
	}
	return m, files, err
}

// predecessor is the process that this one takes over from.
type predecessor struct {
	*link
	listeners map[string]net.Listener
	secret    []byte // nil: none
}

// inherit finds the predecessor that started this process; nil when it was started in the ordinary way.
func inherit() (*predecessor, error) {
	v := os.Getenv(handoverEnv)
	if v == "" {
		return nil, nil
	}
	if err := os.Unsetenv(handoverEnv); err != nil {
		return nil, err
	}
	fd, err := strconv.Atoi(v)
	if err != nil {
		return nil, fmt.Errorf("%s is not a number: %q", handoverEnv, v)
	}
	syscall.CloseOnExec(fd)
	l, err := newLink(os.NewFile(uintptr(fd), "handover"))
	if err != nil {
		return nil, err
	}
	m, files, err := l.expect("listeners", prepareTimeout)
	if err != nil {
		return nil, err
	}
	p := &predecessor{link: l, listeners: map[string]net.Listener{}, secret: m.Secret}
	for i, f := range files {
		ln, err := net.FileListener(f)
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("handover: listener %s: %w", m.Names[i], err)
		}
		p.listeners[m.Names[i]] = ln
	}
	return p, nil
}

// takeOver tells the predecessor to stop, and returns when it has, with the connections that it leaves.
func (p *predecessor) takeOver(drain time.Duration) (map[string][]net.Conn, error) {
	if err := p.send(message{Kind: "prepared"}); err != nil {
		return nil, err
	}
	conns := map[string][]net.Conn{}
	for {
		m, files, err := p.receive(drain + prepareTimeout)
		if err != nil {
			return conns, err
		}
		if m.Kind == "go" {
			return conns, nil
		}
		for i, f := range files {
			c, err := net.FileConn(f)
			_ = f.Close()
			if err != nil {
				continue // the client has closed it in the meantime
			}
			conns[m.Names[i]] = append(conns[m.Names[i]], c)
		}
	}
}

// successor is a new process that is to take over from this one.
type successor struct {
	*link
	cmd    *exec.Cmd
	exited chan struct{}
}

// startSuccessor starts this program again with the same arguments and hands it the listeners and a secret. It returns when the
// new process has read its configuration and found it good, or with an error that says why it has not.
func startSuccessor(names []string, listeners []net.Listener, secret []byte) (*successor, error) {
	if len(secret) > maxSecret {
		return nil, fmt.Errorf("handover: a secret of %d bytes; %d are the most", len(secret), maxSecret)
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("handover: socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "handover")
	l, err := newLink(os.NewFile(uintptr(fds[0]), "handover"))
	if err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	program, err := os.Executable()
	if err != nil {
		return nil, errors.Join(err, theirs.Close(), l.c.Close())
	}
	s := &successor{link: l, cmd: exec.Command(program, os.Args[1:]...), exited: make(chan struct{})}
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	s.cmd.ExtraFiles = []*os.File{theirs} // becomes descriptor 3
	s.cmd.Env = append(os.Environ(), handoverEnv+"=3")
	err = s.cmd.Start()
	_ = theirs.Close() // the new process has its own; with this one open its end would not be noticed
	if err != nil {
		_ = l.c.Close()
		return nil, fmt.Errorf("handover: start %s: %w", program, err)
	}
	go func() {
		_ = s.cmd.Wait() // its own log says why it ended
		close(s.exited)
	}()
	if err := s.sendListeners(names, listeners, secret); err != nil {
		s.kill()
		return nil, err
	}
	if _, _, err := s.expect("prepared", prepareTimeout); err != nil {
		s.kill()
		return nil, fmt.Errorf("the new process did not get ready to take over: %w", err)
	}
	return s, nil
}

func (s *successor) sendListeners(names []string, listeners []net.Listener, secret []byte) error {
	files := make([]*os.File, 0, len(listeners))
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	for _, ln := range listeners {
		f, err := fileOf(ln)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	return s.send(message{Kind: "listeners", Names: names, Secret: secret}, files...)
}

// handOver gives the successor the connections that are between two requests, and everything else.
func (s *successor) handOver(conns map[string][]net.Conn) error {
	for name, list := range conns {
		for len(list) > 0 {
			n := min(len(list), fdsPerMessage)
			if err := s.sendConns(name, list[:n]); err != nil {
				return err
			}
			list = list[n:]
		}
	}
	return s.send(message{Kind: "go"})
}

func (s *successor) sendConns(name string, conns []net.Conn) error {
	m := message{Kind: "conns"}
	var files []*os.File
	for _, c := range conns {
		f, err := fileOf(c)
		if err != nil {
			continue // it is broken already
		}
		files = append(files, f)
		m.Names = append(m.Names, name)
	}
	err := s.send(m, files...)
	for i := range files {
		_ = files[i].Close()
	}
	return err
}

// waitReady returns when the successor serves, or has failed to.
func (s *successor) waitReady() error {
	_, _, err := s.expect("ready", readyTimeout)
	return err
}

func (s *successor) kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
	_ = s.c.Close()
}

func fileOf(v any) (*os.File, error) {
	f, ok := v.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("handover: a %T has no descriptor", v)
	}
	return f.File()
}
