package memcached

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"
)

// Over UDP each datagram begins with a header of 8 bytes: request id, number of this datagram, number of datagrams, zero (protocol.txt, "UDP
// protocol").
const (
	udpHeader  = 8
	udpSize    = 1400
	udpPayload = udpSize - udpHeader
	udpMax     = 4 << 20 // bytes of an answer; more is answered by an error
)

// parseUDP splits a datagram. Requests of several datagrams are not taken, as by memcached.
func parseUDP(b []byte) (id uint16, payload []byte, ok bool) {
	if len(b) <= udpHeader {
		return 0, nil, false
	}
	return binary.BigEndian.Uint16(b), b[udpHeader:], binary.BigEndian.Uint16(b[4:]) == 1
}

// ServeUDP answers datagrams on p until the server is closed, then returns ErrServerClosed, or until p fails. Who may send to it may use it
// to send more to others than he sends himself: it is for closed networks.
func (s *Server) ServeUDP(p *net.UDPConn) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		p.Close()
		return ErrServerClosed
	}
	s.lastConn++
	s.packets[p] = s.lastConn
	s.serving.Add(1)
	s.mu.Unlock()
	defer s.serving.Done()
	defer p.Close()
	buf := make([]byte, 64<<10)
	var datagram [udpSize]byte
	for {
		n, from, err := p.ReadFromUDPAddrPort(buf)
		if err != nil {
			if s.isClosed() {
				return ErrServerClosed
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			continue // what an earlier answer met, such as a port that nobody listens on
		}
		if id, payload, ok := parseUDP(buf[:n]); ok {
			s.serveDatagram(p, from, id, payload, datagram[:])
		}
	}
}

// serveDatagram answers one. Nothing that fails is worth a word: the client asks again.
func (s *Server) serveDatagram(p *net.UDPConn, from netip.AddrPort, id uint16, payload, buf []byte) {
	w := &work{in: payload, n: len(payload), out: make([]byte, 0, udpSize)}
	c := &conn{s: s, fd: -1, nc: packetConn{p, from}, local: p.LocalAddr(), peer: net.UDPAddrFromAddrPort(from), w: w, stripe: &s.stripes[0], protocol: s.opts.Protocol, datagram: true, authed: true}
	c.stripe.n[bytesRead].Add(uint64(len(payload)))
	c.last.Store(time.Now().Unix())
	if err := c.process(); err != nil && len(w.out) == 0 {
		return
	}
	out := w.out
	if len(out) > udpMax {
		out = []byte("SERVER_ERROR out of memory writing get response\r\n")
	}
	total := (len(out) + udpPayload - 1) / udpPayload
	for seq := range total {
		part := out[seq*udpPayload : min((seq+1)*udpPayload, len(out))]
		binary.BigEndian.PutUint16(buf, id)
		binary.BigEndian.PutUint16(buf[2:], uint16(seq))
		binary.BigEndian.PutUint16(buf[4:], uint16(total))
		binary.BigEndian.PutUint16(buf[6:], 0)
		n, err := p.WriteToUDPAddrPort(buf[:udpHeader+copy(buf[udpHeader:], part)], from)
		if err != nil {
			return
		}
		c.stripe.n[bytesWritten].Add(uint64(n))
	}
}

// packetConn stands for the client of a datagram: nothing more can be read from it, and nothing is written by the commands themselves.
type packetConn struct {
	*net.UDPConn
	from netip.AddrPort
}

func (packetConn) Read([]byte) (int, error)    { return 0, errClosed }
func (packetConn) Write(p []byte) (int, error) { return len(p), nil }
func (packetConn) Close() error                { return nil }
