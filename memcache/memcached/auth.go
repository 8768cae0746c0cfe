package memcached

import (
	"bufio"
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ParseUsers reads lines NAME:PASSWORD, as memcached's authentication file has them. Empty lines are skipped.
func ParseUsers(r io.Reader) (map[string]string, error) {
	users := map[string]string{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxAuth)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSuffix(lines.Text(), "\r")
		if line == "" {
			continue
		}
		name, password, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \x00") {
			return nil, fmt.Errorf("line %d is not NAME:PASSWORD", n)
		}
		if len(users) >= maxUsers {
			return nil, fmt.Errorf("there are more than %d users", maxUsers)
		}
		users[name] = password
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(users) == 0 {
		return nil, errors.New("there is no user in it")
	}
	return users, nil
}

// mustAuth reports whether the connection has to say who it is before anything else.
func (c *conn) mustAuth() bool {
	if *c.s.users.Load() == nil {
		c.authed = true
		return false
	}
	return true
}

// authenticate handles the commands of a connection that has not said who it is: set ANY ANY ANY LENGTH, with "user password" as data.
func (c *conn) authenticate(name, args []byte) error {
	n, _ := split(args, c.w.tok[:])
	if string(name) != "set" || n < 4 {
		if string(name) == "quit" {
			return errClosed
		}
		c.answer(unauthed)
		return nil
	}
	size, ok := parseI32(c.w.tok[3])
	if !ok || size < 0 {
		c.answer(badFormat)
		return nil
	}
	if size > maxAuth {
		c.answer("CLIENT_ERROR auth token too long")
		c.skip(int(size) + 2)
		return nil
	}
	if !c.arrived(int(size) + 2) {
		return errPartial
	}
	token := c.w.in[c.w.r : c.w.r+int(size)]
	tail := c.w.in[c.w.r+int(size) : c.w.r+int(size)+2]
	c.w.r += int(size) + 2
	if string(tail) != crlf {
		c.answer(badChunk)
		return nil
	}
	c.stripe.add(authCmds)
	user, password, _ := bytes.Cut(token, []byte{' '})
	if !checkPassword(*c.s.users.Load(), string(user), password) {
		c.stripe.add(authErrors)
		c.answer("CLIENT_ERROR authentication failure")
		return nil
	}
	c.authed, c.user = true, string(user)
	c.answer("STORED")
	return nil
}

func checkPassword(users map[string]string, user string, password []byte) bool {
	want, known := users[user]
	same := subtle.ConstantTimeCompare([]byte(want), password) == 1
	return known && same
}
