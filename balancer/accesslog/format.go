package accesslog

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"wheelhouse/balancer"
)

// gone is the status in the log of a request that got no answer, because its client had gone or the connection was cut: nginx's.
const gone = 499

const hex = "0123456789abcdef"

// maxField is how many bytes of a client's field are logged.
const maxField = 8 << 10

func statusOf(r *balancer.Request) int {
	if r.Status == 0 {
		return gone
	}
	return r.Status
}

// appendCombined appends a request's line: Apache's combined format, and behind it what is known beyond.
func appendCombined(b []byte, r *balancer.Request, now time.Time) []byte {
	q := r.X.Request()
	b = r.Observed.AppendTo(b)
	b = append(b, " - - ["...)
	b = r.Began.AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] "`...)
	b = appendQuoted(b, q.Method)
	b = append(b, ' ')
	b = appendQuoted(b, clip(q.Target))
	major, minor := version(r)
	b = strconv.AppendInt(append(b, " HTTP/"...), major, 10)
	b = strconv.AppendInt(append(b, '.'), minor, 10)
	b = append(b, `" `...)
	b = strconv.AppendInt(b, int64(statusOf(r)), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, r.Sent, 10)
	for _, name := range []string{"Referer", "User-Agent"} {
		b = append(b, ` "`...)
		if v := q.Header.Bytes(name); len(v) > 0 {
			b = appendQuoted(b, clip(v))
		} else {
			b = append(b, '-')
		}
		b = append(b, '"')
	}
	b = append(b, " service="...)
	b = append(b, r.Service.Name()...)
	b = appendSeconds(append(b, " total="...), now.Sub(r.Began))
	if r.Attempts > 0 {
		b = appendSeconds(append(b, " queued="...), r.Queued)
		b = appendSeconds(append(b, " head="...), r.Head)
		b = append(append(b, " backend="...), r.Backend...)
		b = strconv.AppendInt(append(b, " attempts="...), int64(r.Attempts), 10)
	}
	if r.CacheHit != "" {
		b = append(append(b, " cache="...), r.CacheHit...)
	}
	if r.ID != "" {
		b = append(b, ` id="`...)
		b = append(appendQuoted(b, r.ID), '"')
	}
	if r.Reason != "" {
		b = append(b, ` reason="`...)
		b = append(appendQuoted(b, r.Reason), '"')
	}
	return append(b, '\n')
}

// version is that of HTTP which the client speaks.
func version(r *balancer.Request) (major, minor int64) {
	q := r.X.Request()
	if q.HTTP2 {
		return 2, 0
	}
	return 1, int64(q.Minor)
}

func clip(v []byte) []byte { return v[:min(len(v), maxField)] }

// appendQuoted appends text that stands in quotes: quotes, backslashes and what is not printable ASCII become \xHH.
func appendQuoted[T string | []byte](b []byte, s T) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}

func appendSeconds(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, max(0, d).Seconds(), 'f', 6, 64)
}

// beginObject appends what all objects begin with.
func beginObject(b []byte, began time.Time, of balancer.Service, client netip.AddrPort) []byte {
	b = append(b, `{"time":"`...)
	b = began.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, '"')
	text(&b, "service", of.Name())
	b = append(b, `,"client":"`...)
	return append(client.AppendTo(b), '"')
}

// appendJSON appends a request's line as an object. Durations are in ms.
func appendJSON(b []byte, r *balancer.Request, now time.Time) []byte {
	q := r.X.Request()
	b = beginObject(b, r.Began, r.Service, r.Client)
	if r.Observed != r.Client.Addr() {
		b = append(b, `,"observed_ip":"`...)
		b = append(r.Observed.AppendTo(b), '"')
	}
	text(&b, "method", q.Method)
	text(&b, "host", clip(q.Host))
	text(&b, "uri", clip(q.Target))
	major, minor := version(r)
	number(&b, "http_major", major)
	number(&b, "http_minor", minor)
	if r.X.TLS() {
		b = append(b, `,"tls":true`...)
	}
	number(&b, "status", int64(statusOf(r)))
	number(&b, "sent", r.Sent)
	millis(&b, "total_ms", now.Sub(r.Began))
	if r.Attempts > 0 {
		millis(&b, "queued_ms", r.Queued)
		millis(&b, "head_ms", r.Head)
		text(&b, "backend", r.Backend)
		number(&b, "attempts", int64(r.Attempts))
	}
	optional(&b, "cache", r.CacheHit)
	optional(&b, "id", r.ID)
	for _, f := range [...]struct{ key, name string }{{"traceparent", "Traceparent"}, {"referer", "Referer"}, {"user_agent", "User-Agent"}} {
		optional(&b, f.key, clip(q.Header.Bytes(f.name)))
	}
	optional(&b, "reason", r.Reason)
	return append(b, '}', '\n')
}

// appendRefusal appends the line of a request that was refused before anybody understood it: what came of its first line stands where the
// request line would.
func appendRefusal(b []byte, r *balancer.Refusal, now time.Time) []byte {
	b = r.Client.Addr().AppendTo(b)
	b = append(b, " - - ["...)
	b = r.Began.AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] "`...)
	if len(r.Line) > 0 {
		b = appendQuoted(b, r.Line)
	} else {
		b = append(b, '-')
	}
	b = append(b, `" `...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, r.Sent, 10)
	b = append(b, ` "-" "-" service=`...)
	b = append(b, r.Service.Name()...)
	b = appendSeconds(append(b, " total="...), now.Sub(r.Began))
	b = append(b, ` reason="`...)
	return append(appendQuoted(b, r.Reason), '"', '\n')
}

// appendRefusalJSON is appendRefusal as an object.
func appendRefusalJSON(b []byte, r *balancer.Refusal, now time.Time) []byte {
	b = beginObject(b, r.Began, r.Service, r.Client)
	text(&b, "request_line", r.Line)
	if r.TLS {
		b = append(b, `,"tls":true`...)
	}
	number(&b, "status", int64(r.Status))
	number(&b, "sent", r.Sent)
	millis(&b, "total_ms", now.Sub(r.Began))
	text(&b, "reason", r.Reason)
	return append(b, '}', '\n')
}

func optional[T string | []byte](b *[]byte, key string, v T) {
	if len(v) > 0 {
		text(b, key, v)
	}
}

func text[T string | []byte](b *[]byte, key string, v T) {
	*b = append(append(append(*b, `,"`...), key...), `":"`...)
	*b = append(appendJSONText(*b, v), '"')
}

func number(b *[]byte, key string, v int64) {
	*b = append(append(append(*b, `,"`...), key...), `":`...)
	*b = strconv.AppendInt(*b, v, 10)
}

func millis(b *[]byte, key string, d time.Duration) {
	*b = append(append(append(*b, `,"`...), key...), `":`...)
	*b = strconv.AppendFloat(*b, float64(max(0, d).Microseconds())/1000, 'f', 3, 64)
}

// appendJSONText appends text that stands in quotes (RFC 8259 §7). Bytes that are not UTF-8 become U+FFFD.
func appendJSONText[T string | []byte](b []byte, v T) []byte {
	s := string(v)
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			i++
		case c < utf8.RuneSelf:
			b = append(b, c)
			i++
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r) // U+FFFD for what is no UTF-8
			i += n
		}
	}
	return b
}
