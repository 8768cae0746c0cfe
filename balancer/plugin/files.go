package plugin

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"

	"wheelhouse/balancer"
	"wheelhouse/balancer/config"
	"wheelhouse/balancer/palimg"
)

// autoRemoveLeadingDir takes a docroot's own name off the front of paths, so that /static/a is found in …/static as /a.
type autoRemoveLeadingDir struct{ balancer.Base }

func (autoRemoveLeadingDir) Name() string { return "AutoRemoveLeadingDir" }

func (autoRemoveLeadingDir) New(_ balancer.Service, set *balancer.Settings, _ *balancer.PluginConf, _ any) (any, error) {
	name := path.Base(strings.TrimRight(set.Docroot, "/"))
	if !leadingDir.MatchString(name) {
		return struct{}{}, nil
	}
	return leading("/" + name), nil
}

var leadingDir = regexp.MustCompile(`^[\w-]+$`)

type leading string

// Rewrite implements balancer.Rewriter. Unlike Perlbal's it leaves names that only begin alike.
func (l leading) Rewrite(_ *balancer.Request, p string) string {
	rest, ok := strings.CutPrefix(p, string(l))
	switch {
	case !ok:
		return p
	case rest == "":
		return "/"
	case rest[0] == '/':
		return rest
	}
	return p
}

// palimgs serves images with altered palettes: /palimg/FILE.EXT/pSPEC; see package palimg.
type palimgs struct{ balancer.Base }

func (palimgs) Name() string { return "Palimg" }

func (palimgs) New(balancer.Service, *balancer.Settings, *balancer.PluginConf, any) (any, error) {
	return palettes{}, nil
}

type palettes struct{}

// palettePath is a path with a specification behind it; FILE may hold slashes.
var palettePath = regexp.MustCompile(`^(/palimg/.+\.(\w+))/p(.+)$`)

type paletteKey struct{}

// palette is what a request asks for.
type palette struct{ path, ext, spec string }

// Rewrite implements balancer.Rewriter.
func (palettes) Rewrite(r *balancer.Request, p string) string {
	m := palettePath.FindStringSubmatch(p)
	if m == nil {
		return p
	}
	r.SetValue(paletteKey{}, palette{m[1], m[2], m[3]})
	return m[1]
}

// Alter implements balancer.FileSender.
func (palettes) Alter(r *balancer.Request, p string, f *os.File) ([]byte, error) {
	want, ok := r.Value(paletteKey{}).(palette)
	if !ok || want.path != p {
		return nil, nil
	}
	spec, err := palimg.Parse(want.spec)
	if err != nil {
		return nil, err
	}
	head := make([]byte, palimg.Head)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return spec.Alter(want.ext, head[:n])
}

// lazyCDN hands on requests for files that are not there yet, or for a newer version (v=TIME in the URI) than there is.
type lazyCDN struct{ balancer.Base }

func (lazyCDN) Name() string { return "LazyCDN" }

func (lazyCDN) Tunables() []balancer.Tunable {
	roles := []string{config.WebServer}
	return []balancer.Tunable{
		{Name: "fallback_service", Roles: roles, Doc: "service that answers for files which are missing, or older than asked for"},
		{Name: "fallback_udp_ping_addr", Roles: roles, Doc: "ip:port that is told of such URIs by UDP"},
	}
}

func (lazyCDN) New(svc balancer.Service, set *balancer.Settings, _ *balancer.PluginConf, _ any) (any, error) {
	l := &lazy{svc: svc, fallback: set.Extra["fallback_service"], ping: set.Extra["fallback_udp_ping_addr"]}
	if l.ping != "" {
		if _, err := netip.ParseAddrPort(l.ping); err != nil {
			return nil, config.Fault("Expecting IP:port of form a.b.c.d:port.")
		}
	}
	return l, nil
}

type lazy struct {
	svc            balancer.Service
	fallback, ping string
}

var version = regexp.MustCompile(`\bv=(\d+)\b`)

// Found implements balancer.FileFinder.
func (l *lazy) Found(r *balancer.Request, _ []string, infos []os.FileInfo) bool {
	if l.fallback == "" || !l.wanted(r, infos) {
		return false
	}
	l.tell(r.URI())
	if err := r.HandTo(l.fallback); err != nil {
		l.svc.Log().Warn("fallback_service cannot answer", "err", err)
		return false
	}
	return true
}

// wanted reports whether the fallback is to answer.
func (l *lazy) wanted(r *balancer.Request, infos []os.FileInfo) bool {
	newest := int64(0)
	for _, info := range infos {
		if info == nil {
			return true
		}
		newest = max(newest, info.ModTime().Unix())
	}
	m := version.FindStringSubmatch(r.URI())
	if m == nil {
		return false
	}
	v, err := strconv.ParseInt(m[1], 10, 64)
	return err == nil && v > newest
}

// tell sends the URI by UDP; nothing waits for it to arrive.
func (l *lazy) tell(uri string) {
	if l.ping == "" {
		return
	}
	nc, err := net.Dial("udp", l.ping)
	if err == nil {
		_, err = io.WriteString(nc, uri)
		nc.Close()
	}
	if err != nil {
		l.svc.Log().Warn("fallback_udp_ping_addr could not be told", "err", err)
	}
}
