// Package palimg alters the palettes of GIF and PNG images, so that one file serves in many colours.
//
// What to do is said in a URL, in lower-case hexadecimal digits:
//
//	IRRGGBB…           up to six colours by index, one digit I each
//	gIIRRGGBBJJRRGGBB  a gradient from index II to index JJ
//	tRRGGBB[rrggbb]    a tint: black becomes rrggbb (000000 if not given), white RRGGBB
//
// Only the beginning of a file is looked at and altered; its length stays the same.
package palimg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strconv"
)

// Head is how many bytes of a file's beginning are enough for Alter.
const Head = 2048

// maxReplace is the longest list of replacements, in digits.
const maxReplace = 42

// Errors of Parse and Alter. All mean that there is no such image.
var (
	ErrSpec  = errors.New("palimg: malformed palette in the URL")
	ErrImage = errors.New("palimg: the image has no palette that could be altered")
)

// Color is red, green and blue.
type Color [3]byte

// Spec is what to do to a palette.
type Spec struct {
	Tint        bool
	Light, Dark Color // of a tint
	Replace     map[int]Color
}

// Parse reads what a URL says.
func Parse(s string) (Spec, error) {
	if s == "" {
		return Spec{}, ErrSpec
	}
	digits := s
	if s[0] == 'g' || s[0] == 't' {
		digits = s[1:]
	}
	for i := range len(digits) {
		if c := digits[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return Spec{}, ErrSpec
		}
	}
	switch {
	case s[0] == 'g':
		return parseGradient(digits)
	case s[0] == 't' && len(digits) == 6:
		return Spec{Tint: true, Light: colorOf(digits)}, nil
	case s[0] == 't' && len(digits) == 12:
		return Spec{Tint: true, Light: colorOf(digits), Dark: colorOf(digits[6:])}, nil
	case s[0] == 't', len(digits) > maxReplace, len(digits)%7 != 0:
		return Spec{}, ErrSpec
	}
	r := map[int]Color{}
	for ; digits != ""; digits = digits[7:] {
		r[number(digits[:1])] = colorOf(digits[1:])
	}
	return Spec{Replace: r}, nil
}

func parseGradient(s string) (Spec, error) {
	if len(s) != 16 {
		return Spec{}, ErrSpec
	}
	from, to := number(s[:2]), number(s[8:10])
	first, last := colorOf(s[2:]), colorOf(s[10:])
	if from == to {
		return Spec{}, ErrSpec
	}
	if from > to {
		from, to, first, last = to, from, last, first
	}
	r := make(map[int]Color, to-from+1)
	for i := from; i <= to; i++ {
		var c Color
		for k := range c {
			c[k] = between(first[k], last[k], i-from, to-from)
		}
		r[i] = c
	}
	return Spec{Replace: r}, nil
}

// between is the value at step i of n on the way from a to b, cut to an integer.
func between(a, b byte, i, n int) byte { return byte((int(a)*n + (int(b)-int(a))*i) / n) }

// number and colorOf read digits that have been checked.
func number(digits string) int {
	n, _ := strconv.ParseUint(digits, 16, 16)
	return int(n)
}

func colorOf(digits string) Color {
	return Color{byte(number(digits[:2])), byte(number(digits[2:4])), byte(number(digits[4:6]))}
}

// Alter is the beginning of an image as it becomes: as many bytes of head as reach to the palette's end. ext is the file's extension;
// of other files than gif and png nothing is altered, and the result is empty. head is left as it is; [Head] bytes, or the whole file
// if it is shorter, are enough.
func (s Spec) Alter(ext string, head []byte) ([]byte, error) {
	switch ext {
	case "gif":
		return s.alterGIF(head)
	case "png":
		return s.alterPNG(head)
	}
	return nil, nil
}

// apply alters a palette in place. What is behind its last whole colour stays.
func (s Spec) apply(palette []byte) {
	colors := len(palette) / 3
	if s.Tint {
		for i, v := range palette[:3*colors] {
			palette[i] = between(s.Dark[i%3], s.Light[i%3], int(v), 255)
		}
	}
	for i, c := range s.Replace {
		if i < colors {
			copy(palette[3*i:], c[:])
		}
	}
}

// alterGIF alters the global colour table (GIF89a §18, §19).
func (s Spec) alterGIF(head []byte) ([]byte, error) {
	const screen = 13 // signature and logical screen descriptor
	if len(head) < screen || !bytes.HasPrefix(head, []byte("GIF8")) {
		return nil, ErrImage
	}
	packed := head[10]
	size := 3 << (packed&7 + 1)
	if packed&0x80 == 0 || len(head) < screen+size {
		return nil, ErrImage
	}
	out := bytes.Clone(head[:screen+size])
	s.apply(out[screen:])
	return out, nil
}

// alterPNG alters PLTE and its checksum (PNG §5.3, §11.2.3).
func (s Spec) alterPNG(head []byte) ([]byte, error) {
	const signature = "\x89PNG\r\n\x1a\n"
	const frame = 12 // length, type and checksum of a chunk
	if !bytes.HasPrefix(head, []byte(signature)) {
		return nil, ErrImage
	}
	indexed := false
	for at := len(signature); at+frame <= len(head); {
		size := int64(binary.BigEndian.Uint32(head[at:]))
		if size > int64(len(head)-at-frame) {
			break
		}
		end := at + frame + int(size)
		switch data := head[at+8 : end-4]; string(head[at+4 : at+8]) {
		case "IHDR":
			if len(data) != 13 || data[9] != 3 { // colour type 3: indexed
				return nil, ErrImage
			}
			indexed = true
		case "PLTE":
			if !indexed {
				return nil, ErrImage
			}
			out := bytes.Clone(head[:end])
			s.apply(out[at+8 : end-4])
			binary.BigEndian.PutUint32(out[end-4:], crc32.ChecksumIEEE(out[at+4:end-4]))
			return out, nil
		}
		at = end
	}
	return nil, ErrImage
}
