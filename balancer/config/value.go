package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Fault is an error in the words that an operator reads, Perlbal's own where it has any.
type Fault string

func (f Fault) Error() string { return string(f) }

func fault(format string, args ...any) Fault { return Fault(fmt.Sprintf(format, args...)) }

// kindFault is a value that is not of its parameter's kind: a format for the parameter's name.
type kindFault string

func (f kindFault) Error() string { return fmt.Sprintf(string(f), "?") }

const (
	errBool    = kindFault("Expecting boolean value for parameter '%s'")
	errInt     = kindFault("Expecting integer value for parameter '%s'")
	errSize    = kindFault("Expecting size unit value for parameter '%s' in bytes, or suffixed with 'K' or 'M'")
	errTime    = kindFault("Expecting a time for parameter '%s': seconds, or a number with a unit, as in 250ms")
	errRange   = kindFault("Value out of range for parameter '%s'")
	errVersion = kindFault("Expecting 1.2 or 1.3 for parameter '%s'")
	errInvalid = Fault("invalid command")
	errDir     = Fault("Directory not found for service")
)

// ParseBool reads 1, true, on, yes, 0, false, off, no in any case.
func ParseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "true", "on", "yes":
		return true, nil
	case "0", "false", "off", "no":
		return false, nil
	}
	return false, errBool
}

// ParseInt reads digits.
func ParseInt(s string) (int, error) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, errInt
		}
	}
	n, err := strconv.Atoi(s)
	if errors.Is(err, strconv.ErrRange) {
		return 0, errRange
	}
	if err != nil {
		return 0, errInt
	}
	return n, nil
}

// ParseSize reads bytes, or with a suffix b, k, m or g bytes, KiB, MiB or GiB.
func ParseSize(s string) (int64, error) {
	shift := 0
	digits := s
	if s != "" {
		switch s[len(s)-1] {
		case 'b', 'B':
			digits = s[:len(s)-1]
		case 'k', 'K':
			digits, shift = s[:len(s)-1], 10
		case 'm', 'M':
			digits, shift = s[:len(s)-1], 20
		case 'g', 'G':
			digits, shift = s[:len(s)-1], 30
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && n > math.MaxInt64>>shift:
		return 0, errRange
	case err != nil || digits[0] == '+':
		return 0, errSize
	}
	return int64(n) << shift, nil
}

// ParseTime reads seconds, decimals allowed, or a duration with a unit.
func ParseTime(s string) (time.Duration, error) {
	if s == "" || strings.ContainsAny(s, "+-eExXpPiI_") {
		return 0, errTime
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if !(f >= 0 && f < math.MaxInt64/float64(time.Second)) {
			return 0, errRange
		}
		return time.Duration(f * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, errTime
	}
	return d, nil
}

// ParseList reads words that commas or spaces separate.
func ParseList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// ParseListen reads [ip:]port, or unix:/path, into an address to listen on.
func ParseListen(s string) (string, error) {
	const bad = Fault("Listen argument must be ip:port or port. e.g. 192.168.0.1:80 or 81")
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return "", bad
		}
		return s, nil
	}
	host, port := "", s
	if strings.Contains(s, ":") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return "", bad
		}
	}
	if !validPort(port) {
		return "", bad
	}
	if host != "" {
		if _, err := netip.ParseAddr(host); err != nil {
			return "", bad
		}
	}
	return net.JoinHostPort(host, port), nil
}

// ParseNode reads a backend's address: ip[:port], [ipv6][:port], name:port, unix:/path or local:NAME. The port, from 1 to 65535, is 80 if
// none is given.
func ParseNode(s string) (string, error) {
	bad := fmt.Errorf("invalid node address '%s': expecting ip:port", s)
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return "", bad
		}
		return s, nil
	}
	if name, ok := strings.CutPrefix(s, "local:"); ok {
		if !isWord(name) {
			return "", bad
		}
		return s, nil
	}
	bare := s
	if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inner, "]") {
		bare = inner[:len(inner)-1]
	}
	if a, ok := parseIP(bare); ok {
		return netip.AddrPortFrom(a, 80).String(), nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if !strings.Contains(s, ":") && validName(s) {
			return ParseNode(strings.ToLower(s) + ":80") // refuses hosts named unix and local
		}
		return "", bad
	}
	n, err := ParseInt(port)
	if err == errInt || port == "" {
		return "", bad
	}
	if err != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("invalid node address '%s': the port is not one from 1 to 65535", s)
	}
	if a, ok := parseIP(host); ok {
		return netip.AddrPortFrom(a, uint16(n)).String(), nil
	}
	if !validName(host) {
		return "", bad
	}
	return net.JoinHostPort(strings.ToLower(host), port), nil
}

// validPort reports whether s is a port to listen on: a number up to 65535.
func validPort(s string) bool {
	n, err := ParseInt(s)
	return err == nil && n <= 65535
}

// parseIP reads an IP address; a zone (RFC 4007 §11) is the name of an interface, and not any text.
func parseIP(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	for _, c := range []byte(a.Zone()) {
		if !wordByte(c) && strings.IndexByte(".-@", c) < 0 {
			return netip.Addr{}, false
		}
	}
	return a, err == nil
}

// validName reports whether s can be a host's name (RFC 1123 §2.1), which all digits and dots cannot.
func validName(s string) bool {
	letter := false
	for _, label := range strings.Split(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i] | 0x20
			letter = letter || c >= 'a' && c <= 'z'
			if c != '-'|0x20 && !wordByte(label[i]) && label[i] != '-' {
				return false
			}
		}
	}
	return letter && len(s) <= 253
}

// IsToken reports whether s is a token (RFC 9110 §5.6.2): the name of a field, a method, or a cookie (RFC 6265 §4.1.1).
func IsToken(s string) bool {
	for i := range len(s) {
		if !wordByte(s[i]) && strings.IndexByte("!#$%&'*+-.^`|~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

// hostForm is what a Host field may say (RFC 9110 §7.2, RFC 3986 §3.2.2).
var hostForm = regexp.MustCompile(`^([\w.~!$&'()*+,;=%-]+|\[[\w.~!$&'()*+,;=%:-]+\])(:[0-9]{0,5})?$`)

// ParsePrefixes reads addresses, networks a.b.c.d/n, and Net::Netmask's other forms: a.b.c (the network of it), a.b.c.d:m.m.m.m, and any or
// default, which are all addresses, of IPv6 too.
func ParsePrefixes(s string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, w := range ParseList(s) {
		if strings.EqualFold(w, "any") || strings.EqualFold(w, "default") {
			list = append(list, netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0))
			continue
		}
		p, err := parsePrefix(w)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

func parsePrefix(w string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(w); err == nil {
		return p.Masked(), nil
	}
	if a, err := netip.ParseAddr(w); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	base, bits, slash := strings.Cut(w, "/")
	base, mask, colon := strings.Cut(base, ":")
	parts := strings.Split(base, ".")
	n := 8 * len(parts)
	for len(parts) < 4 {
		parts = append(parts, "0")
	}
	a, err := netip.ParseAddr(strings.Join(parts, "."))
	if err == nil && slash {
		n, err = ParseInt(bits)
	}
	if err == nil && colon {
		var m netip.Addr
		if m, err = netip.ParseAddr(mask); err == nil && m.Is4() {
			ip := m.As4()
			var size int
			if n, size = net.IPMask(ip[:]).Size(); size == 0 {
				err = errors.New("not a mask")
			}
		}
	}
	if err == nil {
		if p := netip.PrefixFrom(a, n); p.IsValid() && a.Is4() {
			return p.Masked(), nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("invalid network '%s'", w)
}

func checkFile(path string) error {
	if fi, err := os.Stat(path); err != nil || fi.IsDir() {
		return fileFault("File '" + path + "' not found")
	}
	return nil
}

func checkExecutable(path string) error {
	const mayExecute = 1 // of access(2)
	err := checkFile(path)
	if err == nil && syscall.Access(path, mayExecute) != nil {
		err = fileFault("File '" + path + "' is not executable")
	}
	return err
}

// fileFault is a file that is not there, or not of the kind that is wanted.
type fileFault string

func (f fileFault) Error() string { return string(f) }

// isMissing reports whether an error is about what the file system has at a path, and nothing else.
func isMissing(err error) bool {
	var f fileFault
	return errors.As(err, &f) || errors.Is(err, errDir)
}

func checkDir(path string) error {
	if fi, err := os.Stat(path); err != nil || !fi.IsDir() {
		return errDir
	}
	return nil
}

func parseTLSVersion(s string) (uint16, error) {
	switch s {
	case "1.2":
		return tls.VersionTLS12, nil
	case "1.3":
		return tls.VersionTLS13, nil
	}
	return 0, errVersion
}
