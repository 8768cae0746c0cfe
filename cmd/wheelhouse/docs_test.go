package main

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	balancerconfig "wheelhouse/balancer/config"
	"wheelhouse/internal/config"
)

// The generated reference is what the program says of itself; `make docs` writes it.
func TestGeneratedDocsAreCurrent(t *testing.T) {
	var describe, help, tunables bytes.Buffer
	describeConfig(&describe, config.Keys(defaultConfig(), envPrefix))
	printHelp(&help)
	describeTunables(&tunables, balancerconfig.NewLanguage(balancerconfig.NewPlugins(balancerPlugins()...)))
	for file, want := range map[string]string{
		"../../docs/ops/configuration.toml": describe.String(), "../../docs/ops/commands.txt": help.String(),
		"../../docs/ops/balancer-tunables.txt": tunables.String(),
	} {
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, string(got)); d != "" {
			t.Errorf("%s is not current (make docs):\n%s", file, d)
		}
	}
}

// deps.txt lists the modules that are in the program, so that a new one shows in review.
func TestDependenciesAreListed(t *testing.T) {
	if _, err := os.ReadFile("../../go.mod"); err != nil { // so that the test's cached result goes with it
		t.Fatal(err)
	}
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	have := strings.Fields(string(out))
	slices.Sort(have)
	have = slices.Compact(have)
	text, err := os.ReadFile("../../internal/archtest/deps.txt")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Fields(string(text)), have); d != "" {
		t.Errorf("internal/archtest/deps.txt (-) is not what the program contains (+):\n%s", d)
	}
	reasons, err := os.ReadFile("../../docs/design/001-dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range directDependencies(t) {
		if !strings.Contains(string(reasons), m) {
			t.Errorf("docs/design/001-dependencies.md gives no reason for %s", m)
		}
	}
}

// directDependencies reads go.mod.
func directDependencies(t *testing.T) (list []string) {
	text, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) == 2 && strings.Contains(f[0], ".") && strings.HasPrefix(f[1], "v") {
			list = append(list, f[0])
		}
	}
	return list
}
