package transport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/testcert"
)

// A key is used for a day, opens tickets for seven, and goes to another process with its age.
func TestTicketRotation(t *testing.T) {
	now := time.Unix(1e9, 0)
	clock := func() time.Time { return now }
	a := newTickets(nil, clock)
	first := (*a.current())[0]
	has := func(keys *ticketKeys) bool {
		for _, k := range *keys {
			if k.secret == first.secret {
				return true
			}
		}
		return false
	}
	for hours := range 9 * 24 {
		now = time.Unix(1e9, 0).Add(time.Duration(hours) * time.Hour)
		keys := a.current()
		if a.current() != keys {
			t.Fatalf("hour %d: two calls, two sets of keys", hours)
		}
		if want := min(hours/24+1, 7); len(*keys) != want {
			t.Fatalf("hour %d: %d keys; want %d", hours, len(*keys), want)
		}
		if got, want := (*keys)[0].secret == first.secret, hours < 24; got != want {
			t.Fatalf("hour %d: the first key in use: %v; want %v", hours, got, want)
		}
		if got, want := has(keys), hours < 7*24; got != want {
			t.Fatalf("hour %d: the first key is there: %v; want %v", hours, got, want)
		}
		text := a.Append(nil)
		parsed, err := parseTickets(text)
		if err != nil {
			t.Fatal(err)
		}
		b := newTickets(parsed, clock)
		if got := b.Append(nil); !bytes.Equal(got, text) {
			t.Fatalf("hour %d: another process has other keys", hours)
		}
		if hours%24 == 23 { // it changes keys when this one does
			now = now.Add(time.Hour)
			if keys := *b.current(); keys[0].secret == parsed[0].secret || keys[1].secret != parsed[0].secret {
				t.Fatalf("hour %d: the other process does not go on after the last key", hours)
			}
		}
	}
	now = now.Add(-24 * 365 * time.Hour)
	late, err := parseTickets(a.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	b := newTickets(late, clock)
	now = now.Add(24 * time.Hour)
	if k := (*b.current())[0]; k.secret == late[0].secret {
		t.Error("a key from the future is in use for more than a day")
	}
	now = now.Add(7 * 24 * time.Hour)
	if n := len(*b.current()); n != 1 {
		t.Errorf("%d keys after a week without handshakes; want 1", n)
	}
}

func TestReadTicketsRefuses(t *testing.T) {
	good := NewTickets().Append(nil)
	for name, b := range map[string][]byte{
		"nothing": nil, "short": good[:len(good)-1], "long": append(good[:len(good):len(good)], 0), "no key": make([]byte, ticketRecordSize),
		"too many": bytes.Repeat(good, maxTicketKeys+1), "the older first": append(append([]byte{}, good...), append([]byte{0, 0, 1}, good[3:]...)...),
	} {
		if _, err := ReadTickets(b); !errors.Is(err, errTickets) {
			t.Errorf("%s: %v; want %v", name, err, errTickets)
		}
	}
	if _, err := ReadTickets(good); err != nil {
		t.Error(err)
	}
}

func FuzzParseTickets(f *testing.F) {
	now := time.Unix(1e9, 0)
	t := newTickets(nil, func() time.Time { return now })
	f.Add(t.Append(nil))
	now = now.Add(30 * time.Hour)
	f.Add(t.Append(nil))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseTickets(b)
		if err != nil {
			return
		}
		tk := &Tickets{clock: func() time.Time { return keys[0].made }}
		tk.keys.Store(&keys)
		if got := tk.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%x became %x", b, got)
		}
	})
}

// handshake is one of a client with a server of these keys, and reports whether it was resumed.
func handshake(t *testing.T, k *keyring, client *tls.Config) bool {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	done := make(chan error, 1)
	go func() {
		defer b.Close()
		s := tls.Server(b, k.handshake())
		_, err := s.Write([]byte("x")) // tickets come before it
		done <- err
	}()
	c := tls.Client(a, client)
	_, err := io.ReadFull(c, make([]byte, 1))
	a.Close()
	if serr := <-done; err != nil || serr != nil {
		t.Fatal(err, serr)
	}
	return c.ConnectionState().DidResume
}

// Sessions live as long as tickets do, in whichever process, and belong to one service with its demands of clients.
func TestTicketsResume(t *testing.T) {
	cert, key := testcert.Pair(t, t.TempDir(), "a", 1, "a.test")
	set := balancer.TLS{Enabled: true, CertFiles: []string{cert}, KeyFiles: []string{key}}
	asks := set
	asks.Verify, asks.CAPath = 1, cert
	make := func(name string, s balancer.TLS, tk *Tickets) *keyring {
		t.Helper()
		k, err := newKeyring(name, s, false, tk, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		now := time.Now()
		clock := func() time.Time { return now }
		old := newTickets(nil, clock)
		first := make("www", set, old)
		client := &tls.Config{InsecureSkipVerify: true, ServerName: "a.test", MaxVersion: version}
		from := func(k *keyring, wants bool, what string) {
			t.Helper()
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			if handshake(t, first, client) {
				t.Fatal("the first handshake was resumed")
			}
			if got := handshake(t, k, client); got != wants {
				t.Errorf("%s: %s: resumed: %v; want %v", tls.VersionName(version), what, got, wants)
			}
		}
		next := func() *Tickets {
			keys, err := parseTickets(old.Append(nil))
			if err != nil {
				t.Fatal(err)
			}
			return newTickets(keys, clock)
		}
		from(first, true, "the same")
		from(make("www", set, next()), true, "the next process")
		from(make("www", set, NewTickets()), false, "a process that knows nothing")
		from(make("other", set, next()), false, "another service")
		from(make("www", asks, next()), false, "the service when it asks for certificates")
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		handshake(t, first, client)
		now = now.Add(25 * time.Hour)
		if !handshake(t, first, client) {
			t.Errorf("%s: after a new key the ticket is worth nothing", tls.VersionName(version))
		}
		now = now.Add(24 * time.Hour * 8)
		if handshake(t, first, client) {
			t.Errorf("%s: a ticket opens after eight days", tls.VersionName(version))
		}
	}
}

// Machines with the same files of keys open each other's tickets; the first file's key is in use, and a new one comes in by reading them again.
func TestSharedTicketKeys(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcert.Pair(t, dir, "a", 1, "a.test")
	file := func(name string, b []byte) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	one, two := file("one", bytes.Repeat([]byte{1}, 80)), file("two", bytes.Repeat([]byte{2}, 48))
	set := func(files ...string) balancer.TLS {
		return balancer.TLS{Enabled: true, CertFiles: []string{cert}, KeyFiles: []string{key}, TicketKeys: files}
	}
	machine := func(name string, files ...string) *keyring {
		t.Helper()
		k, err := newKeyring(name, set(files...), false, NewTickets(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := &tls.Config{InsecureSkipVerify: true, ServerName: "a.test", MaxVersion: version}
		goesOn := func(from, to *keyring, want bool, what string) {
			t.Helper()
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			if handshake(t, from, client) {
				t.Fatal("the first handshake was resumed")
			}
			if got := handshake(t, to, client); got != want {
				t.Errorf("%s: %s: resumed: %v; want %v", tls.VersionName(version), what, got, want)
			}
		}
		a := machine("www", one)
		goesOn(a, machine("www", one), true, "another machine")
		goesOn(a, machine("www", two, one), true, "a machine that has a newer key, too")
		goesOn(machine("www", two, one), a, false, "a machine that lacks the newer key")
		goesOn(a, machine("www"), false, "a machine with keys of its own")
		goesOn(a, machine("other", one), false, "another service")
		keys, err := LoadKeys(set(two, one))
		if err != nil {
			t.Fatal(err)
		}
		b := machine("www", two)
		goesOn(a, b, false, "a machine with another key")
		a.set(keys)
		goesOn(a, b, true, "the same after the key was replaced on the first")
	}
	for what, files := range map[string][]string{
		"empty": {file("empty", nil)}, "long": {one, file("long", make([]byte, 81))}, "not there": {filepath.Join(dir, "none")},
		"too many": slices.Repeat([]string{one}, maxTicketKeys+1),
	} {
		if _, err := LoadKeys(set(files...)); err == nil || !strings.Contains(err.Error(), "ssl_session_ticket_key: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
