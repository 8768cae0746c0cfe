package service

import (
	"errors"
	"net"
	"os"
)

// Upgrade, Inherit and what belongs to them are the handover for processes that share nothing but their sockets, such as a balancer:
// the new process serves before the old one stops, so that nobody waits for what the old one still has to finish.
//
//	old → new  listeners  the sockets that are listened on, and a secret
//	new → old  prepared   the new one serves: the old one stops accepting
//	old → new  conns      connections between two requests, as they become so
//	old → new  go         there are no more
//	new → old  ready      the last has been taken over; the old one ends

// Successor is the process that takes over from this one.
type Successor struct{ s *successor }

// Upgrade starts this program again with the same arguments and hands it the listeners, each with a name that is unique, and a secret of
// 16 KiB at most, which goes through memory alone. It returns when the new process serves, or with the reason why it does not; then
// nothing has changed.
func Upgrade(names []string, listeners []net.Listener, secret []byte) (*Successor, error) {
	s, err := startSuccessor(names, listeners, secret)
	if err != nil {
		return nil, err
	}
	return &Successor{s}, nil
}

// PID is that of the new process.
func (s *Successor) PID() int { return s.s.cmd.Process.Pid }

// Give passes on a connection that waits for its next request, and closes it here.
func (s *Successor) Give(name string, nc net.Conn) error {
	return errors.Join(s.s.sendConns(name, []net.Conn{nc}), nc.Close())
}

// Finish tells the new process that nothing more comes, and waits until it has taken everything.
func (s *Successor) Finish() error {
	if err := s.s.send(message{Kind: "go"}); err != nil {
		return err
	}
	return s.s.waitReady()
}

// Inherited is what this process has from the one that started it to take over.
type Inherited struct{ p *predecessor }

// Inherit finds it; nil when this process was started in the ordinary way.
func Inherit() (*Inherited, error) {
	p, err := inherit()
	if p == nil || err != nil {
		return nil, err
	}
	return &Inherited{p}, nil
}

// Listener takes a listener by its name; nil when there is none.
func (i *Inherited) Listener(name string) net.Listener {
	if i == nil {
		return nil
	}
	ln := i.p.listeners[name]
	delete(i.p.listeners, name)
	return ln
}

// Secret is what the old process has told this one alone; nil when that is nothing.
func (i *Inherited) Secret() []byte {
	if i == nil {
		return nil
	}
	return i.p.secret
}

// Serving tells the old process that this one serves, and closes the listeners that nobody took.
func (i *Inherited) Serving() error {
	for _, ln := range i.p.listeners {
		_ = ln.Close()
	}
	return i.p.send(message{Kind: "prepared"})
}

// Adopt gives the old process's connections to whom they belong, until there are no more. It ends when the old process does.
func (i *Inherited) Adopt(give func(name string, nc net.Conn)) error {
	defer i.p.c.Close()
	for {
		m, files, err := i.p.receive(readyTimeout)
		if err != nil {
			return err
		}
		if m.Kind == "go" {
			return i.p.send(message{Kind: "ready"})
		}
		adopt(m.Names, files, give)
	}
}

func adopt(names []string, files []*os.File, give func(name string, nc net.Conn)) {
	for n, f := range files {
		nc, err := net.FileConn(f)
		_ = f.Close()
		if err == nil { // else the client has closed it in the meantime
			give(names[n], nc)
		}
	}
}
