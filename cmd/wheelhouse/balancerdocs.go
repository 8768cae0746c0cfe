package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/config"
)

// checkBalancer is `balancer check FILE`: everything that a start would find wrong without opening anything.
func checkBalancer(env *environment, lang *config.Language, args []string) error {
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		return usagef("check takes one file")
	}
	state, err := lang.Load(args[0], config.Expander{Env: os.LookupEnv}, func(text string) { fmt.Fprintln(env.stderr, "warning:", text) })
	if err != nil {
		return err
	}
	if err := (balancerd.Options{Language: lang}).Check(state); err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "%s is good: %d services, %d pools\n", args[0], len(state.Services), len(state.Pools))
	return nil
}

// describeTunables writes what can be set, from the tables by which it is read.
func describeTunables(w io.Writer, lang *config.Language) {
	fmt.Fprint(w, `What the balancer's SET sets (wheelhouse balancer tunables). Values: on/off; whole numbers; sizes in bytes, or with k, m or g
behind; times in seconds, or with a unit as in 250ms.

Of services: SET [service.]name = value
`)
	for _, t := range lang.Tunables() {
		roles := "any role"
		if len(t.Roles) > 0 {
			roles = strings.Join(t.Roles, ", ")
		}
		describe(w, t.Name, t.Default, roles, t.Doc)
	}
	fmt.Fprint(w, "\nOf pools: SET [pool.]name = value\n")
	for _, t := range lang.PoolTunables() {
		describe(w, t.Name, t.Default, "", t.Doc)
	}
	for _, name := range lang.PluginNames() {
		list := lang.Plugin(name).Tunables()
		if len(list) == 0 {
			continue
		}
		fmt.Fprintf(w, "\nOf services, after LOAD %s\n", name)
		for _, t := range list {
			roles := "any role"
			if len(t.Roles) > 0 {
				roles = strings.Join(t.Roles, ", ")
			}
			describe(w, t.Name, t.Default, roles, t.Doc)
		}
	}
	fmt.Fprint(w, "\nOf the process: SERVER name = value\n")
	for _, t := range config.ServerParams {
		describe(w, t.Name, t.Default, "", t.Doc)
	}
}

func describe(w io.Writer, name, def, roles, doc string) {
	fmt.Fprintf(w, "\n  %s", name)
	if def != "" {
		fmt.Fprintf(w, " = %s", def)
	}
	if roles != "" {
		fmt.Fprintf(w, "   (%s)", roles)
	}
	fmt.Fprintf(w, "\n      %s\n", doc)
}
