package config

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"wheelhouse/balancer"
)

// ReadNodeFile reads a nodefile: one ip[:port] to a line, what follows a '#' is a comment. changed is its modification time.
func ReadNodeFile(path string) (nodes []balancer.Node, changed time.Time, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, changed, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, changed, err
	}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		addr, err := nodeOf(lines.Text())
		if err != nil {
			return nil, changed, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		if addr != "" {
			nodes = append(nodes, balancer.Node{Addr: addr, Weight: 1})
		}
	}
	return nodes, fi.ModTime(), lines.Err()
}

// perlbalNode is what Perlbal looks for in a line of a nodefile, whatever else is there.
var perlbalNode = regexp.MustCompile(`[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(:[0-9]+)?`)

// nodeOf is the node in a line of a nodefile, "" in one that has none. Of several words Perlbal takes the one that is an address: such
// files name the machine behind it.
func nodeOf(line string) (string, error) {
	text, _, _ := strings.Cut(line, "#")
	text = strings.TrimSpace(text)
	if strings.ContainsAny(text, " \t") {
		if found := perlbalNode.FindString(text); found != "" {
			text = found
		}
	}
	if text == "" {
		return "", nil
	}
	return ParseNode(text)
}
