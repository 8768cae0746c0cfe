package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
)

// Each storage node lives in a network namespace of its own, behind a pair of virtual interfaces whose other end is in the
// namespace of this program, the dispatchers and the workers. None of them has a way to the machine's own network, and all of it
// goes away with the processes: the namespaces have no names.

const (
	// insideEnv tells the program that it has been started in its own namespace; its value is what is to be said of one that has not.
	insideEnv = "SOAK_NETWORK"
	// holdArg makes the program hold a namespace, until it is killed.
	holdArg  = "-hold-namespace"
	nodePort = "7500"
)

// namespaced runs this program again in a network namespace of its own and returns its exit status. It reports false, and
// why, where that is not permitted.
func namespaced() (status int, ok bool, why error) {
	runtime.LockOSThread() // the child dies with this thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"=namespace")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	for _, tool := range []string{"ip", "tc", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return 0, false, err
		}
	}
	if err := cmd.Start(); err != nil {
		return 0, false, fmt.Errorf("a network namespace: %w", err)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	if err := cmd.Wait(); err != nil {
		if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() > 0 {
			return e.ExitCode(), true, nil
		}
		fmt.Fprintln(os.Stderr, "soak:", err)
		return 1, true, nil
	}
	return 0, true, nil
}

// hold keeps a namespace alive until the process is killed.
func hold() {
	fmt.Println("held")
	select {}
}

// namespaces are the network of an installation whose storage nodes are each in one.
type namespaces struct{ holders []*exec.Cmd }

// newNamespaces must be called in the namespace that the others are to reach the storages from.
func newNamespaces() (*namespaces, error) {
	return &namespaces{}, tool("ip", "link", "set", "lo", "up")
}

// tool runs a command whose output matters only if it fails.
func tool(args ...string) error {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%q: %w: %s", args, err, bytes.TrimSpace(out))
	}
	return nil
}

func frontDevice(id int) string  { return fmt.Sprint("node", id) }
func nodeAddress(id int) string  { return fmt.Sprintf("10.77.%d.2", id) }
func frontAddress(id int) string { return fmt.Sprintf("10.77.%d.1", id) }

func (n *namespaces) node(id int) (listen, reached string, prefix []string, err error) {
	h := exec.Command("/proc/self/exe", holdArg)
	h.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := h.StdoutPipe()
	if err != nil {
		return "", "", nil, err
	}
	if err := h.Start(); err != nil {
		return "", "", nil, err
	}
	n.holders = append(n.holders, h)
	if _, err := out.Read(make([]byte, 1)); err != nil {
		return "", "", nil, fmt.Errorf("the namespace of storage %d: %w", id, err)
	}
	pid := strconv.Itoa(h.Process.Pid)
	prefix = []string{"nsenter", "-t", pid, "-n"}
	inside := func(args ...string) error { return tool(append(prefix[:4:4], args...)...) }
	err = errors.Join(
		tool("ip", "link", "add", frontDevice(id), "type", "veth", "peer", "name", "eth0", "netns", pid),
		tool("ip", "addr", "add", frontAddress(id)+"/30", "dev", frontDevice(id)),
		tool("ip", "link", "set", frontDevice(id), "up"),
		inside("ip", "link", "set", "lo", "up"),
		inside("ip", "addr", "add", nodeAddress(id)+"/30", "dev", "eth0"),
		inside("ip", "link", "set", "eth0", "up"),
	)
	addr := nodeAddress(id) + ":" + nodePort
	return addr, addr, prefix, err
}

// set breaks the way to a node, or mends it.
func (n *namespaces) set(id int, m netMode) error {
	dev, addr := frontDevice(id), nodeAddress(id)+"/32"
	inside := []string{"nsenter", "-t", strconv.Itoa(n.holders[id-1].Process.Pid), "-n"}
	rate := []string{"tbf", "rate", strconv.Itoa(slowRate*8) + "bit", "burst", "16kb", "latency", "400ms"}
	switch m {
	case netCut:
		return tool("ip", "route", "replace", "unreachable", addr)
	case netSilent:
		return tool(append(inside, "ip", "link", "set", "eth0", "down")...)
	case netSlow:
		return errors.Join(
			tool(append([]string{"tc", "qdisc", "replace", "dev", dev, "root"}, rate...)...),
			tool(append(append(inside[:4:4], "tc", "qdisc", "replace", "dev", "eth0", "root"), rate...)...))
	}
	// Whatever was broken: what is not there cannot be removed, and need not be.
	_ = tool("ip", "route", "del", "unreachable", addr)
	_ = tool("tc", "qdisc", "del", "dev", dev, "root")
	_ = tool(append(inside[:4:4], "tc", "qdisc", "del", "dev", "eth0", "root")...)
	return tool(append(inside[:4:4], "ip", "link", "set", "eth0", "up")...)
}

func (n *namespaces) kind() string {
	return "in network namespaces of their own, joined by virtual interfaces whose packets are dropped or delayed"
}

func (n *namespaces) close() {
	for _, h := range n.holders {
		_ = h.Process.Kill()
		_ = h.Wait()
	}
}
