package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"wheelhouse/internal/config"
)

// runConfig lists what can be configured, or checks a configuration without starting anything.
func runConfig(_ context.Context, env *environment, args []string) error {
	return subcommand(args, map[string]func([]string) error{
		"describe": func(args []string) error {
			f := newClientFlags("config describe", env).withJSON()
			if _, _, err := f.parse(args, 0, 0); err != nil {
				return err
			}
			keys := config.Keys(defaultConfig(), envPrefix)
			if f.json {
				return printJSON(env.stdout, keys)
			}
			describeConfig(env.stdout, keys)
			return nil
		},
		"check": func(args []string) error {
			if len(args) == 1 && !strings.HasPrefix(args[0], "-") {
				args = []string{"--config", args[0]}
			}
			c, rest, err := loadConfig("config check", args, env.stderr, nil)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return usagef("unexpected argument: %s", rest[0])
			}
			if c.Balancer.Config != "" {
				if err := checkFront(c, func(text string) { fmt.Fprintln(env.stderr, "warning:", text) }); err != nil {
					return err
				}
			}
			fmt.Fprintln(env.stdout, "the configuration is good")
			return nil
		},
	})
}

// describeConfig writes all keys as a TOML file with their defaults.
func describeConfig(w io.Writer, keys []config.Key) {
	fmt.Fprint(w, "# Everything that can be configured, with its default. The environment variable, or a flag\n# --set KEY=VALUE, overrides the file.\n")
	section := ""
	for _, k := range keys {
		name := k.Name
		if s, rest, ok := strings.Cut(k.Name, "."); ok {
			if s != section {
				section = s
				fmt.Fprintf(w, "\n[%s]\n", s)
			}
			name = rest
		}
		if k.Type == "list of tables" {
			fmt.Fprintf(w, "\n# %s\n# [[%s]]\n", k.Doc, k.Name)
			continue
		}
		fmt.Fprintf(w, "# %s (%s; %s)\n%s = %s\n", k.Doc, k.Type, k.Env, name, k.Default)
	}
}

// runVersion prints what was built, from what.
func runVersion(_ context.Context, env *environment, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument: %s", args[0])
	}
	fmt.Fprintf(env.stdout, "wheelhouse %s %s %s/%s\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

// buildVersion is what this program was built from, in one line.
func buildVersion() string {
	version, revision := "devel", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				revision = " " + s.Value[:min(12, len(s.Value))]
			case "vcs.modified":
				if s.Value == "true" {
					revision += " (modified)"
				}
			}
		}
	}
	return version + revision
}
