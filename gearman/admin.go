package gearman

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"
)

const (
	maxAdminLine   = 64 << 10
	maxAdminAnswer = 64 << 20 // bytes: a million jobs
)

// Admin asks a server something in the text protocol and returns the lines of its answer, without the dot that ends a list. An
// answer that begins with ERR is a *[ServerError]. The address is as in [NewClient]; conf, if not nil, is for TLS.
func Admin(ctx context.Context, addr string, conf *tls.Config, command string) ([]string, error) {
	nc, err := dialer{3 * time.Second, conf}.dial(ctx, normalize(addr))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
	if _, err := nc.Write([]byte(command + "\n")); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDisconnected, addr, err)
	}
	in := bufio.NewScanner(nc)
	in.Buffer(nil, maxAdminLine)
	var lines []string
	size := 0
	for in.Scan() {
		line := in.Text()
		if line == "." {
			return lines, nil
		}
		if code, ok := strings.CutPrefix(line, "ERR "); ok && len(lines) == 0 {
			code, text, _ := strings.Cut(code, " ")
			return nil, &ServerError{Code: code, Text: strings.ReplaceAll(text, "+", " ")}
		}
		if size += len(line); size > maxAdminAnswer {
			return lines, fmt.Errorf("gearman: the answer of %s is longer than %d bytes", addr, maxAdminAnswer)
		}
		lines = append(lines, line)
		if !isList(command) {
			return lines, nil
		}
	}
	if ctx.Err() != nil {
		return lines, ctx.Err()
	}
	return lines, fmt.Errorf("%w: %s: the answer breaks off", ErrDisconnected, addr)
}

// isList reports whether the answer has many lines and a dot at its end.
func isList(command string) bool {
	switch first, _, _ := strings.Cut(command, " "); first {
	case "status", "prioritystatus", "workers", "show", "jobs", "clients":
		return true
	}
	return false
}
