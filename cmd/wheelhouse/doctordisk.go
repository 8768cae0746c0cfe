package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/internal/faultfs"
	"wheelhouse/internal/fsynctruth"
)

// The witness speaks lines: "promise RUN N" and "ask RUN", each of which is answered with "RUN N", the highest number promised.

// maxWitnessLine bounds a line, maxWitnessRuns what a witness remembers.
const (
	maxWitnessLine = 128
	maxWitnessRuns = 10_000
)

// doctorWitness remembers what disks on other machines have promised.
func doctorWitness(ctx context.Context, env *environment, args []string) error {
	fs := newFlags("doctor disk-witness", env.stderr)
	listen := fs.String("listen", "127.0.0.1:7411", "`ADDR` on which disks' machines reach this one")
	if _, err := parseFlags(fs, args); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	fmt.Fprintf(env.stdout, "ready witness=%s\n", ln.Addr())
	w := &witness{promised: map[uint64]uint64{}}
	for {
		c, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go w.serve(c) // it ends with its connection, and the process with the command
	}
}

type witness struct {
	mu       sync.Mutex // guards promised
	promised map[uint64]uint64
}

func (w *witness) serve(c net.Conn) {
	defer c.Close()
	sc := bufio.NewScanner(c)
	sc.Buffer(make([]byte, maxWitnessLine), maxWitnessLine)
	for sc.Scan() {
		answer, err := w.answer(sc.Text())
		if err != nil {
			fmt.Fprintf(c, "error %v\n", err)
			return
		}
		if _, err := fmt.Fprintln(c, answer); err != nil {
			return
		}
	}
}

func (w *witness) answer(line string) (string, error) {
	f := strings.Fields(line)
	if len(f) < 2 {
		return "", errors.New(`want "promise RUN N" or "ask RUN"`)
	}
	run, err := strconv.ParseUint(f[1], 16, 64)
	if err != nil {
		return "", err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case f[0] == "promise" && len(f) == 3:
		n, err := strconv.ParseUint(f[2], 10, 64)
		if err != nil {
			return "", err
		}
		if _, known := w.promised[run]; !known && len(w.promised) >= maxWitnessRuns {
			return "", errors.New("too many runs: start the witness anew")
		}
		w.promised[run] = max(w.promised[run], n)
	case f[0] != "ask":
		return "", fmt.Errorf("no such request: %s", f[0])
	}
	return fmt.Sprintf("%x %d", run, w.promised[run]), nil
}

// runFile names the run in a directory under test.
const runFile = "fsynctruth.run"

// doctorDisk writes to a disk and promises a witness what is durable, until the power is cut; or, with --verify, looks whether
// the promises were kept.
func doctorDisk(ctx context.Context, env *environment, args []string) error {
	fs := newFlags("doctor disk", env.stderr)
	server := fs.String("server", "", "`ADDR` of the witness (wheelhouse doctor disk-witness) on another machine")
	verify := fs.Bool("verify", false, "after the power was cut: was everything kept that was promised?")
	rest, err := parseFlags(fs, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 || *server == "" {
		return usagef("want: disk DIR --server ADDR [--verify]")
	}
	dir := rest[0]
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", *server)
	if err != nil {
		return fmt.Errorf("reach the witness: %w", err)
	}
	defer conn.Close()
	ask := witnessOf(conn)
	if *verify {
		return verifyDisk(env, dir, ask)
	}
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails
	run := binary.BigEndian.Uint64(seed[:])
	if err := fsynctruth.Clean(faultfs.OS{}, dir); err != nil {
		return err
	}
	if err := atomicfile.Write(faultfs.OS{}, filepath.Join(dir, runFile), 0o644, []byte(fmt.Sprintf("%x\n", run))); err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "ready: cut this machine's power at any time, then: wheelhouse doctor disk %s --server %s --verify\n", dir, *server)
	begun, last := time.Now(), uint64(0)
	err = fsynctruth.Write(ctx, faultfs.OS{}, dir, run, func(seq uint64) error {
		last = seq
		_, err := ask(fmt.Sprintf("promise %x %d", run, seq))
		return err
	})
	fmt.Fprintf(env.stdout, "%d changes were promised, %.0f a second\n", last, float64(last)/time.Since(begun).Seconds())
	return err
}

// witnessOf asks over a connection, and returns the number in the answer.
func witnessOf(conn net.Conn) func(line string) (uint64, error) {
	r := bufio.NewReaderSize(conn, maxWitnessLine)
	return func(line string) (uint64, error) {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := fmt.Fprintln(conn, line); err != nil {
			return 0, fmt.Errorf("witness: %w", err)
		}
		answer, err := r.ReadString('\n')
		if err != nil {
			return 0, fmt.Errorf("witness: %w", err)
		}
		var run, n uint64
		if _, err := fmt.Sscanf(answer, "%x %d", &run, &n); err != nil {
			return 0, fmt.Errorf("witness: %s", strings.TrimSpace(answer))
		}
		return n, nil
	}
}

func verifyDisk(env *environment, dir string, ask func(string) (uint64, error)) error {
	text, err := os.ReadFile(filepath.Join(dir, runFile))
	if err != nil {
		return fmt.Errorf("no run was begun there, or the disk has lost even that: %w", err)
	}
	run, err := strconv.ParseUint(strings.TrimSpace(string(text)), 16, 64)
	if err != nil {
		return fmt.Errorf("%s: %w", runFile, err)
	}
	promised, err := ask(fmt.Sprintf("ask %x", run))
	if err != nil {
		return err
	}
	if promised == 0 {
		return errors.New("the witness remembers no promise of this run: it may have been started anew")
	}
	lies, err := fsynctruth.Verify(faultfs.OS{}, dir, run, promised)
	if err != nil {
		return err
	}
	for _, l := range lies {
		fmt.Fprintf(env.stdout, "FAIL  change %d: %s\n", l.Seq, l.What)
	}
	if len(lies) > 0 {
		fmt.Fprintf(env.stdout, "FAIL  this disk says that it has made durable what it has not: switch its write cache off, or do not use it\n")
		return errUnhealthy
	}
	fmt.Fprintf(env.stdout, "ok    all of %d promised changes are there\n", promised)
	return fsynctruth.Clean(faultfs.OS{}, dir)
}
