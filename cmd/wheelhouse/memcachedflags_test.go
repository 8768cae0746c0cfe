package main

import (
	"crypto/tls"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wheelhouse/memcache/memcachetest"
)

// Each flag does what -h says of it.
func TestMemcachedFlagsHaveEffects(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		flags string
		talk  []string // what is asked, and a part of the answer's first line, by turns
	}{
		{"-C", []string{"set a 0 0 1\r\nx", "STORED", "mg a c", "HD c0", "cas a 0 0 1 0\r\ny", "EXISTS", "ms a 1 C0\r\ny", "EX", "ms a 1 C0 I\r\ny", "EX", "ms a 1 C5\r\ny", "EX", "ms a 1 C5 MA\r\ny", "HD", "ms a 1 C5 MP\r\ny", "HD"}},
		{"-F", []string{"flush_all", "CLIENT_ERROR flush_all not allowed", "flush_prefix a", "CLIENT_ERROR flush_all not allowed"}},
		{"-X", []string{"lru_crawler metadump all", "ERROR metadump not allowed", "stats cachedump 1 0", "CLIENT_ERROR stats cachedump not allowed"}},
		{"-W", []string{"watch", "CLIENT_ERROR watch commands not allowed"}},
		{"-D/", []string{"get a/b", "END", "stats detail dump", "PREFIX a get 1 "}},
		{"-I 2k", []string{"set a 0 0 1900\r\n" + strings.Repeat("x", 1900), "STORED", "set a 0 0 2048\r\n" + strings.Repeat("x", 2048), "SERVER_ERROR object too large for cache"}},
		{"-f 2 -n 100", []string{"set a 0 0 60\r\n" + strings.Repeat("x", 60), "STORED", "stats slabs", "STAT 1:chunk_size 152"}},
		{"-o track_sizes", []string{"stats sizes", "END"}},
		{"-o relaxed_privileges", []string{"debugtime 5", "OK"}},
		{"", []string{"debugtime 5", "ERROR", "stats sizes", "STAT sizes_status disabled", "shutdown", "SERVER_ERROR: shutdown not enabled"}},
		{"--slow-log 1", []string{"lru_crawler metadump all", "END", "stats slow", "SLOW "}},
		{"-B ascii", []string{"\x80", "CLIENT_ERROR bad command line format"}},
	} {
		p := start(t, append([]string{"memcached", "-p", "0"}, strings.Fields(tt.flags)...)...)
		for i := 0; i < len(tt.talk); i += 2 {
			if got := memcachetest.Dial(t, p.memcached()).Ask(tt.talk[i]); !strings.HasPrefix(got, tt.talk[i+1]) {
				t.Errorf("memcached %s: %.40q: %q; want %q", tt.flags, tt.talk[i], got, tt.talk[i+1])
			}
		}
	}
	c := memcachetest.Dial(t, start(t, "memcached", "-p", "0", "-B", "binary").memcached())
	c.Send("get a")
	c.Closed()
	one := start(t, "memcached", "-p", "0", "-c", "1", "-o", "idle_timeout=1")
	c = memcachetest.Dial(t, one.memcached())
	if got := c.Ask("mn"); got != "MN" {
		t.Error(got)
	}
	memcachetest.Dial(t, one.memcached()).Expect("ERROR Too many open connections")
	c.Closed() // it is silent
}

// Who takes nothing of what he has asked for is closed after --write-timeout.
func TestMemcachedWriteTimeout(t *testing.T) {
	t.Parallel()
	p := start(t, "memcached", "-p", "0", "--write-timeout", "1s")
	c, slow := memcachetest.Dial(t, p.memcached()), memcachetest.Dial(t, p.memcached())
	if got := c.Ask("set a 0 0 1000000\r\n" + strings.Repeat("x", 1_000_000)); got != "STORED" {
		t.Fatal(got)
	}
	slow.Raw(strings.Repeat("get a\r\n", 50))
	eventually(t, "the slow one is closed", func() bool { return c.Stats("")["curr_connections"] == "1" })
}

// -v logs more, and a default of the environment's that has too few descriptors is said so.
func TestMemcachedLogs(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]bool{"-v": true, "-M": false} {
		p := start(t, "memcached", "-p", "0", flag, "-c", "2000000000")
		p.cmd.Process.Signal(syscall.SIGTERM)
		p.waitEnd()
		text, err := os.ReadFile(p.log)
		if err != nil || strings.Contains(string(text), "msg=ready") != want || !strings.Contains(string(text), "-c is more than the descriptors") {
			t.Errorf("%s: %v\n%s", flag, err, text)
		}
	}
}

// Debian's unit file starts memcached by a wrapper, which reads /etc/memcached.conf. Both are used here as they are, but that the program is
// this one, behind a script, and that the port and the file of the process's number are this test's.
func TestMemcachedDebiansFiles(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("without root, -u has no effect here, and the wrapper refuses to run")
		return
	}
	dir := t.TempDir() // memcached's user writes the ports there
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	read := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("%v (make tools)", err)
		}
		return string(text)
	}
	conf := strings.NewReplacer("-p 11211", "-p 0", "/var/run/memcached/memcached.pid", dir+"/pid").Replace(read("/etc/memcached.conf"))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := dir + "/memcached"
	env := program("x").Env
	text := "#!/bin/sh\nexec " + self + " memcached \"$@\"\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	wrapper := strings.ReplaceAll(read("/usr/share/memcached/scripts/systemd-memcached-wrapper"), `"/usr/bin/memcached"`, `"`+script+`"`)
	cmd := exec.Command("perl", writeFile(t, dir+"/wrapper", wrapper), writeFile(t, dir+"/conf", conf))
	cmd.Env = append(env, "MEMCACHED_PORT_FILENAME="+filepath.Join(dir, "ports"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	eventually(t, "the server has written its port", func() bool { _, err := os.Stat(dir + "/ports"); return err == nil })
	_, port, _ := strings.Cut(strings.TrimSpace(read(dir+"/ports")), "TCP INET: ")
	c := memcachetest.Dial(t, "127.0.0.1:"+port)
	st, settings := c.Stats(""), c.Stats("settings")
	if st["pid"] != strings.TrimSpace(read(dir+"/pid")) || st["pid"] != strconv.Itoa(cmd.Process.Pid) || settings["maxbytes"] != "67108864" {
		t.Errorf("pid %s, %s bytes", st["pid"], settings["maxbytes"])
	}
	status := read("/proc/" + st["pid"] + "/status")
	if !strings.Contains(status, "\nUid:\t"+uidOf(t, "memcache")+"\t") {
		t.Errorf("the user was not changed:\n%s", status)
	}
	c.Close()
	cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { _, _ = io.Copy(io.Discard, out); done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(wait):
		t.Error("it does not end")
	}
}

func uidOf(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("id", "-u", name).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// What is spoken is as -o ssl_min_version and ssl_ciphers say.
func TestMemcachedTLSVersions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	authority := newAuthority(t, dir)
	cert, key := authority.issue(t, dir+"/server")
	files := "ssl_chain_cert=" + cert + ",ssl_key=" + key
	for _, tt := range []struct {
		options string
		client  uint16 // the most that it speaks
		version uint16 // 0: none
		suite   string // "": any
	}{
		{files, tls.VersionTLS13, tls.VersionTLS13, ""},
		{files, tls.VersionTLS12, tls.VersionTLS12, ""},
		{files, tls.VersionTLS11, 0, ""},
		{files + ",ssl_min_version=1", tls.VersionTLS11, tls.VersionTLS11, ""},
		{files + ",ssl_min_version=3", tls.VersionTLS12, 0, ""},
		{files + ",ssl_min_version=3", tls.VersionTLS13, tls.VersionTLS13, ""},
		{files + ",ssl_ciphers=ECDHE-ECDSA-AES256-GCM-SHA384", tls.VersionTLS12, tls.VersionTLS12, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
		{files + ",ssl_ciphers=ECDHE-RSA-AES256-GCM-SHA384:TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", tls.VersionTLS12, tls.VersionTLS12, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"},
	} {
		p := start(t, "memcached", "-p", "0", "-Z", "-o", tt.options)
		conf := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tt.client}
		nc, err := tls.Dial("tcp", strings.TrimPrefix(p.ready["memcacheds"], "memcacheds://"), conf)
		if tt.version == 0 {
			if err == nil {
				nc.Close()
				t.Errorf("%s: a client of %s was let in", tt.options, tls.VersionName(tt.client))
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: a client of %s: %v", tt.options, tls.VersionName(tt.client), err)
			continue
		}
		st := nc.ConnectionState()
		if suite := tls.CipherSuiteName(st.CipherSuite); st.Version != tt.version || tt.suite != "" && suite != tt.suite {
			t.Errorf("%s: %s, %s", tt.options, tls.VersionName(st.Version), suite)
		}
		nc.Close()
	}
	for options, want := range map[string]string{
		files + ",ssl_ciphers=MORSE":    `there is no suite "MORSE"`,
		files + ",ssl_verify_mode=2":    "ssl_ca_cert says by whose",
		"ssl_chain_cert=" + dir + "/no": "no such file",
		"ssl_chain_cert=" + key:         "ssl_chain_cert, ssl_key: ",
		files + ",ssl_ca_cert=" + key:   "has no certificate",
	} {
		if status, _, errOut := runOnce(t, "memcached", "-p", "0", "-Z", "-o", options); status == 0 || !strings.Contains(errOut, want) {
			t.Errorf("-o %s = %d %q; want %q", options, status, errOut, want)
		}
	}
}

// -d ends when the process in the background is ready, and that holds nothing of whoever started it; or says that it will not be.
func TestMemcachedDaemon(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out, err := program("memcached", "-d", "-p", "0", "-P", dir+"/pid").Output()
	addr, ok := strings.CutPrefix(strings.TrimSpace(string(out)), "ready memcached=memcached://")
	if err != nil || !ok {
		t.Fatalf("-d: %q %v", out, err)
	}
	pid, err := strconv.Atoi(memcachetest.Dial(t, addr).Stats("")["pid"])
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(dir + "/pid"); err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(pid) {
		t.Errorf("the file has %q, and it is %d; %v", text, pid, err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has ended", func() bool { _, err := os.Stat(dir + "/pid"); return err != nil })
	if status, _, errOut := runOnce(t, "memcached", "-d", "-l", "300.1.1.1"); status != 1 || !strings.Contains(errOut, "300.1.1.1") {
		t.Errorf("-d that fails = %d %q", status, errOut)
	}
}
