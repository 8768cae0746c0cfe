package http1

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

// idleWatch closes connections over which nothing has gone for too long.
type idleWatch struct {
	moved atomic.Bool
	quit  chan struct{}
}

// newIdleWatch starts a watch; nil when there is no limit.
func newIdleWatch(idle time.Duration, conns ...net.Conn) *idleWatch {
	if idle <= 0 {
		return nil
	}
	w := &idleWatch{quit: make(chan struct{})}
	go func() {
		t := time.NewTicker(idle)
		defer t.Stop()
		for {
			select {
			case <-w.quit:
				return
			case <-t.C:
			}
			if !w.moved.Swap(false) {
				for _, c := range conns {
					c.Close()
				}
				return
			}
		}
	}()
	return w
}

func (w *idleWatch) stop() {
	if w != nil {
		close(w.quit)
	}
}

// writer is c, watched. Without a watch it is c itself.
func (w *idleWatch) writer(c net.Conn) io.Writer {
	if w == nil {
		return c
	}
	return &watchedWriter{c, w}
}

type watchedWriter struct {
	c net.Conn
	w *idleWatch
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	n, err := w.c.Write(p)
	if n > 0 {
		w.w.moved.Store(true)
	}
	return n, err
}
