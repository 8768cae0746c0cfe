package dispatcher

import (
	"context"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

const (
	defaultListLimit = 1000
	maxListLimit     = 10_000
)

// objectJSON is an object in a listing. Names that are not UTF-8 cannot stand in JSON; Path is good for all of them.
type objectJSON struct {
	Name        string    `json:"name"`
	Path        string    `json:"path,omitempty"` // percent-encoded, where Name is not UTF-8
	Size        int64     `json:"size"`
	ETag        string    `json:"etag"`
	ContentType string    `json:"content_type"`
	Created     time.Time `json:"created"`
}

type listJSON struct {
	Bucket    string       `json:"bucket"`
	Prefix    string       `json:"prefix,omitempty"`
	Delimiter string       `json:"delimiter,omitempty"`
	Objects   []objectJSON `json:"objects"`
	Prefixes  []string     `json:"prefixes,omitempty"` // beginnings of names up to the delimiter after prefix, folded together
	// EncodedPrefixes are those that are not UTF-8, percent-encoded.
	EncodedPrefixes []string `json:"encoded_prefixes,omitempty"`
	Truncated       bool     `json:"truncated"`
	// Next is the query that continues a truncated listing, percent-encoded.
	Next string `json:"next,omitempty"`
}

// list answers GET /bucket?list with prefix, delimiter, after and limit, in byte order of the names.
func (d *Dispatcher) list(x http1.Exchange, b *store.Bucket, query url.Values) *failure {
	limit, f := listLimit(query)
	if f != nil {
		return f
	}
	l := lister{
		answer: listJSON{Bucket: b.Name, Prefix: query.Get("prefix"), Delimiter: query.Get("delimiter"), Objects: []objectJSON{}},
		limit:  limit, after: query.Get("after"),
	}
	if err := l.run(x.Context(), d.cat, b); err != nil {
		return fail(err, &target{bucket: []byte(b.Name)})
	}
	if l.answer.Truncated {
		query.Set("after", l.last)
		query.Del("list")
		l.answer.Next = "?list&" + query.Encode()
	}
	return replyJSON(x, l.answer)
}

func listLimit(query url.Values) (int, *failure) {
	v := query.Get("limit")
	if v == "" {
		return defaultListLimit, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return 0, failf(http.StatusBadRequest, "limit is not a number from 1 to %d: %s", maxListLimit, quoteSome([]byte(v)))
	}
	return min(n, maxListLimit), nil
}

type lister struct {
	answer listJSON
	limit  int
	after  string
	n      int // objects and prefixes so far
	last   string
}

// run reads the catalog by ranges of names. Where a delimiter folds names together, it skips all of them at once, so that
// listing a directory costs as much as it has entries, not as much as there is below it.
func (l *lister) run(ctx context.Context, cat store.Objects, b *store.Bucket) error {
	from := l.answer.Prefix
	if l.after >= from {
		from = l.after + "\x00" // the least name after it
		if p := l.folded(l.after); p != "" && p == l.after {
			from = successor(p)
		}
	}
	for from != "" || l.n == 0 && l.answer.Prefix == "" && l.after == "" {
		next, done := "", false
		page := min(l.limit-l.n+1, maxListLimit)
		seen := 0
		err := cat.Scan(ctx, b.ID, from, page, func(o *store.Object) bool {
			seen++
			if !strings.HasPrefix(o.Name, l.answer.Prefix) {
				done = true
				return false
			}
			if l.n == l.limit {
				l.answer.Truncated, done = true, true
				return false
			}
			l.n++
			if p := l.folded(o.Name); p != "" {
				if utf8.ValidString(p) {
					l.answer.Prefixes = append(l.answer.Prefixes, p)
				} else {
					l.answer.EncodedPrefixes = append(l.answer.EncodedPrefixes, store.ObjectPath("", p)[2:])
				}
				l.last, next = p, successor(p)
				return false
			}
			l.answer.Objects = append(l.answer.Objects, toObjectJSON(b, o))
			l.last, next = o.Name, o.Name+"\x00"
			return true
		})
		if err != nil {
			return err
		}
		if done || seen == 0 || next == "" {
			return nil
		}
		from = next
	}
	return nil
}

// folded returns the common prefix that a name is folded into, or "".
func (l *lister) folded(name string) string {
	if l.answer.Delimiter == "" || !strings.HasPrefix(name, l.answer.Prefix) {
		return ""
	}
	i := strings.Index(name[len(l.answer.Prefix):], l.answer.Delimiter)
	if i < 0 {
		return ""
	}
	return name[:len(l.answer.Prefix)+i+len(l.answer.Delimiter)]
}

// successor is the least string that is greater than all strings with this prefix, or "" when there is none.
func successor(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}

func toObjectJSON(b *store.Bucket, o *store.Object) objectJSON {
	j := objectJSON{
		Name: o.Name, Size: o.Size, ETag: hex.EncodeToString(o.ETag[:]), ContentType: o.ContentType, Created: o.Created.UTC(),
	}
	if !utf8.ValidString(o.Name) {
		j.Path = store.ObjectPath(b.Name, o.Name)
	}
	return j
}
