package metacache

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"wheelhouse/memcache"
	"wheelhouse/store"
)

// recordKey is the setting that holds the record.
const recordKey = store.ReservedSettings + "servers"

// recordVersion is the record's first line. It stands for all that processes must have in common to use the same caches: the form of the record, of
// keys and of values, which server has which key, and how long a lease is.
const recordVersion = "metacache 1 "

// voidWord begins a record that stands for one that could not be read. No version changes its form.
const voidWord = "void "

// newVoid is a record without servers that was not there before: who finds it cannot know what others believe.
func newVoid() string { return fmt.Sprintf("%s%016x\n", voidWord, newEpoch()) }

func isVoid(text string) bool {
	n, ok := strings.CutPrefix(text, voidWord)
	if !ok || len(n) != 17 || n[16] != '\n' {
		return false
	}
	_, err := strconv.ParseUint(n[:16], 16, 64)
	return err == nil
}

// MaxServers limits the list of servers.
const MaxServers = 64

// state says what may be done with a server.
type state uint8

const (
	out     state = iota // nothing
	joining              // deletes
	in                   // deletes and reads
)

var stateNames = [...]string{"out", "joining", "in"}

func (s state) String() string { return stateNames[s] }

// member is a server in the record.
type member struct {
	server memcache.Server
	epoch  uint64
	state  state
}

// record is what the catalog knows of the servers. It has a text form, a line for each: epoch, state, address.
type record []member

var errRecord = errors.New("metacache: the record of the servers is of another version, or damaged")

// format writes a record; lease is T, for which all processes must have the same.
func (r record) format(lease string) string {
	if len(r) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(recordVersion + lease + "\n")
	for _, m := range r {
		fmt.Fprintf(&b, "%016x %s %s\n", m.epoch, m.state, m.server)
	}
	return b.String()
}

// parseRecord reads what format writes. The empty text and newVoid's are records without servers.
func parseRecord(text, lease string) (record, error) {
	if text == "" || isVoid(text) {
		return nil, nil
	}
	body, ok := strings.CutPrefix(text, recordVersion+lease+"\n")
	if !ok || !strings.HasSuffix(body, "\n") || strings.Count(body, "\n") > MaxServers {
		return nil, errRecord
	}
	var r record
	for line := range strings.SplitSeq(strings.TrimSuffix(body, "\n"), "\n") {
		epoch, rest, _ := strings.Cut(line, " ")
		name, addr, _ := strings.Cut(rest, " ")
		e, err := strconv.ParseUint(epoch, 16, 64)
		s := slices.Index(stateNames[:], name)
		server, serverErr := memcache.ParseServer(addr)
		if err != nil || len(epoch) != 16 || s < 0 || serverErr != nil || server.String() != addr {
			return nil, errRecord
		}
		r = append(r, member{server, e, state(s)})
	}
	if r.format(lease) != text {
		return nil, errRecord
	}
	return r, nil
}

// newRecord is the record of a list of servers of which none is in use yet.
func newRecord(servers []memcache.Server) record {
	r := make(record, len(servers))
	for i, s := range servers {
		r[i] = member{s, newEpoch(), out}
	}
	return r
}

// same reports whether the record is of a list of servers, in the same order.
func (r record) same(servers []memcache.Server) bool {
	return slices.EqualFunc(r, servers, func(m member, s memcache.Server) bool { return m.server == s })
}

func newEpoch() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}
