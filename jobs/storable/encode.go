package storable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Marshal makes the image of a hash or an array: a map[string]any, []any, map[string]string or []string whose values are
// those, strings, integers, floating-point numbers, bool, []byte or nil. Strings that are valid UTF-8 and not ASCII are text to Perl,
// []byte are not. Numbers beyond 32 bits, and fractions, are strings, as Storable itself has them in network order.
func Marshal(v any) ([]byte, error) {
	b, err := appendValue([]byte{header, maxMinor}, v, 0)
	if err != nil {
		return nil, err
	}
	switch b[2] {
	case sxArray, sxHash, sxFlagHash:
		return b, nil
	}
	return nil, fmt.Errorf("storable: %T is neither a hash nor an array", v)
}

// ErrRaw is what Raw says of bytes that Perl may take for an image.
var ErrRaw = errors.New("storable: argument begins with a byte from 4 to 11, and Perl may take it for an image of Storable")

// Raw reports whether a Perl worker may take bytes that are no image for one: those whose first byte is 4 to 11.
func Raw(arg []byte) error {
	if len(arg) > 0 && arg[0] >= minMinor && arg[0] <= maxMinor {
		return ErrRaw
	}
	return nil
}

// appendValue writes a value as an element of a hash or an array has it: what is a hash or an array itself is behind a
// reference there.
func appendValue(b []byte, v any, depth int) ([]byte, error) {
	if depth > MaxDepth {
		return nil, fmt.Errorf("storable: deeper than %d", MaxDepth)
	}
	switch v := v.(type) {
	case nil:
		return append(b, sxUndef), nil
	case bool:
		if v {
			return append(b, sxSvYes), nil
		}
		return append(b, sxSvNo), nil
	case string:
		return appendText(b, v, sxUTF8, sxLongUTF8)
	case []byte:
		return appendText(b, string(v), sxScalar, sxLongScalar)
	case float64:
		return appendText(b, strconv.FormatFloat(v, 'g', -1, 64), sxScalar, sxLongScalar)
	case []string:
		return appendArray(b, v, depth)
	case []any:
		return appendArray(b, v, depth)
	case map[string]string:
		return appendHash(b, v, depth)
	case map[string]any:
		return appendHash(b, v, depth)
	}
	n, err := integer(v)
	if err != nil {
		return nil, err
	}
	return appendInt(b, n)
}

func integer(v any) (int64, error) {
	switch v := v.(type) {
	case int:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case int64:
		return v, nil
	case uint32:
		return int64(v), nil
	}
	return 0, fmt.Errorf("storable: cannot write a %T", v)
}

func appendInt(b []byte, n int64) ([]byte, error) {
	switch {
	case n >= -128 && n <= 127:
		return append(b, sxByte, byte(n+128)), nil
	case n >= math.MinInt32 && n <= math.MaxInt32:
		return binary.BigEndian.AppendUint32(append(b, sxNetInt), uint32(int32(n))), nil
	}
	return appendText(b, strconv.FormatInt(n, 10), sxScalar, sxLongScalar)
}

// appendText writes a string, as text only where that makes a difference.
func appendText(b []byte, s string, short, long byte) ([]byte, error) {
	if short == sxUTF8 && (isASCII(s) || !utf8.ValidString(s)) {
		short, long = sxScalar, sxLongScalar
	}
	if len(s) < 256 {
		return append(append(b, short, byte(len(s))), s...), nil
	}
	if len(s) > math.MaxInt32 {
		return nil, fmt.Errorf("storable: string of %d bytes", len(s))
	}
	return append(binary.BigEndian.AppendUint32(append(b, long), uint32(len(s))), s...), nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// reference begins a hash or an array; the outermost is not behind a reference.
func reference(b []byte, depth int) []byte {
	if depth > 0 {
		b = append(b, sxRef)
	}
	return b
}

func appendArray[T any](b []byte, list []T, depth int) (_ []byte, err error) {
	b = binary.BigEndian.AppendUint32(append(reference(b, depth), sxArray), uint32(len(list)))
	for _, v := range list {
		if b, err = appendValue(b, v, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Of the flags of a hash and of its keys.
const keyIsUTF8 = 1

// appendHash writes the keys in byte order, so that the same hash has the same image.
func appendHash[T any](b []byte, m map[string]T, depth int) (_ []byte, err error) {
	keys := slices.Sorted(maps.Keys(m))
	flags := slices.ContainsFunc(keys, func(k string) bool { return !isASCII(k) })
	b = reference(b, depth)
	if flags {
		b = append(b, sxFlagHash, 0)
	} else {
		b = append(b, sxHash)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(m)))
	for _, k := range keys {
		if b, err = appendValue(b, m[k], depth+1); err != nil {
			return nil, err
		}
		if flags {
			flag := byte(0)
			if !isASCII(k) && utf8.ValidString(k) {
				flag = keyIsUTF8
			}
			b = append(b, flag)
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(k))), k...)
	}
	return b, nil
}
