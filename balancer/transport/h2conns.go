package transport

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// H2Conns are a front's connections that speak HTTP/2, which net/http serves. The zero value is ready for use, and safe for concurrent use.
type H2Conns struct {
	mu   sync.Mutex // guards all below
	n    int
	idle map[net.Conn]time.Time // since when
}

// changed is net/http's ConnState.
func (h *H2Conns) changed(nc net.Conn, st http.ConnState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch st {
	case http.StateNew:
		h.n++
	case http.StateClosed, http.StateHijacked:
		h.n--
	}
	if st != http.StateIdle {
		delete(h.idle, nc)
		return
	}
	if h.idle == nil {
		h.idle = map[net.Conn]time.Time{}
	}
	h.idle[nc] = time.Now()
}

// Conns implements http1.Others.
func (h *H2Conns) Conns() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n
}

// Evict closes the connection that has been idle longest.
func (h *H2Conns) Evict() {
	h.mu.Lock()
	var oldest net.Conn
	for nc, since := range h.idle {
		if oldest == nil || since.Before(h.idle[oldest]) {
			oldest = nc
		}
	}
	delete(h.idle, oldest)
	h.mu.Unlock()
	if oldest != nil {
		oldest.Close() // net/http notices
	}
}
