package dispatcher

import (
	"bytes"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// mayReproxy reports whether the request comes through a proxy that fetches the bytes itself. Perlbal says so in
// X-Proxy-Capabilities; others are known by their address alone. Nobody but a configured proxy is told where storages are.
func (d *Dispatcher) mayReproxy(x http1.Exchange, size int64) bool {
	if f, ok := x.(follower); ok && f.FollowsReproxy() { // the balancer of this process: what is small may be in memory here
		return d.opt.Reproxy != ReproxyNever && size > smallRead
	}
	if d.opt.Reproxy == ReproxyNever || len(d.opt.Proxies) == 0 {
		return false
	}
	if d.opt.Reproxy == ReproxyAsked && !bytes.Contains(x.Request().Header.Bytes("X-Proxy-Capabilities"), []byte("reproxy-file")) {
		return false
	}
	tcp, ok := x.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return false
	}
	from := tcp.AddrPort().Addr().Unmap()
	return containsAddr(d.opt.Proxies, from)
}

// isLocal reports whether a storage's disk is in this process.
func (d *Dispatcher) isLocal(s *store.Storage) bool {
	l, ok := d.devices.(interface{ Local(s *store.Storage) bool })
	return ok && l.Local(s)
}

// follower is an exchange whose other side fetches what X-Reproxy-URL names.
type follower interface{ FollowsReproxy() bool }

func containsAddr(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// reproxy answers with the URLs of an object's entities, best first. Conditions have been decided here; ranges are the
// proxy's to ask the storage for. done is false when no storage is known, so that the ordinary way finds out why.
func (d *Dispatcher) reproxy(x http1.Exchange, o *store.Object) (done bool, f *failure) {
	v, err := d.views.holding(x.Context(), d.cat, o)
	if err != nil {
		return false, fail(err, &target{})
	}
	now := d.opt.Now()
	readers := v.readersOf(o, now)
	var urls []string
	_, inside := x.(follower)
	for _, m := range readers.list[:readers.n] {
		if inside && d.isLocal(&m.Storage) {
			return false, nil // nothing is nearer than what is in this process
		}
		if m.readPass(o, now) < 2 { // not the last resorts
			urls = append(urls, d.devices.URL(&m.Storage, o.ID, now.Add(d.opt.URLLifetime)))
		}
	}
	if len(urls) == 0 {
		return false, nil
	}
	h := x.Header()
	h.Set("X-Reproxy-Expected-Size", strconv.FormatInt(o.Size, 10))
	if d.opt.AccelRedirect == "" {
		h.Set("X-Reproxy-URL", strings.Join(urls, " "))
	} else {
		// nginx passes one URL to proxy_pass; the others are there for its error_page.
		h.Set("X-Accel-Redirect", d.opt.AccelRedirect)
		h.Set("X-Reproxy-URL", urls[0])
		for i, u := range urls[1:] {
			h.Set("X-Reproxy-URL-"+strconv.Itoa(i+2), u)
		}
	}
	d.metrics.Reproxied.Add(1)
	_ = x.Reply(http.StatusOK, nil)
	return true, nil
}
