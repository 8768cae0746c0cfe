package http1

import (
	"context"
	"sync"
)

// connContext is the context of a server's connection. One exchange at a time with another server can watch it, as a proxy's does for
// each request, at the price of two locks; context.AfterFunc would make and forget a context of its own each time.
type connContext struct {
	context.Context

	mu      sync.Mutex // guards all below
	watcher *clientConn
}

func newConnContext(parent context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	c := &connContext{Context: ctx}
	stop := context.AfterFunc(ctx, c.fire)
	return c, func(cause error) {
		here := stop() // no goroutine is needed for it
		cancel(cause)
		if here {
			c.fire()
		}
	}
}

// watch has cc interrupted when the context ends. It is false when another exchange watches already, or the context has ended.
func (c *connContext) watch(cc *clientConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watcher != nil || c.Err() != nil {
		return false
	}
	c.watcher = cc
	return true
}

// leave ends the watch. It is false when cc has been, or is about to be, interrupted.
func (c *connContext) leave(cc *clientConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watcher != cc {
		return false
	}
	c.watcher = nil
	return true
}

// fire runs when the context has ended.
func (c *connContext) fire() {
	c.mu.Lock()
	cc := c.watcher
	c.watcher = nil
	c.mu.Unlock()
	if cc != nil {
		cc.interrupt()
	}
}
