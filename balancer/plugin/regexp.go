package plugin

import (
	"fmt"
	"regexp"
	"strings"

	"wheelhouse/balancer/config"
)

// maxRegexp is the longest regular expression, in bytes.
const maxRegexp = 4096

// Regexp compiles a regular expression of Perl's. What Go's (RE2) writes otherwise is rewritten; what it does not have is refused by
// name: look-around, back-references, atomic groups, recursion, conditions, code and (?x).
func Regexp(expr string) (*regexp.Regexp, error) {
	if len(expr) > maxRegexp {
		return nil, config.Fault("Invalid regular expression: too long")
	}
	t := translator{in: expr}
	if err := t.run(); err != nil {
		return nil, config.Fault(fmt.Sprintf("Invalid regular expression '%s': %v", expr, err))
	}
	re, err := regexp.Compile(t.out.String())
	if err != nil {
		return nil, config.Fault(fmt.Sprintf("Invalid regular expression '%s': %s", expr, strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
	}
	return re, nil
}

// translator turns Perl's syntax into Go's.
type translator struct {
	in    string
	at    int
	class bool // inside [ ]
	out   strings.Builder
}

func (t *translator) run() error {
	for t.at < len(t.in) {
		rest := t.in[t.at:]
		switch {
		case rest[0] == '\\':
			if err := t.escape(rest); err != nil {
				return err
			}
		case t.class:
			t.inClass(rest)
		case rest[0] == '[':
			t.openClass(rest)
		case strings.HasPrefix(rest, "(*"):
			return fmt.Errorf("verbs such as (*…) are not supported")
		case strings.HasPrefix(rest, "(?"):
			if err := t.group(rest); err != nil {
				return err
			}
		default:
			t.copy(1)
		}
	}
	return nil
}

func (t *translator) copy(n int) {
	t.out.WriteString(t.in[t.at : t.at+n])
	t.at += n
}

func (t *translator) put(s string, n int) {
	t.out.WriteString(s)
	t.at += n
}

// openClass copies the beginning of a class; a ']' there is a member.
func (t *translator) openClass(rest string) {
	t.class = true
	n := 1
	if strings.HasPrefix(rest[n:], "^") {
		n++
	}
	if strings.HasPrefix(rest[n:], "]") {
		n++
	}
	t.copy(n)
}

// inClass copies one member of a class.
func (t *translator) inClass(rest string) {
	if strings.HasPrefix(rest, "[:") {
		if i := strings.Index(rest, ":]"); i > 0 {
			t.copy(i + 2)
			return
		}
	}
	t.class = rest[0] != ']'
	t.copy(1)
}

// same are Perl's escapes that mean something else to Go, or nothing: outside of a class, and inside.
var same = map[byte][2]string{
	'h': {`[ \t]`, ` \t`}, 'H': {`[^ \t]`, ""}, 'v': {`[\n-\r]`, `\n-\r`}, 'V': {`[^\n-\r]`, ""}, 'R': {`(?:\r\n|[\n-\r])`, ""},
	'Z': {`\n?\z`, ""}, 'N': {`[^\n]`, ""}, 'e': {`\x1b`, `\x1b`}, 'b': {`\b`, `\x08`}, '0': {`\x00`, `\x00`},
}

// escape translates what begins with a backslash.
func (t *translator) escape(rest string) error {
	if len(rest) < 2 {
		return fmt.Errorf("a backslash at the end")
	}
	c := rest[1]
	switch {
	case c == 'Q':
		n := len(rest)
		if i := strings.Index(rest, `\E`); i >= 0 {
			n = i + 2
		}
		t.put(regexp.QuoteMeta(strings.TrimSuffix(rest[2:n], `\E`)), n)
		return nil
	case c == 'c' && len(rest) > 2:
		t.put(fmt.Sprintf(`\x{%x}`, (rest[2]&^0x20)^0x40), 3)
		return nil
	case !t.class && c >= '1' && c <= '9', c == 'g', c == 'k':
		return fmt.Errorf(`back-references such as \%c are not supported`, c)
	case c == 'K', c == 'G', c == 'X', c == 'o', c == 'N' && strings.HasPrefix(rest, `\N{`):
		return fmt.Errorf(`\%c is not supported`, c)
	}
	if pair, ok := same[c]; ok {
		s := pair[0]
		if t.class {
			s = pair[1]
		}
		if s == "" {
			return fmt.Errorf(`\%c is not supported inside of [ ]`, c)
		}
		t.put(s, 2)
		return nil
	}
	t.copy(2)
	return nil
}

// refused are kinds of groups that Go does not have, by what they begin with.
var refused = []struct{ start, what string }{
	{"(?=", "look-ahead (?=…)"},
	{"(?!", "negative look-ahead (?!…)"},
	{"(?<=", "look-behind (?<=…)"},
	{"(?<!", "negative look-behind (?<!…)"},
	{"(?>", "atomic groups (?>…)"},
	{"(?|", "branch reset (?|…)"},
	{"(?(", "conditions (?(…)…)"},
	{"(?{", "code (?{…})"},
	{"(??", "code (??{…})"},
	{"(?R", "recursion (?R)"},
	{"(?&", "recursion (?&…)"},
	{"(?+", "recursion (?+…)"},
	{"(?P>", "recursion (?P>…)"},
	{"(?P=", "back-references (?P=…)"},
}

// group translates what begins with "(?".
func (t *translator) group(rest string) error {
	for _, r := range refused {
		if strings.HasPrefix(rest, r.start) {
			return fmt.Errorf("%s not supported", r.what)
		}
	}
	switch {
	case strings.HasPrefix(rest, "(?#"):
		end := strings.IndexByte(rest, ')')
		if end < 0 {
			return fmt.Errorf("a comment without an end")
		}
		t.at += end + 1
		return nil
	case strings.HasPrefix(rest, "(?'"):
		name, _, ok := strings.Cut(rest[3:], "'")
		if !ok {
			return fmt.Errorf("a name without an end")
		}
		t.put("(?P<"+name+">", len(name)+4)
		return nil
	case strings.HasPrefix(rest, "(?<"), strings.HasPrefix(rest, "(?P"):
		t.copy(2)
		return nil
	}
	end := strings.IndexAny(rest, ":)")
	if end < 0 {
		return fmt.Errorf("a group without an end")
	}
	flags, _ := strings.CutPrefix(rest[2:end], "^")
	if i := strings.IndexAny(flags, "0123456789"); i >= 0 {
		return fmt.Errorf("recursion (?%s) not supported", flags)
	}
	if on, _, _ := strings.Cut(flags, "-"); strings.ContainsRune(on, 'x') {
		return fmt.Errorf("(?x) is not supported")
	}
	kept := strings.Map(func(c rune) rune {
		if strings.ContainsRune("adlupnx", c) { // of encodings, or without meaning here
			return -1
		}
		return c
	}, flags)
	kept = strings.TrimSuffix(kept, "-")
	if kept == "" && rest[end] == ')' {
		t.at += end + 1
		return nil
	}
	t.put("(?"+kept, end)
	return nil
}
