package memcached

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"wheelhouse/memcache/memcachetest"
)

func TestASCIIAuthentication(t *testing.T) {
	t.Parallel()
	users, err := ParseUsers(strings.NewReader("alice:secret: word\n\nbob:x\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, Options{Users: users})
	c := s.dial(t)
	for ask, want := range map[string]string{
		"get a": unauthed, "mg a": unauthed, "version": unauthed,
		"set x 0 0 7\r\nalice x":                           "CLIENT_ERROR authentication failure",
		"set x 0 0 3\r\nbob":                               "CLIENT_ERROR authentication failure",
		"set x 0 0 9\r\nnobody  x":                         "CLIENT_ERROR authentication failure",
		"set x 0 0 20000\r\n" + strings.Repeat("x", 20000): "CLIENT_ERROR auth token too long",
	} {
		if got := c.Ask(ask); got != want {
			t.Errorf("%.20q: %q; want %q", ask, got, want)
		}
	}
	if got := c.Ask("set x 0 0 18\r\nalice secret: word"); got != "STORED" {
		t.Fatalf("with the right password: %q", got)
	}
	if got := c.Ask("get a"); got != "END" {
		t.Errorf("get: %q", got)
	}
	s.SetUsers(map[string]string{"carol": "c"})
	if got := c.Ask("get a"); got != "END" {
		t.Errorf("a connection that was there: %q", got)
	}
	d := s.dial(t)
	if got := d.Ask("set x 0 0 5\r\nbob x"); got != "CLIENT_ERROR authentication failure" {
		t.Errorf("a user that is gone: %q", got)
	}
	if got := d.Ask("set x 0 0 7\r\ncarol c"); got != "STORED" {
		t.Errorf("a new user: %q", got)
	}
	if n := s.count(authErrors); n != 4 {
		t.Errorf("auth_errors %d; want 4", n)
	}
}

func TestBadUserFiles(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "no user", "x": "line 1", "a:b\n:c": "line 2", "a b:c": "line 1"} {
		if _, err := ParseUsers(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{"": "no rule", "a b": "line 1", "# x\na b rz": "line 2"} {
		if _, err := ParseACL(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
	}
}

func TestACL(t *testing.T) {
	t.Parallel()
	acl, err := ParseACL(strings.NewReader("* public: r\nalice * rw # all keys\nalice locked: -\nbob bob: rw\nroot * rwa\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, Options{ACL: acl, Users: map[string]string{"alice": "a", "bob": "b", "root": "r", "eve": "e"}})
	as := func(user string) *memcachetest.Conn {
		c := s.dial(t)
		token := user + " " + user[:1]
		if got := c.Ask(fmt.Sprintf("set x 0 0 %d\r\n%s", len(token), token)); got != "STORED" {
			t.Fatalf("%s: %q", user, got)
		}
		return c
	}
	for _, tt := range []struct{ user, ask, want string }{
		{"alice", "set public:a 0 0 1\r\nx", "STORED"},
		{"alice", "set locked:a 0 0 1\r\nx", denied},
		{"alice", "get locked:a", denied},
		{"alice", "flush_all", denied},
		{"alice", "stats", denied},
		{"bob", "set bob:1 0 0 1\r\nx", "STORED"},
		{"bob", "set alice:1 0 0 1\r\nx", denied},
		{"bob", "mg public:a", "HD"},
		{"bob", "md public:a", denied},
		{"bob", "ms public:a 1\r\nx", denied},
		{"bob", "ma public:a", denied},
		{"bob", "incr public:a 1", denied},
		{"bob", "delete public:a", denied},
		{"bob", "touch public:a 0", denied},
		{"bob", "gat 0 public:a", denied},
		{"bob", "me alice:1", denied},
		{"bob", "mg public:a T1", denied},
		{"bob", "mg public:new N30", denied},
		{"bob", "mg public:a R30", denied},
		{"bob", "mt public:a Gx", denied},
		{"bob", "ms public:a 1 Gx\r\nx", denied},
		{"bob", "mt bob:1 Gx", "HD"},
		{"alice", "flush_tag x", denied},
		{"alice", "mg locked:a", denied},
		{"root", "flush_tag x", "OK"},
		{"alice", "mg bob:1", "EN"},
		{"eve", "get bob:1", denied},
		{"eve", "mg public:a", "HD"},
		{"bob", "set bob:1 0 0 1\r\nx", "STORED"},
		{"eve", "get public:a bob:1", denied}, // not an item and then a refusal
		{"eve", "gets  public:a   bob:1 ", denied},
		{"bob", "gat 0 bob:1 public:a", denied},
		{"bob", "mg bob:1 t", "HD t-1"},
		{"bob", "gat 30 bob:1 public:a", denied},
		{"bob", "mg bob:1 t", "HD t-1"},
		{"root", "flush_prefix public", "OK"},
		{"root", "mg public:a", "EN"},
		{"root", "flush_all", "OK"},
	} {
		c := as(tt.user)
		if got := c.Ask(tt.ask); got != tt.want {
			t.Errorf("%s: %q: %q; want %q", tt.user, tt.ask, got, tt.want)
		}
		if tt.want == denied {
			c.Nothing()
		}
	}
}

// Who is named has no rights to administer from the lines of everybody.
func TestACLAdministration(t *testing.T) {
	t.Parallel()
	acl, err := ParseACL(strings.NewReader("* * rwa\nguest * r\nbob bob: rw\nroot logs: ra\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, Options{ACL: acl, OnShutdown: func(bool) { t.Error("it was to end") }, Users: map[string]string{"guest": "g", "bob": "b", "root": "r", "eve": "e"}})
	for user, may := range map[string]bool{"guest": false, "bob": false, "root": true, "eve": true} {
		c := s.dial(t)
		token := user + " " + user[:1]
		if got := c.Ask(fmt.Sprintf("set x 0 0 %d\r\n%s", len(token), token)); got != "STORED" {
			t.Fatalf("%s: %q", user, got)
		}
		for ask, want := range map[string]string{
			"flush_all": "OK", "lru_crawler enable": "OK", "cache_memlimit 8": "OK", "stats reset": "RESET", "flush_prefix a": "OK", "verbosity 0": "OK",
			"shutdown never": "CLIENT_ERROR invalid shutdown mode", "watch nonsense": plainError,
		} {
			if !may {
				want = denied
			}
			if got := c.Ask(ask); got != want {
				t.Errorf("%s: %s: %q; want %q", user, ask, got, want)
			}
		}
		if got := c.Ask("mg elsewhere"); got != "EN" {
			t.Errorf("%s: mg: %q", user, got)
		}
	}
}

// What the binary protocol can do is allowed to the same users.
func TestACLOfTheBinaryProtocol(t *testing.T) {
	t.Parallel()
	acl, err := ParseACL(strings.NewReader("* public: r\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, Options{ACL: acl})
	c := s.dial(t)
	for _, tt := range []struct {
		op                 byte
		key, extras, value string
		status             binStatus
	}{
		{opGet, "public:a", "", "", binNotFound},
		{opGet, "a", "", "", binAuthFailure},
		{opSet, "public:a", "12345678", "x", binAuthFailure},
		{opAppend, "public:a", "", "x", binAuthFailure},
		{opDelete, "public:a", "", "", binAuthFailure},
		{opIncr, "public:a", strings.Repeat("\x00", 20), "", binAuthFailure},
		{opTouch, "public:a", "\x00\x00\x00\x00", "", binAuthFailure},
		{opGAT, "public:a", "\x00\x00\x00\x00", "", binAuthFailure},
		{opFlush, "", "", "", binAuthFailure},
		{opStat, "", "", "", binAuthFailure},
		{opVerbosity, "", "\x00\x00\x00\x01", "", binUnknown},
		{opVersion, "", "", "", binOK},
	} {
		c.Raw(packet(tt.op, tt.key, tt.extras, tt.value))
		if status, body := binAnswer(t, c); status != tt.status {
			t.Errorf("%#x %q: %#x %q; want %#x", tt.op, tt.key, status, body, tt.status)
		}
	}
	if n := s.verbose.Load(); n != 0 {
		t.Errorf("verbosity is %d after it was denied", n)
	}
}

// packet makes a request of the binary protocol.
func packet(op byte, key, extras, value string) string {
	b := []byte{binRequest, op}
	b = binary.BigEndian.AppendUint16(b, uint16(len(key)))
	b = append(b, byte(len(extras)), 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(key)+len(extras)+len(value)))
	b = append(b, 0, 0, 0, 9)
	return string(append(b, make([]byte, 8)...)) + extras + key + value
}

// binAnswer reads an answer of the binary protocol.
func binAnswer(t *testing.T, c *memcachetest.Conn) (status binStatus, body string) {
	t.Helper()
	h := c.ReadN(binHeader)
	if h[0] != binResponse || binary.BigEndian.Uint32(h[12:]) != 9 {
		t.Fatalf("header % x", h)
	}
	return binStatus(binary.BigEndian.Uint16(h[6:])), string(c.ReadN(int(binary.BigEndian.Uint32(h[8:]))))
}

func TestSASL(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{SASL: map[string]string{"alice": "secret"}})
	c := s.dial(t)
	for _, tt := range []struct {
		op          byte
		key, value  string
		status      binStatus
		body        string
		closedAfter bool
	}{
		{opSASLList, "", "", binOK, "PLAIN", false},
		{opVersion, "", "", binOK, Version, false},
		{opSASLAuth, "CRAM-MD5", "x", binAuthFailure, "Auth failure.", false},
		{opSASLAuth, "PLAIN", "\x00alice\x00wrong", binAuthFailure, "Auth failure.", false},
		{opSASLAuth, "PLAIN", "alice", binAuthFailure, "Auth failure.", false},
		{opSASLStep, "PLAIN", "\x00alice\x00secret", binAuthFailure, "Auth failure.", false},
		{opSASLAuth, "PLAIN", "", binAuthMore, "", false},
		{opSASLStep, "PLAIN", "\x00alice\x00secret", binOK, "Authenticated", false},
		{opGet, "a", "", binNotFound, "Not found", false},
	} {
		c.Raw(packet(tt.op, tt.key, "", tt.value))
		if status, body := binAnswer(t, c); status != tt.status || body != tt.body {
			t.Errorf("%x %q: %x %q; want %x %q", tt.op, tt.value, status, body, tt.status, tt.body)
		}
	}
	d := s.dial(t)
	d.Raw(packet(opGet, "a", "", ""))
	if status, _ := binAnswer(t, d); status != binAuthFailure {
		t.Errorf("without authentication: %x", status)
	}
	d.Closed()
	e := s.dial(t)
	e.Send("get a")
	e.Closed()
}
