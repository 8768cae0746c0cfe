package memcache

import (
	"bytes"
	"fmt"
	"strconv"
)

// MaxLine is the longest line of a reply that is read, in bytes. Those of memcached are below 1 KiB.
const MaxLine = 8 << 10

// header is the first line of a value: "VALUE key flags size [cas]" or "VA size flags…".
type header struct {
	key   string // empty where the server did not say
	flags uint32
	size  int // bytes; -1: there is no value
	cas   uint64
	won   bool // W: who has this reply is the one to store the value
	stale bool // X: the value was marked as old
}

var (
	space     = []byte(" ")
	valueWord = []byte("VALUE ")
	statWord  = []byte("STAT ")
	hotWord   = []byte("HOT ")
	slowWord  = []byte("SLOW ")
)

func unexpected(line []byte) error {
	return fmt.Errorf("%w: %.100q", ErrProtocol, line)
}

// refusal returns the error that a line is, or nil if it is none (protocol.txt, "Error strings").
func refusal(line []byte) error {
	for _, word := range []string{"ERROR", "CLIENT_ERROR", "SERVER_ERROR"} {
		if rest, ok := bytes.CutPrefix(line, []byte(word)); ok && (len(rest) == 0 || rest[0] == ' ' || rest[0] == ':') {
			return &ServerError{Text: string(line)}
		}
	}
	return nil
}

// parseValue reads "VALUE key flags size [cas]" (protocol.txt, "Retrieval command"). limit is the greatest size.
func parseValue(line []byte, limit int) (h header, err error) {
	rest, ok := bytes.CutPrefix(line, valueWord)
	f := bytes.Split(rest, space)
	if !ok || len(f) < 3 || len(f) > 4 || checkKey(string(f[0])) != nil {
		return header{}, unexpected(line)
	}
	h.key = string(f[0])
	flags, err := strconv.ParseUint(string(f[1]), 10, 32)
	if err != nil {
		return header{}, unexpected(line)
	}
	h.flags = uint32(flags)
	if len(f) == 4 {
		if h.cas, err = strconv.ParseUint(string(f[3]), 10, 64); err != nil {
			return header{}, unexpected(line)
		}
	}
	h.size, err = parseSize(f[2], line, limit)
	return h, err
}

func parseSize(text, line []byte, limit int) (int, error) {
	size, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil {
		return 0, unexpected(line)
	}
	if size > uint64(limit) {
		return 0, fmt.Errorf("%w: %d bytes; the limit is %d", ErrTooLarge, size, limit)
	}
	return int(size), nil
}

// parseMeta reads a reply of the meta protocol: a code, a size if the code is VA, flags (protocol.txt, "Meta Commands"). It keeps the
// flags c, f, k, W and X, and passes over others. limit is the greatest size.
func parseMeta(line []byte, limit int) (code string, h header, err error) {
	f := bytes.Split(bytes.TrimRight(line, " "), space)
	h.size = -1
	switch code = string(f[0]); code {
	case "VA":
		if len(f) < 2 {
			return "", header{}, unexpected(line)
		}
		if h.size, err = parseSize(f[1], line, limit); err != nil {
			return "", header{}, err
		}
		f = f[1:]
	case "HD", "EN", "NS", "EX", "NF", "MN":
	default:
		return "", header{}, unexpected(line)
	}
	for _, flag := range f[1:] {
		if len(flag) == 0 {
			return "", header{}, unexpected(line)
		}
		token, err := string(flag[1:]), error(nil)
		switch flag[0] {
		case 'c':
			h.cas, err = strconv.ParseUint(token, 10, 64)
		case 'f':
			var flags uint64
			flags, err = strconv.ParseUint(token, 10, 32)
			h.flags = uint32(flags)
		case 'k':
			h.key, err = token, checkKey(token)
		case 'W':
			h.won = true
		case 'X':
			h.stale = true
		}
		if err != nil {
			return "", header{}, unexpected(line)
		}
	}
	return code, h, nil
}

// parseNumber reads the reply of incr and decr.
func parseNumber(line []byte) (uint64, error) {
	n, err := strconv.ParseUint(string(bytes.TrimRight(line, " ")), 10, 64) // decr leaves blanks behind a number that became shorter
	if err != nil {
		return 0, unexpected(line)
	}
	return n, nil
}

// parseStat reads "STAT name value", where the value can be empty and can have spaces; "HOT key part"; or "SLOW text", whose name is its number, n.
func parseStat(line []byte, n int) (name, value string, err error) {
	if text, ok := bytes.CutPrefix(line, slowWord); ok {
		return strconv.Itoa(n), string(text), nil
	}
	rest, ok := bytes.CutPrefix(line, statWord)
	if !ok {
		rest, ok = bytes.CutPrefix(line, hotWord)
	}
	key, val, _ := bytes.Cut(rest, space)
	if !ok || len(key) == 0 {
		return "", "", unexpected(line)
	}
	return string(key), string(val), nil
}
