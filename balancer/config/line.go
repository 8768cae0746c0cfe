// Package config is Perlbal's configuration and console language: its lines, the values of its parameters, the state that its
// commands make, and that state printed again.
//
// Nothing here opens, listens or connects. A command changes a [State], or leaves it as it was and says why; whoever runs the
// services compares the state before with that after. A whole file is therefore taken or refused as one.
package config

import (
	"fmt"
	"net"
	"strings"
)

// MaxLine is the longest line that is read, in bytes.
const MaxLine = 64 << 10

// Command is one line of the language.
type Command struct {
	Verb string // first word, in lower case
	Args string // the rest, white space at both ends removed, case kept
}

// Line is the command as a whole.
func (c Command) Line() string {
	if c.Args == "" {
		return c.Verb
	}
	return c.Verb + " " + c.Args
}

// Expander gives the values of variables.
type Expander struct {
	Env func(name string) (string, bool) // $NAME
	IP  func(iface string) (string, error)
}

// ParseLine takes a line apart: what follows the first '#' is dropped, variables are expanded, runs of white space become one
// space. ok is false for a line with nothing in it. Unlike Perlbal it keeps the case of everything but the command's name;
// names of services, pools and parameters are compared without regard to it.
func ParseLine(line string, x Expander) (c Command, ok bool, err error) {
	if i := strings.IndexByte(line, '#'); i >= 0 {
		line = line[:i]
	}
	if line, err = x.expand(line); err != nil {
		return c, false, err
	}
	words := strings.Fields(line)
	if len(words) == 0 {
		return c, false, nil
	}
	if name, rest, ok := strings.Cut(words[0], "="); ok && name != "" { // INCLUDE=file, PERLHANDLER=name
		words = append([]string{name, "=" + rest}, words[1:]...)
	}
	c = Command{strings.ToLower(words[0]), strings.Join(words[1:], " ")}
	for _, b := range []byte(line) {
		if b < ' ' && b != '\t' && b != '\r' && b != '\n' || b == 0x7f {
			return c, false, fmt.Errorf("control character %q in a command", b)
		}
	}
	if !wordByte(line[strings.IndexFunc(line, notSpace)]) {
		return c, false, errInvalid
	}
	return c, true, nil
}

func notSpace(r rune) bool { return !strings.ContainsRune(" \t\r\n\v\f\u0085\u00a0", r) }

func wordByte(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

func isWord(s string) bool {
	for i := range len(s) {
		if !wordByte(s[i]) {
			return false
		}
	}
	return s != ""
}

// expand replaces ${ip:IFACE} and $NAME.
func (x Expander) expand(line string) (string, error) {
	if strings.IndexByte(line, '$') < 0 {
		return line, nil
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(line, '$')
		if i < 0 {
			b.WriteString(line)
			return b.String(), nil
		}
		b.WriteString(line[:i])
		line = line[i+1:]
		if strings.HasPrefix(line, "{") {
			end := strings.IndexByte(line, '}')
			kind, arg, found := strings.Cut(line[1:max(end, 1)], ":")
			if end < 0 || !found {
				b.WriteByte('$')
				continue
			}
			if !strings.EqualFold(kind, "ip") {
				return "", fmt.Errorf("unknown variable type '%s'", kind)
			}
			ip, err := x.ip(arg)
			if err != nil {
				return "", err
			}
			b.WriteString(ip)
			line = line[end+1:]
			continue
		}
		n := 0
		for n < len(line) && wordByte(line[n]) {
			n++
		}
		if n == 0 {
			b.WriteByte('$')
			continue
		}
		if x.Env != nil {
			v, _ := x.Env(line[:n])
			b.WriteString(v)
		}
		line = line[n:]
	}
}

func (x Expander) ip(iface string) (string, error) {
	if x.IP != nil {
		return x.IP(iface)
	}
	return InterfaceIP(iface)
}

// InterfaceIP is the first IPv4 address of a network interface.
func InterfaceIP(name string) (string, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return "", fmt.Errorf("unknown interface '%s'", name)
	}
	addrs, err := i.Addrs()
	if err != nil {
		return "", fmt.Errorf("interface %s: %w", name, err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			return n.IP.String(), nil
		}
	}
	return "", fmt.Errorf("interface %s has no IPv4 address", name)
}
