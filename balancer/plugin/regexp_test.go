package plugin

import (
	"os/exec"
	"strings"
	"testing"
)

// patterns are of Perl's common syntax.
var patterns = []string{
	`^/a`, `\.(?:gif|jpe?g)$`, `(?i)^/IMG/`, `^\/x\/\d+\z`, `^/\w+/[^/]+\Z`, `[]a]b`, `[^]a]b`, `[[:alpha:]]+\d`, `^(?:/interface/(?:xmlrpc|flat)|/login\.bml)$`,
	`(?^i:abc)`, `(?#note)a`, `(?'n'a)b`, `(?<n>a)b`, `\ha`, `a\Nb`, `[\h-]x`, `x{2,3}y`, `a{,b`, `\x41`, `\0?a`, `a\-b`, `\/\_\.`, `(?a)\w`, `[\b]?a`, `\cA?a`, `a|b|`, `(?i-s:A.)b`,
}

var subjects = []string{
	"/a", "/a.gif", "/a.jpeg?x", "/img/1", "/IMG/", "/x/12", "/x/12a", "/foo/bar", "]b", "ab", "cb", "abc1", "a.bX", "aXbX", "/interface/flat", "/login.bml",
	"ABC", "\ta", "axb", "-x", "xxy", "xy", "a{,b", "A", "a-b", "/_.", "", "b", "A\tb",
}

// TestAsPerlMatches compares with perl itself.
func TestAsPerlMatches(t *testing.T) {
	cmd := exec.Command("perl", "-e", `
		my @in = split /\0/, join '', <STDIN>; my $n = shift @in;
		my @p = splice @in, 0, $n;
		for my $p (@p) { print join('', map { $_ =~ /$p/ ? 1 : 0 } @in), "\n" }`)
	all := append([]string{itoa(len(patterns))}, patterns...)
	cmd.Stdin = strings.NewReader(strings.Join(append(all, subjects...), "\x00"))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(string(out)), "\n")
	for i, p := range patterns {
		re, err := Regexp(p)
		if err != nil {
			t.Error(err)
			continue
		}
		for k, s := range subjects {
			if want := rows[i][k] == '1'; re.MatchString(s) != want {
				t.Errorf("%s on %q: %v; perl %v (%s)", p, s, !want, want, re)
			}
		}
	}
}

func itoa(n int) string { return string(rune('0'+n/10)) + string(rune('0'+n%10)) }

func TestRegexpNamesWhatIsMissing(t *testing.T) {
	for p, want := range map[string]string{
		`a(?=b)`: "look-ahead", `a(?!b)`: "negative look-ahead", `(?<=a)b`: "look-behind", `(?<!a)b`: "negative look-behind", `(a)\1`: "back-references",
		`(?<n>a)\k<n>`: "back-references", `(?>a)`: "atomic groups", `a++`: "++", `(?R)`: "recursion", `(?1)`: "recursion", `(?(1)a)`: "conditions",
		`(?{1})`: "code", `(?x) a`: "(?x)", `\Ka`: `\K`, `(`: "missing closing )", `a\`: "a backslash at the end", `(?`: "without an end", `(?#a`: "without an end",
		`(*FAIL)`: "verbs", `\N{U+41}`: `\N`, strings.Repeat("a", 5000): "too long", `[\R]`: "inside of [ ]",
	} {
		if re, err := Regexp(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Regexp(%.20q) = %v, %v; want an error with %q", p, re, err, want)
		}
	}
}

func TestRegexpQuotes(t *testing.T) { // Perl does that in its programs' text alone
	re, err := Regexp(`\Qa.b\E.`)
	if err != nil || !re.MatchString("a.bX") || re.MatchString("aXbX") {
		t.Errorf("%v, %v", re, err)
	}
}

func FuzzRegexp(f *testing.F) {
	for _, p := range patterns {
		f.Add(p, "/a.gif")
	}
	f.Fuzz(func(t *testing.T, p, s string) {
		if re, err := Regexp(p); err == nil {
			re.MatchString(s)
		} else if err.Error() == "" {
			t.Fatal("an error without a word")
		}
	})
}
