package storaged

import (
	"context"
	"errors"
	"net/http"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// probe answers whether a disk does what it should (see [store.Prober]).
func (n *Node) probe(x http1.Exchange, d *Disk) { n.done(x, store.Probe(x.Context(), d.Device)) }

// accept takes an empty directory for a disk that has replaced another (see [store.Accepter]).
func (n *Node) accept(x http1.Exchange, d *Disk) { n.done(x, store.Accept(x.Context(), d.Device)) }

func (n *Node) done(x http1.Exchange, err error) {
	if err != nil {
		n.fail(x, err)
		return
	}
	_ = x.Reply(http.StatusNoContent, nil)
}

var (
	_ store.Prober   = (*Remote)(nil)
	_ store.Accepter = (*Remote)(nil)
)

// Probe implements [store.Prober]. A node that knows no probes is asked for its space.
func (r *Remote) Probe(ctx context.Context) error {
	err := r.post(ctx, "probe")
	if errors.Is(err, store.ErrNoEntity) {
		_, err = r.Usage(ctx)
	}
	return err
}

// Accept implements [store.Accepter].
func (r *Remote) Accept(ctx context.Context) error { return r.post(ctx, "accept") }

func (r *Remote) post(ctx context.Context, path string) error {
	resp, err := r.do(ctx, r.request(http.MethodPost, path), http.StatusNoContent)
	if err != nil {
		return err
	}
	finish(resp)
	return nil
}
