package palimg

import (
	"bytes"
	"encoding/hex"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"testing"
)

// grey is the palette of the vectors: 000000 555555 aaaaaa ffffff.
var grey = color.Palette{color.Gray{0}, color.Gray{0x55}, color.Gray{0xaa}, color.Gray{0xff}}

func picture(t testing.TB, format string) []byte {
	t.Helper()
	img := image.NewPaletted(image.Rect(0, 0, 4, 1), grey)
	copy(img.Pix, []byte{0, 1, 2, 3})
	var b bytes.Buffer
	var err error
	if format == "gif" {
		err = gif.Encode(&b, img, &gif.Options{NumColors: 4})
	} else {
		err = png.Encode(&b, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestVectors(t *testing.T) {
	for spec, want := range map[string]string{
		"0ff0000":                      "ff0000555555aaaaaaffffff",
		"0ff0000300ff00":               "ff0000555555aaaaaa00ff00",
		"0ff00000abcdef":               "abcdef555555aaaaaaffffff", // the last one counts
		"f123456":                      "000000555555aaaaaaffffff", // beyond the palette
		"t00ff00":                      "00000000550000aa0000ff00",
		"t00ff00ff0000":                "ff0000aa550055aa0000ff00",
		"g01ff000003000000":            "000000ff00007f0000000000",
		"g0300000001ff0000":            "000000ff00007f0000000000",
		"g00000000ff0000ff":            "000000000001000002000003",
		"0ff00001ff00002ff00003ff0000": "ff0000ff0000ff0000ff0000",
	} {
		s, err := Parse(spec)
		if err != nil {
			t.Errorf("Parse(%q): %v", spec, err)
			continue
		}
		for _, format := range []string{"gif", "png"} {
			if got := hex.EncodeToString(paletteOf(t, format, s)); got != want {
				t.Errorf("%s %q: palette %s; want %s", format, spec, got, want)
			}
		}
	}
}

// paletteOf is a picture's palette after a change, as the decoders of the standard library see it; they check sums too.
func paletteOf(t *testing.T, format string, s Spec) []byte {
	t.Helper()
	file := picture(t, format)
	before := bytes.Clone(file)
	out, err := s.Alter(format, file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, file) {
		t.Fatal("the input was altered")
	}
	img, _, err := image.Decode(bytes.NewReader(append(out, file[len(out):]...)))
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	for _, c := range img.(*image.Paletted).Palette {
		r, g, bl, _ := c.RGBA()
		b = append(b, byte(r>>8), byte(g>>8), byte(bl>>8))
	}
	return b
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{
		"", "0", "0ff000", "0ff00000", "0FF0000", "zff0000", "t", "t00ff0", "t00ff00f", "t00ff00ff00000", "g", "g01ff000001000000",
		"g01ff00000300000", "g01ff0000030000000", "tg", "0ff00000ff00000ff00000ff00000ff00000ff00000ff0000", "0ff000\x00",
	} {
		if spec, err := Parse(s); !errors.Is(err, ErrSpec) {
			t.Errorf("Parse(%q) = %v, %v; want ErrSpec", s, spec, err)
		}
	}
}

func TestAlterRefuses(t *testing.T) {
	s, err := Parse("0ff0000")
	if err != nil {
		t.Fatal(err)
	}
	var gray bytes.Buffer
	if err := png.Encode(&gray, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		t.Fatal(err)
	}
	bare := picture(t, "gif")
	bare[10] &^= 0x80 // no global colour table
	for name, v := range map[string]struct {
		ext  string
		data []byte
	}{
		"empty gif": {"gif", nil}, "short gif": {"gif", picture(t, "gif")[:14]}, "no table": {"gif", bare}, "png as gif": {"gif", picture(t, "png")},
		"empty png": {"png", nil}, "short png": {"png", picture(t, "png")[:40]}, "grey png": {"png", gray.Bytes()}, "gif as png": {"png", picture(t, "gif")},
	} {
		if out, err := s.Alter(v.ext, v.data); !errors.Is(err, ErrImage) {
			t.Errorf("%s: %x, %v; want ErrImage", name, out, err)
		}
	}
	if out, err := s.Alter("jpg", picture(t, "gif")); out != nil || err != nil {
		t.Errorf("jpg: %x, %v; want nothing altered", out, err)
	}
}

func FuzzAlter(f *testing.F) {
	f.Add("0ff0000", picture(f, "gif"))
	f.Add("t00ff00ff0000", picture(f, "png"))
	f.Add("g01ff000003000000", []byte("\x89PNG\r\n\x1a\n\xff\xff\xff\xffPLTE"))
	f.Fuzz(func(t *testing.T, spec string, data []byte) {
		s, err := Parse(spec)
		if err != nil {
			return
		}
		for _, ext := range []string{"gif", "png"} {
			out, err := s.Alter(ext, data)
			if err != nil {
				continue
			}
			if len(out) > len(data) {
				t.Fatalf("%s: %d bytes of %d", ext, len(out), len(data))
			}
			again, err := s.Alter(ext, append(bytes.Clone(out), data[len(out):]...))
			if err != nil || len(again) != len(out) {
				t.Fatalf("%s: what was altered cannot be altered: %v", ext, err)
			}
			if !s.Tint && !bytes.Equal(again, out) {
				t.Fatalf("%s: replacing twice differs from once", ext)
			}
		}
	})
}
