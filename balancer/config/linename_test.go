package config

import "testing"

func TestACommandsNameEndsAtTheEqualsSign(t *testing.T) {
	for line, want := range map[string]Command{
		"INCLUDE=/etc/A=B": {"include", "=/etc/A=B"}, "PerlHandler = My::x": {"perlhandler", "= My::x"}, "INCLUDE= a b": {"include", "= a b"},
		"SET a=b": {"set", "a=b"},
	} {
		if got, ok, err := ParseLine(line, Expander{}); got != want || !ok || err != nil {
			t.Errorf("ParseLine(%q) = %+v, %v, %v; want %+v", line, got, ok, err, want)
		}
	}
	if got, _, err := ParseLine("=x", Expander{}); err == nil {
		t.Errorf("ParseLine(=x) = %+v", got)
	}
}
