package balancerd_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"testing"
	"time"
)

// rawHTTP2 sends one request over HTTP/2 whose fields are what they are given as, valid or not, and returns the status of the answer,
// "" when the server refused it.
func rawHTTP2(t *testing.T, addr string, fields [][2]string, body []byte) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	var b bytes.Buffer
	b.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	frame(&b, 4, 0, 0, nil) // SETTINGS
	var head bytes.Buffer
	for _, f := range fields { // RFC 7541 §6.2.2: literals, not indexed, not compressed
		head.WriteByte(0)
		literal(&head, f[0])
		literal(&head, f[1])
	}
	end := byte(4) // END_HEADERS
	if fields[0][1] != "POST" {
		end |= 1 // END_STREAM
	}
	frame(&b, 1, end, 1, head.Bytes())
	if end&1 == 0 {
		frame(&b, 0, 1, 1, body)
	}
	if _, err := c.Write(b.Bytes()); err != nil {
		return ""
	}
	var h [9]byte
	for {
		if _, err := io.ReadFull(c, h[:]); err != nil {
			return ""
		}
		p := make([]byte, int(h[0])<<16|int(h[1])<<8|int(h[2]))
		if _, err := io.ReadFull(c, p); err != nil {
			return ""
		}
		switch h[3] {
		case 1: // HEADERS: the status is first; 200 and 400 are entries 8 and 12 of the static table (RFC 7541, appendix A)
			switch p[0] {
			case 0x88:
				return "200"
			case 0x8c:
				return "400"
			}
			return "other"
		case 3, 7: // RST_STREAM, GOAWAY
			return ""
		}
	}
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

// stallHTTP2 sends a request over HTTP/2 and then nothing more, not even room for the answer, until it is told how its stream or its connection
// ended: the status that came, and whether the stream was reset.
func stallHTTP2(t *testing.T, addr string, fields [][2]string, body []byte) (status string, reset bool) {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	var b bytes.Buffer
	b.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	frame(&b, 4, 0, 0, []byte{0, 4, 0, 0, 0x10, 0}) // SETTINGS: streams have windows of 4096 bytes
	var head bytes.Buffer
	for _, f := range fields {
		head.WriteByte(0)
		literal(&head, f[0])
		literal(&head, f[1])
	}
	if body == nil {
		frame(&b, 1, 5, 1, head.Bytes()) // END_HEADERS, END_STREAM
	} else {
		frame(&b, 1, 4, 1, head.Bytes())
		frame(&b, 0, 0, 1, body)
	}
	if _, err := c.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	var h [9]byte
	for {
		if _, err := io.ReadFull(c, h[:]); err != nil {
			t.Logf("after %q: %v", status, err)
			return status, false
		}
		p := make([]byte, int(h[0])<<16|int(h[1])<<8|int(h[2]))
		if _, err := io.ReadFull(c, p); err != nil {
			t.Fatal(err)
		}
		switch h[3] {
		case 0: // DATA
			if h[4]&1 != 0 {
				return status, false
			}
		case 1:
			status = "other"
			if p[0] == 0x88 {
				status = "200"
			}
		case 3:
			return status, true
		case 6: // PING
			if h[4]&1 == 0 {
				var pong bytes.Buffer
				frame(&pong, 6, 1, 0, p)
				c.Write(pong.Bytes())
			}
		}
	}
}
