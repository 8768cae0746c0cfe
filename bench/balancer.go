package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"wheelhouse/internal/freeport"
)

// balancerRows are the lines that measure the balancer, each beside who does the same.
func balancerRows() []line {
	return []line{
		{[]string{"proxy-10k-nginx", "proxy-10k-haproxy", "proxy-10k-perlbal"}, proxy10k},
		{[]string{"proxy-1m-haproxy"}, proxy1m},
		{[]string{"proxy-reproxy"}, proxyReproxy},
		{[]string{"web-10k"}, web10k},
		{[]string{"proxy-tls"}, proxyTLS},
		{[]string{"proxy-idle"}, proxyIdle},
	}
}

// The nodes that all proxies in a comparison stand before: nginx, with the files.
type proxied struct {
	set   *fileSet
	nodes *peerServer
	addr  string // of nodes
}

// newProxied writes n files of a size, and serves them.
func (l *lab) newProxied(ctx context.Context, name string, n, size int) (*proxied, error) {
	dir, err := l.mkdir(name)
	if err != nil {
		return nil, err
	}
	p := &proxied{set: &fileSet{root: dir, n: n, size: size}}
	for i := range n {
		if err := p.set.writeFile(i); err != nil {
			return nil, err
		}
	}
	if p.nodes, err = l.startNginx(ctx, dir); err != nil {
		return nil, err
	}
	p.addr = strings.TrimPrefix(p.nodes.url, "http://")
	return p, nil
}

// startBalancer runs ours with a configuration in which ADDR stands for its own address.
func (l *lab) startBalancer(ctx context.Context, conf string) (*peerServer, error) {
	dir, err := l.mkdir("balancer")
	if err != nil {
		return nil, err
	}
	return l.startProxy(ctx, dir, "perlbal.conf", conf, func(file string) (*child, error) {
		return l.start(l.bin, "balancer", "--config", file)
	})
}

// startProxy writes a configuration, starts what reads it, and waits until it answers. https is for one that speaks TLS.
func (l *lab) startProxy(ctx context.Context, dir, name, conf string, start func(file string) (*child, error)) (*peerServer, error) {
	addr, err := freeport.Addr()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(conf, "ADDR", addr)), 0o600); err != nil {
		return nil, err
	}
	c, err := start(file)
	if err != nil {
		return nil, err
	}
	p := &peerServer{url: "http://" + addr}
	if strings.Contains(conf, "ssl") {
		p.url = "https://" + addr
	}
	if err := p.waitReady(ctx, c); err != nil {
		return nil, err
	}
	p.pids, err = withChildren(c.pid())
	return p, err
}

// ourProxy is our configuration as a reverse proxy; more are further lines.
func ourProxy(node, more string) string {
	return "CREATE POOL p\nPOOL p ADD " + node + "\nCREATE SERVICE rp\nSET role = reverse_proxy\nSET listen = ADDR\nSET pool = p\n" +
		"SET persist_client = on\nSET persist_backend = on\nSET backend_persist_cache = 100\n" + more + "ENABLE rp\n"
}

// nginxProxy is nginx as one would tune it to the same end. http are further lines of its http block, server of its server's.
func (l *lab) nginxProxy(ctx context.Context, node, http, server, listen string) (*peerServer, error) {
	dir, err := l.mkdir("nginx-proxy")
	if err != nil {
		return nil, err
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n"
	}
	conf := user + `worker_processes 2;
daemon off;
pid DIR/nginx.pid;
error_log DIR/error.log warn;
events { worker_connections 20000; }
http {
	access_log off;
	keepalive_requests 1000000000;
	keepalive_timeout 10m;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	upstream nodes { server ` + node + `; keepalive 100; keepalive_requests 1000000000; }
	` + http + `
	server {
		listen ADDR ` + listen + `;
		proxy_http_version 1.1;
		proxy_set_header Connection "";
		` + server + `
	}
}
`
	return l.startProxy(ctx, dir, "nginx.conf", strings.ReplaceAll(conf, "DIR", dir), func(file string) (*child, error) {
		return l.start("nginx", "-c", file, "-p", dir, "-e", filepath.Join(dir, "error.log"))
	})
}

// haproxy is HAProxy with two threads and splice.
func (l *lab) haproxy(ctx context.Context, node string) (*peerServer, error) {
	dir, err := l.mkdir("haproxy")
	if err != nil {
		return nil, err
	}
	conf := "global\n maxconn 4000\n nbthread 2\n tune.pipesize 1048576\ndefaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n" +
		" option splice-auto\n http-reuse always\nfrontend f\n bind ADDR\n default_backend b\nbackend b\n server s " + node + "\n"
	return l.startProxy(ctx, dir, "haproxy.cfg", conf, func(file string) (*child, error) { return l.start("haproxy", "-db", "-f", file) })
}

// perlbal is Debian's perlbal with our configuration.
func (l *lab) perlbal(ctx context.Context, node string) (*peerServer, error) {
	dir, err := l.mkdir("perlbal")
	if err != nil {
		return nil, err
	}
	return l.startProxy(ctx, dir, "perlbal.conf", ourProxy(node, ""), func(file string) (*child, error) {
		return l.start("perlbal", "--config="+file)
	})
}

// compare has wrk ask ours and a peer for the same files.
func (l *lab) compare(ctx context.Context, name string, p *proxied, ours, peer *peerServer, target *Target, who string) (Result, error) {
	for _, s := range []*peerServer{ours, peer} {
		if err := p.set.check(ctx, s.url, p.set.n-1); err != nil {
			return Result{}, err
		}
	}
	g, err := l.newGenerator(p.set, wrkThreads, getConns)
	if err != nil {
		return Result{}, err
	}
	side := func(s *peerServer) side {
		return func(ctx context.Context, round int) (reading, error) {
			return g.measure(ctx, s.url, s.pids, l.span(time.Duration(3+min(round, 0))*time.Second))
		}
	}
	d, err := alternate(ctx, l.opt.rounds, side(ours), side(peer))
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", who, err)
	}
	return Result{
		Name: name, Target: target, Ratio: d.ratio(rateOf), Rounds: d,
		Ours: Figure{median(over(d.Ours, rateOf)), "GET/s"}, Peer: Figure{median(over(d.Peer, rateOf)), "GET/s"},
		Notes: []string{fmt.Sprintf("%d bytes, wrk -t%d -c%d; peer: %s", p.set.size, wrkThreads, getConns, who), d.cpuNote("GET"), d.timeNote()},
	}, nil
}

func proxy10k(ctx context.Context, l *lab) ([]Result, error) {
	p, err := l.newProxied(ctx, "proxy-10k", 500, 10<<10)
	if err != nil {
		return nil, err
	}
	ours, err := l.startBalancer(ctx, ourProxy(p.addr, ""))
	if err != nil {
		return nil, err
	}
	var rows []Result
	for _, peer := range []struct {
		name   string
		target float64
		start  func() (*peerServer, error)
		who    string
	}{
		{"nginx", 1, func() (*peerServer, error) {
			return l.nginxProxy(ctx, p.addr, "", "location / { proxy_pass http://nodes; }", "")
		}, "nginx, 2 workers, keepalive"},
		{"haproxy", 1, func() (*peerServer, error) { return l.haproxy(ctx, p.addr) }, "HAProxy, 2 threads, splice-auto, http-reuse always"},
		{"perlbal", 8, func() (*peerServer, error) { return l.perlbal(ctx, p.addr) }, "Debian's perlbal, the same configuration"},
	} {
		s, err := peer.start()
		if err != nil {
			return rows, fmt.Errorf("%s: %w", peer.name, err)
		}
		r, err := l.compare(ctx, "proxy-10k-"+peer.name, p, ours, s, atLeast(peer.target), peer.who)
		if err != nil {
			return rows, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func proxy1m(ctx context.Context, l *lab) ([]Result, error) {
	p, err := l.newProxied(ctx, "proxy-1m", 32, 1<<20)
	if err != nil {
		return nil, err
	}
	ours, err := l.startBalancer(ctx, ourProxy(p.addr, ""))
	if err != nil {
		return nil, err
	}
	peer, err := l.haproxy(ctx, p.addr)
	if err != nil {
		return nil, err
	}
	r, err := l.compare(ctx, "proxy-1m-haproxy", p, ours, peer, atLeast(1), "HAProxy, 2 threads, splice-auto")
	return []Result{r}, err
}

// proxyReproxy asks an application that names where the file is.
func proxyReproxy(ctx context.Context, l *lab) ([]Result, error) {
	p, err := l.newProxied(ctx, "proxy-reproxy", 500, 10<<10)
	if err != nil {
		return nil, err
	}
	app, err := l.nginxProxy(ctx, p.addr, "", `location / {
			add_header X-REPROXY-URL "http://`+p.addr+`$uri" always;
			add_header X-Accel-Redirect "/internal$uri" always;
			return 200;
		}`, "")
	if err != nil {
		return nil, err
	}
	node := strings.TrimPrefix(app.url, "http://")
	ours, err := l.startBalancer(ctx, ourProxy(node, "SET enable_reproxy = on\n"))
	if err != nil {
		return nil, err
	}
	peer, err := l.nginxProxy(ctx, node, "upstream files { server "+p.addr+"; keepalive 100; keepalive_requests 1000000000; }",
		"location / { proxy_pass http://nodes; }\nlocation /internal/ { internal; proxy_pass http://files/; }", "")
	if err != nil {
		return nil, err
	}
	r, err := l.compare(ctx, "proxy-reproxy", p, ours, peer, atLeast(1), "nginx, X-Accel-Redirect to a proxy_pass")
	return []Result{r}, err
}

func web10k(ctx context.Context, l *lab) ([]Result, error) {
	p, err := l.newProxied(ctx, "web-10k", 2000, 10<<10)
	if err != nil {
		return nil, err
	}
	ours, err := l.startBalancer(ctx, "CREATE SERVICE web\nSET role = web_server\nSET listen = ADDR\nSET docroot = "+p.set.root+"\nSET persist_client = on\nENABLE web\n")
	if err != nil {
		return nil, err
	}
	r, err := l.compare(ctx, "web-10k", p, ours, p.nodes, atLeast(0.95), "nginx, open_file_cache, sendfile, 2 workers")
	return []Result{r}, err
}

func proxyTLS(ctx context.Context, l *lab) ([]Result, error) {
	p, err := l.newProxied(ctx, "proxy-tls", 500, 10<<10)
	if err != nil {
		return nil, err
	}
	cert, key := filepath.Join(p.set.root, "cert.pem"), filepath.Join(p.set.root, "key.pem")
	out, err := exec.CommandContext(ctx, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
		"-out", cert, "-days", "2", "-subj", "/CN=bench").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("openssl: %w: %s", err, out)
	}
	ours, err := l.startBalancer(ctx, ourProxy(p.addr, "SET enable_ssl = on\nSET ssl_cert_file = "+cert+"\nSET ssl_key_file = "+key+"\n"))
	if err != nil {
		return nil, err
	}
	peer, err := l.nginxProxy(ctx, p.addr, "", "ssl_certificate "+cert+";\nssl_certificate_key "+key+";\nlocation / { proxy_pass http://nodes; }", "ssl")
	if err != nil {
		return nil, err
	}
	r, err := l.compare(ctx, "proxy-tls", p, ours, peer, atLeast(0.8), "nginx, TLS 1.3 by OpenSSL, connections kept")
	return []Result{r}, err
}

// proxyIdleConns are as many as a process with 20 000 descriptors can have on both sides.
const proxyIdleConns = 15000

// proxyIdle measures what a client's connection costs that has asked once and waits.
func proxyIdle(ctx context.Context, l *lab) ([]Result, error) {
	p, err := l.newProxied(ctx, "proxy-idle", 1, 10<<10)
	if err != nil {
		return nil, err
	}
	ours, err := l.startBalancer(ctx, ourProxy(p.addr, "SET persist_client_idle_timeout = 600\n"))
	if err != nil {
		return nil, err
	}
	peer, err := l.nginxProxy(ctx, p.addr, "", "location / { proxy_pass http://nodes; }", "")
	if err != nil {
		return nil, err
	}
	n := proxyIdleConns
	if l.opt.quick {
		n /= 10
	}
	var per [2]float64
	for i, s := range []*peerServer{ours, peer} {
		if per[i], err = idleCost(ctx, s, p.set, n); err != nil {
			return nil, err
		}
	}
	return []Result{{
		Name: "proxy-idle" + l.reduced(n, proxyIdleConns), Ours: Figure{per[0], "B/connection"}, Peer: Figure{per[1], "B/connection"},
		Target: atMost(10<<10, "B/connection"), Notes: []string{fmt.Sprintf("growth of VmRSS by %d connections that have asked once; peer: nginx", n)},
	}}, nil
}

// idleCost is by how much the memory of a server's processes grows for each of n connections.
func idleCost(ctx context.Context, s *peerServer, set *fileSet, n int) (float64, error) {
	rss := func() (sum int64, err error) {
		for _, pid := range s.pids {
			m, err := readMemory(pid)
			if err != nil {
				return 0, err
			}
			sum += m.RSS
		}
		return sum, nil
	}
	if err := set.check(ctx, s.url, 0); err != nil {
		return 0, err
	}
	before, err := rss()
	if err != nil {
		return 0, err
	}
	conns := make([]net.Conn, 0, n)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	request := "GET /" + bucket + "/" + set.name(0) + " HTTP/1.1\r\nHost: a\r\n\r\n"
	buf := make([]byte, 32<<10)
	for range n {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			return 0, err
		}
		conns = append(conns, c)
		if _, err := io.WriteString(c, request); err != nil {
			return 0, err
		}
		for got := 0; got < set.size; { // the head makes it more
			m, err := c.Read(buf)
			if err != nil {
				return 0, err
			}
			got += m
		}
	}
	after, err := rss()
	return float64(after-before) / float64(n), err
}

// insecure asks servers whose certificates nobody vouches for.
var insecure = &http.Client{Transport: &http.Transport{TLSClientConfig: insecureTLS()}}
