package proxy

import (
	"io"
	"sync"

	"wheelhouse/internal/http1"
)

// pump copies what is left of a body to a client that does not keep up: one goroutine reads ahead of it as far as allowed, so that
// the backend is free as soon as it has sent everything.
func (c *call) pump(body *http1.Body, ahead int64) error {
	p := &pipe{limit: max(ahead, pieceSize)}
	p.cond = sync.NewCond(&p.mu)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer body.Close()
		for {
			buf := piecePool.Get().(*piece)
			n, err := body.Read(buf.b[:])
			if err == nil && n == 0 {
				piecePool.Put(buf)
				continue
			}
			if !p.put(buf, n, err) {
				return
			}
		}
	})
	defer reading.Wait()
	for {
		buf, n, err := p.take()
		if n > 0 {
			m, werr := c.x.Write(buf.b[:n])
			if c.r.Sent += int64(m); werr == nil {
				werr = c.x.Flush()
			}
			if werr != nil {
				err = werr
			}
		}
		if buf != nil {
			piecePool.Put(buf)
		}
		if err == nil {
			continue
		}
		p.stop()
		switch err {
		case io.EOF:
			return nil
		case p.err:
			return &http1.BodyReadError{Err: err}
		}
		return err
	}
}

// pipe is a bounded queue of pieces from one goroutine to another.
type pipe struct {
	limit int64

	mu      sync.Mutex // guards all below
	cond    *sync.Cond
	list    []pipePiece
	held    int64
	err     error // of the reader, after the last piece
	stopped bool
}

type pipePiece struct {
	buf *piece
	n   int
}

// put adds a piece; with an error it is the last. false: nobody wants more.
func (p *pipe) put(buf *piece, n int, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.held >= p.limit && !p.stopped {
		p.cond.Wait()
	}
	if p.stopped {
		return false
	}
	p.list = append(p.list, pipePiece{buf, n})
	p.held += int64(n)
	p.err = err
	p.cond.Broadcast()
	return err == nil
}

// take waits for a piece, or for the end.
func (p *pipe) take() (*piece, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.list) == 0 && p.err == nil {
		p.cond.Wait()
	}
	if len(p.list) == 0 {
		return nil, 0, p.err
	}
	first := p.list[0]
	p.list = p.list[1:]
	p.held -= int64(first.n)
	p.cond.Broadcast()
	return first.buf, first.n, nil
}

func (p *pipe) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.cond.Broadcast()
}
