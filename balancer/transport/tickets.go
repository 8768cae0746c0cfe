package transport

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// ticketRotation is after how long tickets get a new key, and ticketLifetime how long one opens them: crypto/tls's own times. The
	// latter is also the longest that RFC 8446 §4.6.1 lets a ticket live.
	ticketRotation = 24 * time.Hour
	ticketLifetime = 7 * 24 * time.Hour
	// maxTicketKeys is how many keys there are at most: one a day, of seven days and the one that has just begun.
	maxTicketKeys = 8

	ticketKeySize    = 32
	ticketRecordSize = 8 + ticketKeySize // when it was made, in Unix seconds, big-endian, and the key
)

// Tickets are the keys by which clients resume TLS sessions (RFC 8446 §2.2, RFC 5077): one in use, and those of the last days, which only
// open what they have closed. They are a secret for their life, and are kept in memory alone. Tickets are safe for concurrent use.
type Tickets struct {
	clock func() time.Time
	mu    sync.Mutex // of those who change keys
	keys  atomic.Pointer[ticketKeys]
}

// ticketKeys are the keys at some time, the newest first, at least one. They are never changed.
type ticketKeys []ticketKey

type ticketKey struct {
	made   time.Time
	secret [ticketKeySize]byte
}

// NewTickets makes keys that nobody has had before.
func NewTickets() *Tickets { return newTickets(nil, time.Now) }

func newTickets(keys ticketKeys, clock func() time.Time) *Tickets {
	t := &Tickets{clock: clock}
	now := clock()
	for i := range keys { // a clock that was put back must not make a key last
		if keys[i].made.After(now) {
			keys[i].made = now
		}
	}
	t.keys.Store(&keys)
	return t
}

// ReadTickets takes over the keys of another process, as its Tickets.Append has written them.
func ReadTickets(b []byte) (*Tickets, error) {
	keys, err := parseTickets(b)
	if err != nil {
		return nil, err
	}
	return newTickets(keys, time.Now), nil
}

var errTickets = errors.New("these are no keys of session tickets")

func parseTickets(b []byte) (ticketKeys, error) {
	if len(b) == 0 || len(b)%ticketRecordSize != 0 || len(b) > maxTicketKeys*ticketRecordSize {
		return nil, fmt.Errorf("%w: %d bytes", errTickets, len(b))
	}
	var keys ticketKeys
	for ; len(b) > 0; b = b[ticketRecordSize:] {
		k := ticketKey{made: time.Unix(int64(binary.BigEndian.Uint64(b)), 0), secret: [ticketKeySize]byte(b[8:ticketRecordSize])}
		if k.secret == [ticketKeySize]byte{} {
			return nil, fmt.Errorf("%w: one is empty", errTickets)
		}
		if n := len(keys); n > 0 && k.made.After(keys[n-1].made) {
			return nil, fmt.Errorf("%w: they are not in order", errTickets)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// Append appends the keys, for ReadTickets. Who has them can read what clients say that came with a ticket, so they must go nowhere but to a
// process that takes over.
func (t *Tickets) Append(b []byte) []byte {
	for _, k := range *t.current() {
		b = binary.BigEndian.AppendUint64(b, uint64(k.made.Unix()))
		b = append(b, k.secret[:]...)
	}
	return b
}

// current are the keys for now. As long as no new one is due they are the same pointer.
func (t *Tickets) current() *ticketKeys {
	now := t.clock()
	if keys := t.keys.Load(); keys.fresh(now) {
		return keys
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.keys.Load()
	if old.fresh(now) {
		return old
	}
	keys := ticketKeys{{made: now}}
	rand.Read(keys[0].secret[:]) // it never fails
	for _, k := range *old {
		if now.Sub(k.made) < ticketLifetime && len(keys) < maxTicketKeys {
			keys = append(keys, k)
		}
	}
	t.keys.Store(&keys)
	return &keys
}

func (k *ticketKeys) fresh(now time.Time) bool {
	return len(*k) > 0 && now.Sub((*k)[0].made) < ticketRotation
}

// derive are keys for one purpose. A ticket of one is nothing to another: a client that was let in, or a server that was believed, by one
// service's certificates would be by another's else.
func (k *ticketKeys) derive(scope string) [][ticketKeySize]byte {
	list := make([][ticketKeySize]byte, 0, len(*k))
	for _, one := range *k {
		h := hmac.New(sha256.New, one.secret[:])
		io.WriteString(h, scope)
		list = append(list, [ticketKeySize]byte(h.Sum(nil)))
	}
	return list
}

// readTicketFiles reads keys that several machines have in common, the first of which is in use. They are files as nginx has them: 48 or 80
// random bytes. nil: there are none.
func readTicketFiles(files []string) (*ticketKeys, error) {
	if len(files) == 0 {
		return nil, nil
	}
	if len(files) > maxTicketKeys {
		return nil, fmt.Errorf("ssl_session_ticket_key: %d files; there may be %d", len(files), maxTicketKeys)
	}
	var keys ticketKeys
	for _, file := range files {
		b, err := readUpTo(file, 81)
		if err != nil {
			return nil, fmt.Errorf("ssl_session_ticket_key: %w", err)
		}
		if len(b) != 48 && len(b) != 80 {
			return nil, fmt.Errorf("ssl_session_ticket_key: %s does not have 48 or 80 bytes (openssl rand 80 > %s)", file, file)
		}
		keys = append(keys, ticketKey{secret: sha256.Sum256(b)})
	}
	return &keys, nil
}

// readUpTo reads the first n bytes of a file.
func readUpTo(file string, n int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, n))
}
