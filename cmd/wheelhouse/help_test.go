package main

import (
	"bytes"
	"strings"
	"testing"
)

// Each command, and each of its subcommands, has a help that begins with its own name and what it takes.
func TestHelpOfEachCommand(t *testing.T) {
	help := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if status := run(append(args, "-h"), &environment{strings.NewReader(""), &out, &out}); status != 0 {
			t.Errorf("%s -h: status %d", strings.Join(args, " "), status)
		}
		first, _, _ := strings.Cut(out.String(), "\n")
		return strings.ToLower(first)
	}
	for _, c := range commands() {
		if c.name == "gearmand" || c.name == "memcached" || c.name == "gearman" || c.name == "version" { // in the words of their ancestors; nothing to say
			continue
		}
		if got := help(c.name); !strings.Contains(got, "wheelhouse "+c.name) && !strings.Contains(got, "job") {
			t.Errorf("%s -h begins with %q", c.name, got)
		}
		if !strings.Contains(c.args, "|") || strings.ContainsAny(c.args, " [") {
			continue
		}
		for sub := range strings.SplitSeq(c.args, "|") {
			if sub == "…" {
				continue
			}
			name := c.name + " " + sub
			got := help(c.name, sub)
			if want := strings.ToLower("usage of wheelhouse " + name + " " + operands[name]); !strings.HasPrefix(got, strings.TrimSpace(want)) {
				t.Errorf("%s -h begins with %q; want %q", name, got, want)
			}
		}
	}
}

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"häuser/a b.jpg": "häuser/a b.jpg", "\x1b[31mred\nFAKE": `\x1b[31mred\nFAKE`, "a\tb\x00\x7f": `a\tb\x00\x7f`, "\xff\xfe": `\xff\xfe`,
		"\u202egnp.exe": `\u202egnp.exe`, "": "",
	} {
		if got := visible(in); got != want {
			t.Errorf("visible(%q) = %q; want %q", in, got, want)
		}
	}
}
