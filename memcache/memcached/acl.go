package memcached

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
)

// perm is what may be done with a key.
type perm uint8

const (
	permRead perm = 1 << iota
	permWrite
	permAdmin
)

// ACL says what users may do with which keys. A user that it does not name may do nothing.
type ACL struct {
	rules map[string][]rule // by user; "*" is everybody, also who has no name
}

type rule struct {
	prefix string
	may    perm
}

// ParseACL reads lines USER PREFIX RIGHTS. PREFIX is the beginning of keys, or * for all; RIGHTS are letters of r (read), w (write)
// and a (administer: all commands that are not about keys), or "-" for none. USER * is everybody. Of the lines that fit a key, the longest
// prefix counts, and a user's own before those of everybody. The right a is the same with any prefix, and whom a line names has it by his own
// lines alone. # begins a comment.
func ParseACL(r io.Reader) (*ACL, error) {
	acl := &ACL{rules: map[string][]rule{}}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 || len(f[1]) > maxKey {
			return nil, fmt.Errorf("line %d is not USER PREFIX RIGHTS", n)
		}
		k := rule{prefix: f[1]}
		if k.prefix == "*" {
			k.prefix = ""
		}
		for _, b := range f[2] {
			switch b {
			case 'r':
				k.may |= permRead
			case 'w':
				k.may |= permWrite
			case 'a':
				k.may |= permAdmin
			case '-':
			default:
				return nil, fmt.Errorf("line %d: there is no right %q; want r, w, a or -", n, b)
			}
		}
		acl.rules[f[0]] = append(acl.rules[f[0]], k)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(acl.rules) == 0 {
		return nil, fmt.Errorf("there is no rule in it")
	}
	return acl, nil
}

func (a *ACL) rights(user string, key []byte) perm {
	for _, name := range [2]string{user, "*"} {
		best, may := -1, perm(0)
		for _, k := range a.rules[name] {
			if len(k.prefix) > best && len(k.prefix) <= len(key) && string(key[:len(k.prefix)]) == k.prefix {
				best, may = len(k.prefix), k.may
			}
		}
		if best >= 0 {
			return may
		}
	}
	return 0
}

// admin reports whether a user may do what is not about keys: one of his lines says so, whatever its prefix, or one of everybody's if there is
// none that names him.
func (a *ACL) admin(user string) bool {
	own, named := a.rules[user]
	if !named {
		own = a.rules["*"]
	}
	return slices.ContainsFunc(own, func(k rule) bool { return k.may&permAdmin != 0 })
}

// may reports whether the connection's user may do something with a key.
func (c *conn) may(key []byte, what perm) bool {
	acl := c.s.acl.Load()
	if acl == nil || acl.rights(c.user, key)&what == what {
		return true
	}
	c.stripe.add(aclDenied)
	return false
}

// mayAll is may for keys with blanks between. An answer that has begun with an item could not end with a refusal.
func (c *conn) mayAll(keys []byte, what perm) bool {
	if c.s.acl.Load() == nil {
		return true
	}
	for key := range bytes.SplitSeq(keys, []byte{' '}) {
		if len(key) > 0 && !c.may(key, what) {
			return false
		}
	}
	return true
}

// mayAdmin reports whether the connection's user may do what is not about keys.
func (c *conn) mayAdmin() bool {
	acl := c.s.acl.Load()
	if acl == nil {
		return true
	}
	if acl.admin(c.user) {
		return true
	}
	c.stripe.add(aclDenied)
	return false
}
