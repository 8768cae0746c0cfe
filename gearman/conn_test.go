package gearman

import (
	"errors"
	"net"
	"testing"

	"wheelhouse/gearman/packet"
)

// hastyConn is a connection to a server that answers and goes away before the client is back from writing its request.
type hastyConn struct {
	net.Conn // the client's end
	server   net.Conn
	answer   []byte
	read     <-chan struct{} // closed when the client has read to the end
}

func (h *hastyConn) Write(p []byte) (int, error) {
	if _, err := h.server.Write(h.answer); err != nil {
		return 0, err
	}
	if err := h.server.Close(); err != nil {
		return 0, err
	}
	<-h.read
	return len(p), nil
}

func newHastyConn(answer []byte) *conn {
	client, server := net.Pipe()
	h := &hastyConn{Conn: client, server: server, answer: answer}
	c := newConn("hasty:4730", newOutbox(h), 1<<20)
	h.read = c.done
	go c.read()
	return c
}

// What the server has answered counts, even if the connection was lost before the request's write returned.
func TestAnswerBeforeTheEnd(t *testing.T) {
	c := newHastyConn(packet.Append(nil, packet.Res, packet.JobCreated, "H:x:1"))
	a, err := c.ask(t.Context(), func(buf []byte) []byte { return packet.Append(buf, packet.Req, packet.SubmitJobBG, "f", "", "") })
	if err != nil || a.typ != packet.JobCreated || string(a.args[0]) != "H:x:1" {
		t.Errorf("ask = %v %q, %v; want H:x:1", a.typ, a.args, err)
	}
	if _, err := c.ask(t.Context(), func(buf []byte) []byte { return buf }); !errors.Is(err, ErrDisconnected) {
		t.Errorf("next: err = %v; want ErrDisconnected", err)
	}
}

func TestRefusalBeforeTheEnd(t *testing.T) {
	c := newHastyConn(packet.Append(nil, packet.Res, packet.Error, "QUEUE_ERROR", "Job queue is full"))
	_, err := c.start(t.Context(), &Job{Func: "f"})
	if se, ok := errors.AsType[*ServerError](err); !ok || se.Code != "QUEUE_ERROR" {
		t.Errorf("err = %v; want QUEUE_ERROR", err)
	}
}
