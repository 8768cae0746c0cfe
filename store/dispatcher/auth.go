package dispatcher

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// Auth says who is asked for credentials.
type Auth uint8

// The ways to authenticate.
const (
	AuthKeys Auth = iota // everybody, but for reading public buckets
	AuthNone             // nobody: whoever reaches the port is an administrator
)

// ParseAuth reads "keys" or "none".
func ParseAuth(s string) (Auth, error) {
	switch s {
	case "keys":
		return AuthKeys, nil
	case "none":
		return AuthNone, nil
	}
	return 0, errors.New(`auth: want "keys" or "none"`)
}

// Principal is who a request acts for.
type Principal struct {
	Account store.AccountID // 0: nobody in particular
	Role    store.Role      // 0: nobody
}

// May reports whether p may act on a bucket as far as role reaches.
func (p Principal) May(b *store.Bucket, role store.Role) bool {
	return p.Role == store.RoleAdmin || p.Role >= role && p.Account != 0 && p.Account == b.Owner
}

// keySource is the part of a catalog that knows access keys.
type keySource interface {
	Key(ctx context.Context, id string) (store.AccessKey, store.Account, error)
}

// Authenticator tells whom a request acts for. It remembers keys for [keyTTL], so that a key that was withdrawn stops
// working within that time. Safe for concurrent use.
type Authenticator struct {
	mode Auth
	keys keySource
	now  func() time.Time

	mu    sync.Mutex // guards cache
	cache map[string]cachedKey
}

type cachedKey struct {
	key     store.AccessKey
	account store.Account
	err     error
	until   time.Time
}

const (
	keyTTL       = 2 * time.Second
	keyCacheSize = 10_000 // keys; the cache is emptied when it is full
)

// NewAuthenticator makes an Authenticator over the catalog's keys.
func NewAuthenticator(mode Auth, keys keySource, now func() time.Time) *Authenticator {
	return &Authenticator{mode: mode, keys: keys, now: now, cache: map[string]cachedKey{}}
}

// Authenticate finds whom a request acts for: nobody where it carries no credentials, an error where they are wrong.
// path is the canonical path (see store.ObjectPath) that a signed URL must be signed for.
func (a *Authenticator) Authenticate(x http1.Exchange, path string) (Principal, error) {
	if a.mode == AuthNone {
		return Principal{Role: store.RoleAdmin}, nil
	}
	r := x.Request()
	if auth := r.Header.Get("Authorization"); auth != "" {
		return a.byHeader(x.Context(), auth)
	}
	if bytes.Contains(r.Query, []byte(store.ParamSignature+"=")) {
		return a.bySignature(x.Context(), r.Method, path, string(r.Query))
	}
	return Principal{}, nil
}

// byHeader checks Basic (RFC 7617) and Bearer (RFC 6750) credentials. A Bearer token is the key's id and secret joined by
// a dot or a colon.
func (a *Authenticator) byHeader(ctx context.Context, auth string) (Principal, error) {
	scheme, rest, _ := strings.Cut(auth, " ")
	rest = strings.TrimSpace(rest)
	var id, secret string
	switch strings.ToLower(scheme) {
	case "basic":
		plain, err := base64.StdEncoding.DecodeString(rest)
		if err != nil {
			return Principal{}, unauthorized("the Basic credentials are not base64")
		}
		id, secret, _ = strings.Cut(string(plain), ":")
	case "bearer":
		i := strings.IndexAny(rest, ".:")
		if i < 0 {
			return Principal{}, unauthorized("the Bearer token is not of the form ID.SECRET")
		}
		id, secret = rest[:i], rest[i+1:]
	default:
		return Principal{}, unauthorized("the authorization scheme is neither Basic nor Bearer")
	}
	k, account, err := a.key(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNoAccount) {
		return Principal{}, err
	}
	if err != nil || subtle.ConstantTimeCompare([]byte(secret), []byte(k.Secret)) != 1 {
		return Principal{}, unauthorized("the access key is unknown or its secret is wrong")
	}
	return Principal{account.ID, account.Role}, nil
}

func (a *Authenticator) bySignature(ctx context.Context, method, path, query string) (Principal, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return Principal{}, failf(http.StatusBadRequest, "the query cannot be parsed")
	}
	if method != http.MethodGet && method != http.MethodHead && method != http.MethodPut {
		return Principal{}, failf(http.StatusForbidden, "a signed URL is for GET or PUT, not for %s", method)
	}
	if values.Has("list") {
		return Principal{}, failf(http.StatusForbidden, "a signed URL is for one object, not for a listing")
	}
	k, account, err := a.key(ctx, values.Get(store.ParamKey))
	if errors.Is(err, store.ErrNoAccount) {
		return Principal{}, failf(http.StatusForbidden, "the URL is signed with an unknown access key")
	}
	if err != nil {
		return Principal{}, err
	}
	if err := store.CheckSignature(k.Secret, method, path, values, a.now()); err != nil {
		return Principal{}, failf(http.StatusForbidden, "%s", strings.TrimPrefix(err.Error(), "store: "))
	}
	return Principal{account.ID, account.Role}, nil
}

// key asks the catalog, at most once in keyTTL for one id.
func (a *Authenticator) key(ctx context.Context, id string) (store.AccessKey, store.Account, error) {
	const longestID = 64
	if id == "" || len(id) > longestID {
		return store.AccessKey{}, store.Account{}, store.ErrNoAccount
	}
	now := a.now()
	a.mu.Lock()
	c, ok := a.cache[id]
	a.mu.Unlock()
	if ok && now.Before(c.until) {
		return c.key, c.account, c.err
	}
	k, account, err := a.keys.Key(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNoAccount) {
		return k, account, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.cache) >= keyCacheSize {
		clear(a.cache)
	}
	a.cache[strings.Clone(id)] = cachedKey{k, account, err, now.Add(keyTTL)}
	return k, account, err
}

func unauthorized(reason string) *failure {
	return failf(http.StatusUnauthorized, "%s", reason).with("WWW-Authenticate", `Basic realm="wheelhouse", charset="UTF-8"`)
}

// forbid is the answer to a principal that may not do what it asked for.
func forbid(p Principal, what *target) *failure {
	if p.Role == 0 {
		return unauthorized("credentials are needed: " + what.String())
	}
	return failf(http.StatusForbidden, "this access key may not do that: %s", what.String())
}

// AdminOnly passes requests of administrators on to next, and refuses all others.
func AdminOnly(a *Authenticator, next http1.Handler) http1.Handler {
	return http1.HandlerFunc(func(x http1.Exchange) {
		t := &target{bucket: []byte("-")}
		p, err := a.Authenticate(x, "/-/")
		switch {
		case err != nil:
			fail(err, t).send(x)
		case p.Role != store.RoleAdmin:
			forbid(p, t).send(x)
		default:
			next.ServeExchange(x)
		}
	})
}
