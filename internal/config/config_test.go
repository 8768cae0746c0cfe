package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type sample struct {
	Data   string `toml:"data" doc:"where"`
	Server struct {
		Listen []string `toml:"listen" doc:"addresses"`
		Max    int      `toml:"max" doc:"connections"`
		Idle   Duration `toml:"idle" doc:"idle time"`
		Body   Size     `toml:"body" doc:"size"`
		Strict bool     `toml:"strict" doc:"strictness"`
	} `toml:"server"`
	Storage []struct {
		ID  uint32 `toml:"id"`
		Dir string `toml:"dir"`
	} `toml:"storage" doc:"storages"`
}

func defaults() *sample {
	s := &sample{Data: "./data"}
	s.Server.Listen = []string{"127.0.0.1:1"}
	s.Server.Idle = Duration(90 * time.Second)
	s.Server.Body = 64 << 20
	return s
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "w.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSourcesOverrideEachOther(t *testing.T) {
	s := defaults()
	path := write(t, "data = \"/file\"\n[server]\nmax = 7\nidle = \"2m\"\n[[storage]]\nid = 3\ndir = \"/d3\"\n")
	if err := LoadFile(s, path); err != nil {
		t.Fatal(err)
	}
	keys := Keys(s, "WH_")
	err := ApplyEnv(keys, "WH_", []string{"WH_SERVER_MAX=8", "WH_SERVER_LISTEN=a:1, b:2", "OTHER=1", "WH_INTERNAL=x"}, "WH_INTERNAL")
	if err != nil {
		t.Fatal(err)
	}
	if err := SetKey(keys, "server.max", "9"); err != nil {
		t.Fatal(err)
	}
	if s.Data != "/file" || s.Server.Max != 9 || s.Server.Idle != Duration(2*time.Minute) || s.Server.Body != 64<<20 ||
		strings.Join(s.Server.Listen, " ") != "a:1 b:2" || len(s.Storage) != 1 || s.Storage[0].ID != 3 {
		t.Errorf("loaded %+v", s)
	}
}

func TestErrorsNameTheirPlace(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", "data = \"x\"\n\n[server]\nmaxx = 3\n", ":4: unknown key \"server.maxx\""},
		{"unknown section", "[sever]\nmax = 3\n", ":1: unknown key \"sever\""},
		{"wrong type", "[server]\nmax = \"many\"\n", ":2:7: server.max"},
		{"bad duration", "[server]\nidle = \"soon\"\n", ":2:8: server.idle"},
		{"bad size", "[server]\nbody = \"1 lot\"\n", "want a size such as"},
		{"not toml", "data = \n", ":1:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := LoadFile(defaults(), write(t, tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("LoadFile = %v; want it to contain %q", err, tt.want)
			}
		})
	}
	keys := Keys(defaults(), "WH_")
	for _, tt := range []struct{ env, want string }{
		{"WH_NOPE=1", "WH_NOPE: no such key"},
		{"WH_SERVER_MAX=x", "WH_SERVER_MAX: \"x\": want a whole number"},
		{"WH_SERVER_STRICT=maybe", "want true or false"},
	} {
		if err := ApplyEnv(keys, "WH_", []string{tt.env}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ApplyEnv(%q) = %v; want it to contain %q", tt.env, err, tt.want)
		}
	}
	if err := SetKey(keys, "server.nope", "1"); err == nil {
		t.Error("SetKey of an unknown key succeeded")
	}
	if err := SetKey(keys, "storage", "1"); err == nil {
		t.Error("SetKey of a list of tables succeeded")
	}
}

func TestKeysDescribe(t *testing.T) {
	var lines []string
	for _, k := range Keys(defaults(), "WH_") {
		lines = append(lines, strings.Join([]string{k.Name, k.Env, k.Type, k.Default, k.Doc}, " | "))
	}
	want := `data | WH_DATA | text | "./data" | where
server.listen | WH_SERVER_LISTEN | list of text | ["127.0.0.1:1"] | addresses
server.max | WH_SERVER_MAX | number | 0 | connections
server.idle | WH_SERVER_IDLE | duration | "1m30s" | idle time
server.body | WH_SERVER_BODY | size | "64 MiB" | size
server.strict | WH_SERVER_STRICT | yes or no | false | strictness
storage |  | list of tables | [] | storages`
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("Keys:\n%s\nwant:\n%s", got, want)
	}
}

func TestTextTypesRoundTrip(t *testing.T) {
	for _, s := range []string{"0s", "1s", "1m30s", "5m", "12h", "7d", "36h"} {
		var d Duration
		if err := d.UnmarshalText([]byte(s)); err != nil || d.String() != s {
			t.Errorf("Duration %q = %q, %v", s, d, err)
		}
	}
	for _, s := range []string{"0", "1 B", "512 KiB", "64 MiB", "3 GiB", "5 TiB"} {
		var z Size
		if err := z.UnmarshalText([]byte(s)); err != nil || z.String() != s {
			t.Errorf("Size %q = %q, %v", s, z, err)
		}
	}
	for _, s := range []string{"", "x", "-1", "9 EiB", "99999999999 TiB", "1.5 GiB"} {
		var z Size
		if err := z.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("Size %q = %d; want an error", s, z)
		}
	}
	for _, s := range []string{"", "x", "-1s", "xd", "-1d"} {
		var d Duration
		if err := d.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("Duration %q = %v; want an error", s, d)
		}
	}
}
