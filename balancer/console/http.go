package console

import (
	"bufio"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/config"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"rate": rateText, "ms": msText, "bytes": bytesText, "size": func(n int64) string { return bytesText(float64(n)) }, "count": countText, "total": queueTotal, "limited": anyLimited,
}).Parse(pageText))

// serveHTTP serves one connection, on which some bytes have been read already, until it closes.
func (c *Console) serveHTTP(b *balancerd.Balancer, nc net.Conn, r *bufio.Reader) {
	nc.SetReadDeadline(time.Time{})
	one := &oneConn{conn: &bufferedConn{Conn: nc, r: r, closed: make(chan struct{})}}
	srv := &http.Server{
		Handler: c.Handler(b), ReadHeaderTimeout: 10 * time.Second, WriteTimeout: writeLimit, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
	srv.Serve(one) // it ends with the connection
}

// bufferedConn is a connection of which a reader holds the first bytes.
type bufferedConn struct {
	net.Conn
	r      *bufio.Reader
	once   sync.Once
	closed chan struct{}
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *bufferedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// oneConn is a listener that has one connection.
type oneConn struct {
	conn *bufferedConn
	gave bool
}

func (l *oneConn) Accept() (net.Conn, error) {
	if !l.gave {
		l.gave = true
		return l.conn, nil
	}
	<-l.conn.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

// Handler answers HTTP: the status page, Perlbal's pages, metrics. It changes nothing.
func (c *Console) Handler(b *balancerd.Balancer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { c.servePage(w, b) })
	mux.HandleFunc("GET /status.json", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		json.NewEncoder(w).Encode(c.Status(b)) // a client that is gone needs no answer
	})
	mux.HandleFunc("GET /socks", func(w http.ResponseWriter, r *http.Request) { c.boxes(w, b, "socks summary", "socks") })
	mux.HandleFunc("GET /obj", func(w http.ResponseWriter, r *http.Request) { c.boxes(w, b, "obj") })
	mux.HandleFunc("GET /service", func(w http.ResponseWriter, r *http.Request) {
		if !isWord(r.URL.RawQuery) {
			c.notFound(w)
			return
		}
		c.boxes(w, b, "show service "+r.URL.RawQuery)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok\n") })
	if c.o.Metrics != nil {
		mux.Handle("GET /metrics", c.o.Metrics)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { c.notFound(w) })
	return mux
}

var isWord = regexp.MustCompile(`^\w+$`).MatchString

func guard(w http.ResponseWriter, policy string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; "+policy)
}

func (c *Console) servePage(w http.ResponseWriter, b *balancerd.Balancer) {
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails
	st := c.Status(b)
	st.ScriptNonce = base64.RawURLEncoding.EncodeToString(nonce[:])
	st.Host, _ = os.Hostname() // "" will do
	guard(w, "connect-src 'self'; script-src 'nonce-"+st.ScriptNonce+"'")
	if err := page.Execute(w, st); err != nil {
		c.log.Debug("status page", "err", err)
	}
}

const boxHead = `<!DOCTYPE html>
<html lang="en"><head><title>perlbal management interface</title><meta name="color-scheme" content="light dark" /></head><body>`

const boxFoot = "<hr style='margin-top: 10px' /><p><a href='/'>Perlbal management</a>.</p></body></html>\n"

func (c *Console) notFound(w http.ResponseWriter) {
	guard(w, "")
	w.WriteHeader(http.StatusNotFound)
	io.WriteString(w, boxHead+"<h1>404 Not found</h1>"+boxFoot)
}

var serviceLink = regexp.MustCompile(`service &#39;(\w+)&#39;`)

// boxes shows what commands answer.
func (c *Console) boxes(w http.ResponseWriter, b *balancerd.Balancer, commands ...string) {
	guard(w, "")
	io.WriteString(w, boxHead)
	for _, line := range commands {
		fmt.Fprintf(w, "<pre><div style='margin-bottom: 5px; background: #8883'><b>%s</b></div>", html.EscapeString(line))
		verb, args, _ := strings.Cut(line, " ")
		lines, _, err := c.query(b, config.Command{Verb: verb, Args: args})
		if err != nil {
			lines = []string{"ERROR: " + err.Error()}
		} else {
			lines = append(lines, ".")
		}
		for _, l := range lines {
			io.WriteString(w, serviceLink.ReplaceAllString(html.EscapeString(l), `<a href="/service?$1">$1</a>`)+"\n")
		}
		io.WriteString(w, "</pre>\n")
	}
	io.WriteString(w, boxFoot)
}

func rateText(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 9.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return countText(int64(v + 0.5))
}

func msText(v float64) string {
	switch {
	case v == 0:
		return "–"
	case v < 10:
		return strconv.FormatFloat(v, 'f', 1, 64) + " ms"
	case v < 10000:
		return strconv.FormatFloat(v, 'f', 0, 64) + " ms"
	}
	return strconv.FormatFloat(v/1000, 'f', 1, 64) + " s"
}

// countText puts thin spaces between thousands.
func countText(v int64) string {
	s := strconv.FormatInt(v, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

func bytesText(v float64) string {
	for _, u := range []string{"B", "KiB", "MiB", "GiB"} {
		if v < 1000 {
			if u == "B" || v >= 100 {
				return strconv.FormatFloat(v, 'f', 0, 64) + " " + u
			}
			return strconv.FormatFloat(v, 'f', 1, 64) + " " + u
		}
		v /= 1024
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " TiB"
}

// anyLimited reports whether there is a rate limit at all.
func anyLimited(list []ServiceStatus) bool {
	return slices.ContainsFunc(list, func(s ServiceStatus) bool { return s.Limit != nil })
}

func queueTotal(list []QueueState) (n int) {
	for _, q := range list {
		n += q.Count
	}
	return n
}
