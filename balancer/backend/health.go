package backend

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// Run resolves the pool's names and asks its nodes how they are, until ctx ends. The one does not wait for the other: a name server that
// is slow must not keep sick nodes in.
func (p *Pool) Run(ctx context.Context) {
	var names sync.WaitGroup
	names.Go(func() { p.resolving(ctx) })
	p.checking(ctx)
	names.Wait()
}

// checking asks nodes how they are, until ctx ends.
func (p *Pool) checking(ctx context.Context) {
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-due:
		case <-p.wakeChecks:
		}
		due = nil
		if set := p.set.Load(); set.HealthPath != "" {
			p.check(ctx, set)
			due = time.After(max(set.HealthInterval, 50*time.Millisecond))
		}
	}
}

// check asks all nodes at once.
func (p *Pool) check(ctx context.Context, set *balancer.PoolSettings) {
	var all sync.WaitGroup
	for _, n := range p.Nodes() {
		all.Go(func() {
			err := p.probe(ctx, n, set)
			if ctx.Err() != nil || p.set.Load().HealthPath == "" || !n.checked(time.Now(), err, set) {
				return
			}
			if err != nil {
				p.log.Warn("node is sick", "addr", n.Addr, "err", err)
			} else {
				p.log.Info("node is well again", "addr", n.Addr)
				p.notify()
			}
		})
	}
	all.Wait()
}

// probe asks a node for the path that tells how it is.
func (p *Pool) probe(ctx context.Context, n *Node, set *balancer.PoolSettings) error {
	ctx, cancel := context.WithTimeout(ctx, set.HealthTimeout)
	defer cancel()
	dial, preface := p.way()
	nc, err := dial(ctx, n, preface)
	if err != nil {
		return err
	}
	c := http1.NewTransport(http1.ClientOptions{}).NewConn(nc, n.Addr, nil)
	out := &http1.OutRequest{Method: "GET", Target: set.HealthPath, Host: set.HealthHost}
	if out.Host == "" {
		out.Host = n.host()
	}
	out.Header.Set("User-Agent", "wheelhouse-health")
	res, err := c.Do(ctx, out)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if ok := res.Status == set.HealthStatus || set.HealthStatus == 0 && res.Status >= 200 && res.Status < 400; !ok {
		return fmt.Errorf("health check was answered with %d", res.Status)
	}
	return nil
}

// way is how a service that uses the pool connects to its nodes, with TLS or a PROXY header if it does: a check that went another would
// find them all sick. The header is that of a connection which nobody is behind.
func (p *Pool) way() (Dialer, []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queues) == 0 {
		return DialNode, nil
	}
	q := p.queues[0]
	switch q.set.Load().SendProxyProtocol {
	case 1:
		return q.dial, []byte("PROXY UNKNOWN\r\n")
	case 2: // LOCAL, without addresses
		return q.dial, []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
	}
	return q.dial, nil
}

// DialNode connects to a node, without TLS.
func DialNode(ctx context.Context, n *Node, preface []byte) (net.Conn, error) {
	if path, ok := strings.CutPrefix(n.Addr, processPrefix); ok {
		return dialProcess(ctx, path)
	}
	var d net.Dialer
	network, addr := "tcp", n.Addr
	if path, ok := strings.CutPrefix(n.Addr, "unix:"); ok {
		network, addr = "unix", path
	}
	nc, err := d.DialContext(ctx, network, addr)
	if err == nil && preface != nil {
		if _, err = nc.Write(preface); err != nil {
			nc.Close()
		}
	}
	return nc, err
}

// StartTLS begins TLS on a connection to a node. With an error the connection is closed.
func StartTLS(ctx context.Context, nc net.Conn, n *Node, verify bool) (net.Conn, error) {
	host := n.host()
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	tc := tls.Client(nc, &tls.Config{ServerName: host, InsecureSkipVerify: !verify, NextProtos: []string{"http/1.1"}})
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return tc, nil
}
