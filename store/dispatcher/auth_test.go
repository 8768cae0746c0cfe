package dispatcher_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/dispatcher"
)

func TestAccess(t *testing.T) {
	ts := newStore(t, setup{})
	nobody := store.AccessKey{}
	writer, reader, other := ts.account("writer", store.RoleWrite), ts.account("reader", store.RoleRead), ts.account("other", store.RoleWrite)
	as := func(k store.AccessKey, status int, method, path, body string, headers ...string) answer {
		t.Helper()
		a := ts.as(k, method, path, strings.NewReader(body), headers...)
		if a.status != status {
			t.Errorf("%s: %s %s = %d %q; want %d", k.ID, method, path, a.status, a.body, status)
		}
		return a
	}
	as(writer, 201, "PUT", "/mine", "")
	as(writer, 201, "PUT", "/open", "", "X-Bucket-Access: public-read")
	for _, path := range []string{"/mine/o", "/open/o"} {
		as(writer, 201, "PUT", path, "x")
		as(nobody, 401, "PUT", path, "x")
		as(other, 403, "PUT", path, "x")
		as(nobody, 401, "DELETE", path, "")
		as(other, 403, "DELETE", path, "")
		as(other, 403, "POST", path, "")
		as(nobody, 401, "MOVE", path, "", "X-STF-Move-Destination: /mine/p")
		as(ts.key, 201, "PUT", path, "x")
	}
	if a := as(nobody, 401, "GET", "/mine/o", ""); !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("WWW-Authenticate %q", a.header.Get("WWW-Authenticate"))
	}
	as(nobody, 401, "GET", "/mine/none", "") // what is there is not told either
	as(other, 403, "GET", "/mine/o", "")
	as(nobody, 200, "GET", "/open/o", "")
	as(nobody, 404, "GET", "/open/none", "")
	as(nobody, 401, "GET", "/open?list", "")
	as(other, 403, "GET", "/open?list", "")
	as(writer, 200, "GET", "/open?list", "")
	as(nobody, 401, "PUT", "/new", "")
	as(reader, 403, "PUT", "/new", "")
	as(nobody, 401, "DELETE", "/mine", "", "X-STF-Recursive-Delete: true")
	as(other, 409, "PUT", "/mine", "")
	as(other, 201, "PUT", "/others", "")
	as(writer, 403, "MOVE", "/mine/o", "", "X-STF-Move-Destination: /others/o")
	if a := as(other, 200, "GET", "/?list", ""); strings.Contains(a.body, "mine") {
		t.Errorf("another's buckets are listed: %s", a.body)
	}
	as(nobody, 401, "GET", "/?list", "")

	wrong := writer
	wrong.Secret = "wrong"
	as(wrong, 401, "GET", "/mine/o", "")
	for _, auth := range []string{"Bearer " + writer.ID + "." + writer.Secret, "bearer " + writer.ID + ":" + writer.Secret} {
		as(nobody, 200, "GET", "/mine/o", "", "Authorization: "+auth)
	}
	for _, auth := range []string{"Bearer x", "Bearer " + writer.ID + ".x", "Basic !!!", "Digest x", "Bearer " + strings.Repeat("x", 500) + ".y"} {
		as(nobody, 401, "GET", "/mine/o", "", "Authorization: "+auth)
	}
}

func TestSignedURLs(t *testing.T) {
	ts := newStore(t, setup{})
	ts.bucket("b")
	ts.want(201, "PUT", "/b/a%20b", "signed")
	path := store.ObjectPath("b", "a b")
	soon, past := time.Now().Add(time.Minute), time.Now().Add(-time.Minute)
	get := store.SignPath(ts.key, "GET", path, soon)
	for _, tt := range []struct {
		name, method, path string
		status             int
	}{
		{"good", "GET", path + "?" + get, 200},
		{"HEAD with it", "HEAD", path + "?" + get, 200},
		{"other encoding of the same name", "GET", "/b/%61%20b?" + get, 200},
		{"PUT with it", "PUT", path + "?" + get, 403},
		{"DELETE with it", "DELETE", path + "?" + get, 403},
		{"other object", "GET", "/b/other?" + get, 403},
		{"listing", "GET", "/b?list&" + get, 403},
		{"expired", "GET", path + "?" + store.SignPath(ts.key, "GET", path, past), 403},
		{"altered", "GET", path + "?" + strings.Replace(get, "signature=", "signature=0", 1), 403},
		{"later", "GET", path + "?" + strings.Replace(get, "expires=1", "expires=2", 1), 403},
		{"unknown key", "GET", path + "?" + store.SignPath(store.AccessKey{ID: "nobody", Secret: "x"}, "GET", path, soon), 403},
		{"put", "PUT", path + "?" + store.SignPath(ts.key, "PUT", path, soon), 201},
		{"bucket", "PUT", "/new?" + store.SignPath(ts.key, "PUT", "/new", soon), 403},
	} {
		if a := ts.as(store.AccessKey{}, tt.method, tt.path, http.NoBody); a.status != tt.status {
			t.Errorf("%s: %d %q; want %d", tt.name, a.status, a.body, tt.status)
		}
	}
}

func TestWithoutAuthentication(t *testing.T) {
	ts := newStore(t, setup{auth: dispatcher.AuthNone})
	for _, step := range []struct{ method, path string }{{"PUT", "/b"}, {"PUT", "/b/o"}, {"GET", "/b/o"}, {"DELETE", "/b/o"}, {"DELETE", "/b"}} {
		if a := ts.as(store.AccessKey{}, step.method, step.path, http.NoBody); a.status >= 300 {
			t.Errorf("%s %s = %d %s", step.method, step.path, a.status, a.body)
		}
	}
}
