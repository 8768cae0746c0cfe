package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// After SIGTERM requests have shutdown_timeout to end, and any time with 0. It may change while the balancer runs.
func TestBalancerShutdownTimeout(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		io.WriteString(w, "late")
	}))
	defer s.Close()
	node := strings.TrimPrefix(s.URL, "http://")
	ask := func(p *process) <-chan string {
		got := make(chan string, 1)
		go func() {
			res, err := http.Get(p.ready["rp"] + "/")
			if err != nil {
				got <- "cut off"
				return
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != 200 {
				b = []byte(fmt.Sprint(res.Status, err))
			}
			got <- string(b)
		}()
		<-arrived
		return got
	}
	patient := start(t, "balancer", "-c", balancerFile(t, node, "SERVER shutdown_timeout = 0"))
	hasty := start(t, "balancer", "-c", balancerFile(t, node, "SERVER shutdown_timeout = 3600"))
	if got := consoleSays(t, hasty.ready["mgmt"], "server shutdown_timeout = .05"); got != "OK" {
		t.Fatalf("the console answers %q", got)
	}
	waits, cut := ask(patient), ask(hasty)
	for _, p := range []*process{patient, hasty} {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-hasty.done:
	case <-time.After(9 * time.Second): // the default is 10 s
		t.Error("shutdown_timeout = .05: it waits still")
	}
	if got := <-cut; got != "cut off" {
		t.Errorf("shutdown_timeout = .05: the client got %q", got)
	}
	if exited(patient) {
		t.Errorf("shutdown_timeout = 0: it has ended before its request\n%s", patient.output())
	}
	close(release)
	if got := <-waits; got != "late" {
		t.Errorf("shutdown_timeout = 0: the client got %q", got)
	}
	<-patient.done
	if hasty.err != nil || patient.err != nil {
		t.Errorf("they ended with %v and %v", hasty.err, patient.err)
	}
}

// After SIGUSR2 the old process finishes what it has, for handover_timeout at most, or until SIGTERM.
func TestBalancerHandoverTimeout(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			arrived <- struct{}{}
			<-release
		}
	}))
	defer s.Close()
	defer close(release)
	for _, more := range []string{"SERVER handover_timeout = .05", "SERVER handover_timeout = 0", ""} {
		file := balancerFile(t, strings.TrimPrefix(s.URL, "http://"), more)
		p := start(t, "balancer", "-c", file)
		failed := make(chan error, 1)
		go func() {
			res, err := http.Get(p.ready["rp"] + "/held")
			if err == nil {
				res.Body.Close()
			}
			failed <- err
		}()
		<-arrived
		if err := p.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		next := 0
		eventually(t, "a new process serves", func() bool {
			text, err := os.ReadFile(filepath.Join(filepath.Dir(file), "pid"))
			if err == nil {
				next, err = strconv.Atoi(strings.TrimSpace(string(text)))
			}
			return err == nil && next != p.cmd.Process.Pid && strings.Contains(p.output(), "a new process serves")
		})
		if more != "SERVER handover_timeout = .05" {
			if exited(p) {
				t.Errorf("%q: the old process has ended before its request\n%s", more, p.output())
			}
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-failed; err == nil {
			t.Errorf("%q: the request was answered", more)
		}
		<-p.done
		if p.err != nil {
			t.Errorf("%q: the old process ended with %v", more, p.err)
		}
		if got := webText(t, p.ready["rp"]+"/"); got != "" {
			t.Errorf("%q: the new process answers %q", more, got)
		}
		stopPID(t, next)
	}
}

// SERVER nice_level is the priority of all the process's threads, max_connections its limit of descriptors.
func TestBalancerServerLimits(t *testing.T) {
	p := start(t, "balancer", "-c", balancerFile(t, httpNode(t, "one"), "SERVER nice_level = 3\nSERVER max_connections = 777"))
	proc := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	read := func(name string) string {
		text, err := os.ReadFile(proc + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	files := func() string {
		return regexp.MustCompile(`Max open files +(\d+)`).FindStringSubmatch(read("limits"))[1]
	}
	levels := func() string {
		list, err := filepath.Glob(proc + "task/*/stat")
		if err != nil || len(list) == 0 {
			t.Fatal(list, err)
		}
		seen := map[string]bool{}
		for _, f := range list {
			text, err := os.ReadFile(f)
			if err != nil {
				continue // a thread that has ended
			}
			_, rest, _ := strings.Cut(string(text), ") ")
			seen[strings.Fields(rest)[16]] = true // proc_pid_stat(5): nice is field 19
		}
		return fmt.Sprint(seen)
	}
	if got := levels(); got != "map[3:true]" {
		t.Errorf("nice_level = 3: the threads' levels are %s", got)
	}
	if got := files(); got != "777" {
		t.Errorf("max_connections = 777: the limit is %s", got)
	}
	for _, line := range []string{"server nice_level = 5", "server max_connections = 888"} {
		if got := consoleSays(t, p.ready["mgmt"], line); got != "OK" {
			t.Fatalf("%s: %q", line, got)
		}
	}
	eventually(t, "all threads have the new level", func() bool { return levels() == "map[5:true]" })
	if got := files(); got != "888" {
		t.Errorf("max_connections = 888: the limit is %s", got)
	}
	p.stop()
}
