package balancerd_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// Frames of HTTP/2 (RFC 9113 §6), and their flags.
const (
	h2Data, h2Headers, h2Reset, h2Settings, h2Ping, h2GoAway = 0, 1, 3, 4, 6, 7

	h2EndStream, h2EndHeaders, h2Ack = 1, 4, 1
)

// rawHTTP2 sends one request over HTTP/2 whose fields are what they are given as, valid or not, and returns the status of the answer,
// "" when the server refused it. Only POST has the body.
func rawHTTP2(t *testing.T, addr string, fields [][2]string, body []byte) string {
	t.Helper()
	if fields[0][1] != "POST" {
		body = nil
	} else if body == nil {
		body = []byte{}
	}
	c := openHTTP2(t, addr, nil, fields, body, h2EndStream)
	defer c.Close()
	for {
		switch kind, _, p, err := readFrame(c); {
		case err != nil, kind == h2Reset, kind == h2GoAway:
			return ""
		case kind == h2Headers:
			return h2Status(p)
		}
	}
}

// stallHTTP2 sends a request over HTTP/2 and then nothing more, not even room for the answer, until it is told how its stream or its connection
// ended: the status that came, and whether the stream was reset. A body, if there is one, is not all.
func stallHTTP2(t *testing.T, addr string, fields [][2]string, body []byte) (status string, reset bool) {
	t.Helper()
	c := openHTTP2(t, addr, []byte{0, 4, 0, 0, 0x10, 0}, fields, body, 0) // SETTINGS: streams have windows of 4096 bytes
	defer c.Close()
	for {
		kind, flags, p, err := readFrame(c)
		switch {
		case err != nil:
			t.Logf("after %q: %v", status, err)
			return status, false
		case kind == h2Data && flags&h2EndStream != 0:
			return status, false
		case kind == h2Headers:
			status = h2Status(p)
		case kind == h2Reset:
			return status, true
		case kind == h2Ping && flags&h2Ack == 0:
			var pong bytes.Buffer
			frame(&pong, h2Ping, h2Ack, 0, p)
			c.Write(pong.Bytes())
		}
	}
}

// openHTTP2 connects, and sends a request. bodyFlags are those of the frame of its body; a nil one has none.
func openHTTP2(t *testing.T, addr string, settings []byte, fields [][2]string, body []byte, bodyFlags byte) net.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	var b, head bytes.Buffer
	b.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	frame(&b, h2Settings, 0, 0, settings)
	for _, f := range fields { // RFC 7541 §6.2.2: literals, not indexed, not compressed
		head.WriteByte(0)
		literal(&head, f[0])
		literal(&head, f[1])
	}
	if body == nil {
		frame(&b, h2Headers, h2EndHeaders|h2EndStream, 1, head.Bytes())
	} else {
		frame(&b, h2Headers, h2EndHeaders, 1, head.Bytes())
		frame(&b, h2Data, bodyFlags, 1, body)
	}
	c.Write(b.Bytes()) // what becomes of it is read
	return c
}

func readFrame(r io.Reader) (kind, flags byte, payload []byte, err error) {
	var h [9]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, 0, nil, err
	}
	payload = make([]byte, int(h[0])<<16|int(h[1])<<8|int(h[2]))
	_, err = io.ReadFull(r, payload)
	return h[3], h[4], payload, err
}

// h2Status is the status of an answer's fields, which is first. 200 and 400 are entries 8 and 12 of the static table (RFC 7541, appendix A).
func h2Status(fields []byte) string {
	switch fields[0] {
	case 0x88:
		return "200"
	case 0x8c:
		return "400"
	}
	return "other"
}

func frame(b *bytes.Buffer, kind, flags byte, stream uint32, payload []byte) {
	b.Write([]byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags})
	b.Write(binary.BigEndian.AppendUint32(nil, stream))
	b.Write(payload)
}

// literal writes a string without Huffman coding (RFC 7541 §5.2).
func literal(b *bytes.Buffer, s string) {
	n := len(s)
	if n < 127 {
		b.WriteByte(byte(n))
	} else {
		b.WriteByte(127)
		for n -= 127; n >= 128; n >>= 7 {
			b.WriteByte(byte(n&127 | 128))
		}
		b.WriteByte(byte(n))
	}
	b.WriteString(s)
}
