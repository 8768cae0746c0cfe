package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"wheelhouse/internal/freeport"
)

// nginxConf is nginx as one would tune it to serve these files as quickly as it can.
const nginxConf = `%sworker_processes 2;
daemon off;
pid %s/nginx.pid;
error_log %s/error.log warn;
events { worker_connections 1024; }
http {
	access_log off;
	sendfile on;
	tcp_nopush on;
	keepalive_requests 1000000000;
	keepalive_timeout 10m;
	open_file_cache max=20000 inactive=10m;
	open_file_cache_valid 10m;
	default_type application/octet-stream;
	client_body_temp_path %s/body;
	proxy_temp_path %s/proxy;
	fastcgi_temp_path %s/fastcgi;
	uwsgi_temp_path %s/uwsgi;
	scgi_temp_path %s/scgi;
	server { listen %s; root %s; }
}
`

// peerServer is nginx with the files of one directory.
type peerServer struct {
	url  string
	pids []int
}

// startNginx serves the files below root.
func (l *lab) startNginx(ctx context.Context, root string) (*peerServer, error) {
	dir, err := l.mkdir("nginx")
	if err != nil {
		return nil, err
	}
	addr, err := freeport.Addr()
	if err != nil {
		return nil, err
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // who else may read temporary directories
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(nginxConf, user, dir, dir, dir, dir, dir, dir, dir, addr, root)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	c, err := l.start("nginx", "-c", conf, "-p", dir, "-e", filepath.Join(dir, "error.log"))
	if err != nil {
		return nil, err
	}
	p := &peerServer{url: "http://" + addr}
	if err := p.waitReady(ctx, c); err != nil {
		return nil, err
	}
	p.pids, err = withChildren(c.pid())
	return p, err
}

// waitReady waits until nginx answers.
func (p *peerServer) waitReady(ctx context.Context, c *child) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("nginx does not answer after %v", readyWithin))
	defer cancel()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
		if err != nil {
			return err
		}
		if resp, err := insecure.Do(req); err == nil {
			return resp.Body.Close()
		}
		select {
		case <-c.exited:
			return fmt.Errorf("nginx ended: %w: %s", c.err, c.out)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}
