package memcached

// metaFlags are the flags of a meta command, and their tokens.
type metaFlags struct {
	list  [maxMeta][]byte // in the order given
	n     int
	seen  uint64 // a bit for each letter
	mode  byte   // of M
	flags uint32
	exp   uint32 // of T, a time
	exp0  int32  // of T, as given
	viv   uint32 // of N, a time
	rec   uint32 // of R, a time
	cas   uint64 // of C
	newV  uint64 // of E
	delta uint64
	init  uint64
	tags  []byte // of G
}

func letterBit(b byte) uint64 {
	if b >= 'a' {
		return 1 << (b - 'a')
	}
	return 1 << (b - 'A' + 26)
}

func (f *metaFlags) has(b byte) bool { return f.seen&letterBit(b) != 0 }

// metaLetters are the flags that each command takes. As with memcached, those that mean something to another command are accepted, P and L
// too, which are reserved for proxies; g and G are ours.
var metaLetters = map[byte]string{
	'g': memcachedLetters + "g", 's': memcachedLetters + "G", 'd': memcachedLetters, 'a': memcachedLetters, 't': memcachedLetters + "G",
}

const memcachedLetters = "bcfhklqstuvxCDEFIJLMNOPRT"

var metaMasks = func() (m [256]uint64) {
	for cmd, letters := range metaLetters {
		for _, b := range []byte(letters) {
			m[cmd] |= letterBit(b)
		}
	}
	return m
}()

// parseMeta reads the flags of a command. The text is the error's answer, or "".
func (f *metaFlags) parse(cmd byte, tok [][]byte, clock *clock) string {
	f.n, f.seen, f.mode, f.flags, f.exp, f.exp0, f.delta, f.init, f.newV, f.cas, f.tags = 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, nil
	for _, t := range tok {
		b := t[0]
		if b|0x20 < 'a' || b|0x20 > 'z' {
			return badFormat
		}
		if bit := letterBit(b); f.seen&bit != 0 {
			if cmd == 'a' {
				return invalidOrDup
			}
			return duplicateFlag
		}
		if metaMasks[cmd]&letterBit(b) == 0 {
			if cmd == 'a' {
				return invalidOrDup
			}
			return invalidFlag
		}
		f.seen |= letterBit(b)
		f.list[f.n] = t
		f.n++
		if text := f.token(cmd, b, t[1:], clock); text != "" {
			return text
		}
	}
	return ""
}

// expiries goes through N and T in their order: what the item's expiry time is in the end, and what it is where t asks for it. exp is the item's;
// one that the command has created has none until N gives it one.
func (f *metaFlags) expiries(exp uint32, created bool) (last, shown uint32) {
	for _, t := range f.list[:f.n] {
		if exp = f.expiryAfter(t[0], exp, created); t[0] == 't' {
			shown = exp
		}
	}
	return exp, shown
}

// expiryAfter is what a flag makes of the expiry time: T sets it, N does for an item that the command has created.
func (f *metaFlags) expiryAfter(flag byte, exp uint32, created bool) uint32 {
	switch {
	case flag == 'T':
		return f.exp
	case flag == 'N' && created:
		return f.viv
	}
	return exp
}

// token reads what follows a flag's letter.
func (f *metaFlags) token(cmd, b byte, v []byte, clock *clock) string {
	ok := true
	switch b {
	case 'O':
		if len(v)+1 > maxOpaque {
			return opaqueTooLong
		}
	case 'F':
		f.flags, ok = parseFlags(v)
	case 'T':
		f.exp0, ok = parseI32(v)
		f.exp = clock.expiry(f.exp0)
	case 'N':
		var n int32
		n, ok = parseI32(v)
		f.viv = clock.expiry(n)
	case 'R':
		var n int32
		n, ok = parseI32(v)
		f.rec = clock.expiry(n)
	case 'C':
		f.cas, ok = parseU64(v)
	case 'E':
		f.newV, ok = parseU64(v)
	case 'G':
		f.tags, ok = v, validTags(v)
	case 'M':
		if len(v) != 1 {
			return "CLIENT_ERROR incorrect length for M token"
		}
		f.mode = v[0]
	case 'D':
		if f.delta, ok = parseU64(v); !ok {
			return "CLIENT_ERROR invalid numeric delta value"
		}
	case 'J':
		if f.init, ok = parseU64(v); !ok {
			return "CLIENT_ERROR invalid numeric initial value"
		}
	}
	if !ok {
		return badToken
	}
	return ""
}
