package main

import (
	"errors"
	"net"
	"sync"
	"time"
)

// proxy stands before a storage node, as the network between it and the others, and can be broken like one.
type proxy struct {
	ln     net.Listener
	target string

	mu    sync.Mutex // guards what follows
	mode  netMode
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

func newProxy(target string) (*proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{ln: ln, target: target, conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

func (p *proxy) set(m netMode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
	if m == netCut {
		p.cutAll()
	}
}

func (p *proxy) cutAll() {
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) now() netMode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

func (p *proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if p.now() == netCut {
			_ = c.Close()
			continue
		}
		p.wg.Go(func() { p.carry(c) })
	}
}

func (p *proxy) carry(c net.Conn) {
	defer p.forget(c)
	p.remember(c)
	t, err := net.DialTimeout("tcp", p.target, 2*time.Second)
	if err != nil {
		return
	}
	defer p.forget(t)
	p.remember(t)
	var both sync.WaitGroup
	both.Go(func() { p.pipe(t, c) })
	both.Go(func() { p.pipe(c, t) })
	both.Wait()
}

func (p *proxy) remember(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = struct{}{}
}

func (p *proxy) forget(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// pipe copies one way, as well as the network is at the moment.
func (p *proxy) pipe(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		for sent := 0; sent < n; {
			piece := n - sent
			switch p.now() {
			case netSilent:
				time.Sleep(50 * time.Millisecond)
				continue
			case netSlow:
				piece = min(piece, slowRate/20)
				time.Sleep(50 * time.Millisecond)
			}
			if _, err := to.Write(buf[sent : sent+piece]); err != nil {
				return
			}
			sent += piece
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) close() {
	_ = p.ln.Close()
	p.mu.Lock()
	p.mode = netCut
	p.cutAll()
	p.mu.Unlock()
	p.wg.Wait()
}
