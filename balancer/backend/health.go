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

// Run resolves the pool's names and asks its nodes how they are, until ctx ends.
func (p *Pool) Run(ctx context.Context) {
	for {
		set := p.set.Load()
		named := false
		for _, n := range set.Nodes {
			named = named || isName(n.Addr)
		}
		if named {
			p.Resolve(ctx)
		}
		wait := set.ResolveInterval
		if set.HealthPath != "" {
			p.check(ctx, set)
			wait = set.HealthInterval
		}
		if !named && set.HealthPath == "" {
			wait = time.Second // settings may come that want something
		}
		timer := time.NewTimer(max(wait, 50*time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// check asks all nodes at once.
func (p *Pool) check(ctx context.Context, set *balancer.PoolSettings) {
	var all sync.WaitGroup
	for _, n := range p.Nodes() {
		all.Go(func() {
			err := probe(ctx, n, set)
			if ctx.Err() != nil || !n.checked(time.Now(), err, set) {
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
func probe(ctx context.Context, n *Node, set *balancer.PoolSettings) error {
	ctx, cancel := context.WithTimeout(ctx, set.HealthTimeout)
	defer cancel()
	nc, err := DialNode(ctx, n, nil)
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

// DialTLS connects to a node with TLS. The preface goes before that.
func DialTLS(ctx context.Context, n *Node, preface []byte, verify bool) (net.Conn, error) {
	nc, err := DialNode(ctx, n, preface)
	if err != nil {
		return nil, err
	}
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
