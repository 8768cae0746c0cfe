package gearman

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"wheelhouse/gearman/packet"
)

// DefaultPort is where job servers listen.
const DefaultPort = "4730"

// readPacket reads one packet from the server. The data is the caller's.
func readPacket(r *bufio.Reader, limit int64) (packet.Type, []byte, error) {
	var head [packet.HeaderSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	h := packet.ParseHeader(head[:])
	switch {
	case h.Magic != packet.Res || !h.Type.Known():
		return 0, nil, fmt.Errorf("gearman: job server sent what is no packet of the protocol: % x", head)
	case int64(h.Size) > limit:
		return 0, nil, fmt.Errorf("gearman: job server sent a %v of %d bytes: the limit is %d", h.Type, h.Size, limit)
	case h.Size == 0:
		return h.Type, nil, nil
	}
	data := make([]byte, h.Size)
	_, err := io.ReadFull(r, data)
	return h.Type, data, err
}

// dialer opens connections to job servers.
type dialer struct {
	timeout time.Duration
	tls     *tls.Config
}

// normalize gives an address its port, and leaves "unix:PATH" alone.
func normalize(addr string) string {
	if strings.HasPrefix(addr, "unix:") {
		return addr
	}
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), DefaultPort)
}

func (d dialer) dial(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	network := "tcp"
	target := addr
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, target = "unix", path
	}
	nd := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	nc, err := nd.DialContext(ctx, network, target)
	if err != nil || d.tls == nil {
		return nc, err
	}
	conf := d.tls.Clone()
	if conf.ServerName == "" && network == "tcp" {
		conf.ServerName, _, _ = net.SplitHostPort(target)
	}
	tc := tls.Client(nc, conf)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return tc, nil
}
