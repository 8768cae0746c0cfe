package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Each script runs against a server of its own, with authentication; WHEELHOUSE_SERVER and WHEELHOUSE_KEY say where.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			data := filepath.Join(env.WorkDir, "server")
			p := start(t, "up", "--data", data, "--listen", "127.0.0.1:0", "--set", "worker.interval=100ms", "--set", "catalog.grace=1m")
			key, err := os.ReadFile(filepath.Join(data, "root.key"))
			if err != nil {
				return err
			}
			env.Setenv("WHEELHOUSE_SERVER", p.ready["http"])
			env.Setenv("WHEELHOUSE_KEY", strings.TrimSpace(string(key)))
			env.Setenv("SERVER", p.ready["http"])
			env.Setenv("DATA", data)
			env.Defer(p.stop)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": statusCmd,
		},
	})
}

// statusCmd runs a command and demands an exit status: status 2 wheelhouse put.
func statusCmd(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit status %s; want %s", got, args[0])
	}
}
