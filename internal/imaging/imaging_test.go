package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"net/url"
	"strings"
	"testing"
	"testing/quick"

	xdraw "golang.org/x/image/draw"
)

// quarters is an image with another colour in each corner: red, green; blue, white.
func quarters(w, h int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.RGBA{255, 0, 0, 255}
			switch {
			case x >= w/2 && y < h/2:
				c = color.RGBA{0, 255, 0, 255}
			case x < w/2 && y >= h/2:
				c = color.RGBA{0, 0, 255, 255}
			case x >= w/2:
				c = color.RGBA{255, 255, 255, 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	return img
}

func pngOf(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func jpegOf(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func spec(t testing.TB, query string) Spec {
	t.Helper()
	q, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := ParseQuery(q)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSizes(t *testing.T) {
	src := pngOf(t, quarters(400, 200))
	for _, tt := range []struct {
		query string
		w, h  int
	}{
		{"w=200", 200, 100},
		{"h=50", 100, 50},
		{"w=100&h=100", 100, 50},
		{"w=100&h=10", 20, 10},
		{"w=100&h=100&fit=cover", 100, 100},
		{"w=100&h=100&fit=contain", 100, 100},
		{"w=100&h=100&fit=fill", 100, 100},
		{"w=1000", 400, 200},                    // never larger
		{"w=1000&h=1000&fit=cover", 200, 200},   // the proportion, but no more pixels
		{"w=1000&h=500&fit=fill", 1000, 500},    // but by fill
		{"w=1000&h=500&fit=contain", 1000, 500}, // with a border
		{"format=png", 400, 200},
		{"w=1", 1, 1},
	} {
		out, _, err := Transform(src, spec(t, tt.query), Limits{})
		if err != nil {
			t.Errorf("%s: %v", tt.query, err)
			continue
		}
		c, _, err := image.DecodeConfig(bytes.NewReader(out))
		if err != nil || c.Width != tt.w || c.Height != tt.h {
			t.Errorf("%s: %d×%d, %v; want %d×%d", tt.query, c.Width, c.Height, err, tt.w, tt.h)
		}
	}
}

// near reports whether a pixel has a colour, but for what compression does to it.
func near(img image.Image, x, y int, want color.RGBA) bool {
	r, g, b, a := img.At(x, y).RGBA()
	ok := func(v uint32, w uint8) bool { d := int(v>>8) - int(w); return d > -40 && d < 40 }
	return ok(r, want.R) && ok(g, want.G) && ok(b, want.B) && ok(a, want.A)
}

func decoded(t *testing.T, data []byte) image.Image {
	t.Helper()
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

var (
	red   = color.RGBA{255, 0, 0, 255}
	green = color.RGBA{0, 255, 0, 255}
	blue  = color.RGBA{0, 0, 255, 255}
	white = color.RGBA{255, 255, 255, 255}
	empty = color.RGBA{}
)

func TestContent(t *testing.T) {
	src := pngOf(t, quarters(400, 200))
	type pixel struct {
		x, y int
		want color.RGBA
	}
	for _, tt := range []struct {
		query  string
		pixels []pixel
	}{
		{"w=100", []pixel{{10, 10, red}, {90, 10, green}, {10, 40, blue}, {90, 40, white}}},
		{"w=100&h=100&fit=cover", []pixel{{10, 10, red}, {90, 10, green}, {10, 90, blue}, {90, 90, white}}},
		{"w=100&h=100&fit=contain", []pixel{{50, 5, empty}, {10, 30, red}, {90, 30, green}, {10, 70, blue}, {50, 95, empty}}},
		{"w=100&h=100&fit=contain&format=jpeg", []pixel{{50, 5, white}, {10, 30, red}, {50, 95, white}}},
		{"w=100&format=gif", []pixel{{10, 10, red}, {90, 10, green}, {10, 40, blue}}},
	} {
		out, _, err := Transform(src, spec(t, tt.query), Limits{})
		if err != nil {
			t.Errorf("%s: %v", tt.query, err)
			continue
		}
		img := decoded(t, out)
		for _, p := range tt.pixels {
			if !near(img, p.x, p.y, p.want) {
				t.Errorf("%s: pixel %d,%d is %v; want %v", tt.query, p.x, p.y, img.At(p.x, p.y), p.want)
			}
		}
	}
}

func TestFormats(t *testing.T) {
	img := quarters(40, 20)
	var g bytes.Buffer
	if err := gif.Encode(&g, img, nil); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		src   []byte
		query string
		want  string
	}{
		{"jpeg stays", jpegOf(t, img), "w=10", "image/jpeg"},
		{"png stays", pngOf(t, img), "w=10", "image/png"},
		{"gif stays", g.Bytes(), "w=10", "image/gif"},
		{"bmp becomes jpeg", bmpOf(2, 2), "w=1", "image/jpeg"},
		{"png to jpeg", pngOf(t, img), "format=jpg", "image/jpeg"},
		{"jpeg to png", jpegOf(t, img), "format=png", "image/png"},
	} {
		out, got, err := Transform(tt.src, spec(t, tt.query), Limits{})
		if err != nil || got != tt.want {
			t.Errorf("%s: %s, %v; want %s", tt.name, got, err, tt.want)
			continue
		}
		if _, name, err := image.DecodeConfig(bytes.NewReader(out)); err != nil || "image/"+name != got {
			t.Errorf("%s: the bytes are %s, %v", tt.name, name, err)
		}
	}
}

// bmpOf is an uncompressed BMP of 24 bits.
func bmpOf(w, h int) []byte {
	stride := (w*3 + 3) &^ 3
	b := []byte("BM")
	b = binary.LittleEndian.AppendUint32(b, uint32(54+stride*h))
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, 54)
	b = binary.LittleEndian.AppendUint32(b, 40)
	b = binary.LittleEndian.AppendUint32(b, uint32(w))
	b = binary.LittleEndian.AppendUint32(b, uint32(h))
	b = append(b, 1, 0, 24, 0)
	b = append(b, make([]byte, 24)...)
	return append(b, make([]byte, stride*h)...)
}

func TestBombs(t *testing.T) {
	// A PNG whose header promises more than there is memory for; nothing else of it is ever looked at.
	head := pngOf(t, image.NewRGBA(image.Rect(0, 0, 1, 1)))
	binary.BigEndian.PutUint32(head[16:], 60000)
	binary.BigEndian.PutUint32(head[20:], 60000)
	fixCRC(head)
	if _, _, err := Transform(head, spec(t, "w=10"), Limits{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("err = %v; want ErrTooLarge", err)
	}
	if _, _, err := Transform(pngOf(t, quarters(100, 100)), spec(t, "w=10"), Limits{MaxPixels: 9999}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("err = %v; want ErrTooLarge", err)
	}
	for _, data := range []string{"", "GIF89a", "hello, world", "\xff\xd8\xff\xe1\x00"} {
		if _, _, err := Transform([]byte(data), spec(t, "w=10"), Limits{}); !errors.Is(err, ErrNotImage) {
			t.Errorf("%q: err = %v; want ErrNotImage", data, err)
		}
	}
	cut := pngOf(t, quarters(100, 100))
	if _, _, err := Transform(cut[:len(cut)/2], spec(t, "w=10"), Limits{}); !errors.Is(err, ErrNotImage) {
		t.Errorf("half an image: %v; want ErrNotImage", err)
	}
}

// withOrientation puts an Exif segment behind a JPEG's first marker.
func withOrientation(jpg []byte, order binary.AppendByteOrder, mark string, o uint16) []byte {
	tiff := []byte(mark)
	tiff = order.AppendUint16(tiff, 42)
	tiff = order.AppendUint32(tiff, 8)
	tiff = order.AppendUint16(tiff, 2)
	entry := func(tag, value uint16) {
		tiff = order.AppendUint16(tiff, tag)
		tiff = order.AppendUint16(tiff, 3)
		tiff = order.AppendUint32(tiff, 1)
		tiff = order.AppendUint16(tiff, value)
		tiff = append(tiff, 0, 0)
	}
	entry(0x0100, 7)
	entry(0x0112, o)
	body := append([]byte("Exif\x00\x00"), tiff...)
	out := append([]byte{}, jpg[:2]...)
	out = append(out, 0xff, 0xe1)
	out = binary.BigEndian.AppendUint16(out, uint16(2+len(body)))
	out = append(out, body...)
	return append(out, jpg[2:]...)
}

func TestOrientation(t *testing.T) {
	jpg := jpegOf(t, quarters(64, 32))
	// The colours of the corners, row by row, as they must be shown.
	want := map[uint16][4]color.RGBA{
		1: {red, green, blue, white}, 2: {green, red, white, blue}, 3: {white, blue, green, red}, 4: {blue, white, red, green},
		5: {red, blue, green, white}, 6: {blue, red, white, green}, 7: {white, green, blue, red}, 8: {green, white, red, blue},
	}
	for o, corners := range want {
		for _, e := range []struct {
			mark  string
			order binary.AppendByteOrder
		}{{"MM", binary.BigEndian}, {"II", binary.LittleEndian}} {
			out, _, err := Transform(withOrientation(jpg, e.order, e.mark, o), spec(t, "format=png"), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			img := decoded(t, out)
			w, h := img.Bounds().Dx(), img.Bounds().Dy()
			if lying := o >= 5; lying != (w < h) {
				t.Errorf("%d: %d×%d", o, w, h)
			}
			for i, p := range []image.Point{{4, 4}, {w - 5, 4}, {4, h - 5}, {w - 5, h - 5}} {
				if !near(img, p.X, p.Y, corners[i]) {
					t.Errorf("%s %d: corner %d is %v; want %v", e.mark, o, i, img.At(p.X, p.Y), corners[i])
				}
			}
		}
	}
}

func TestMetadataIsLeftOut(t *testing.T) {
	out, _, err := Transform(withOrientation(jpegOf(t, quarters(64, 32)), binary.BigEndian, "MM", 6), spec(t, "w=10"), Limits{})
	if err != nil || bytes.Contains(out, []byte("Exif")) {
		t.Errorf("Exif is still there, or %v", err)
	}
}

func TestParseQueryErrors(t *testing.T) {
	for _, tt := range []struct{ query, want string }{
		{"w=0", "w="},
		{"w=-1", "w="},
		{"w=8193", "w="},
		{"h=1e3", "h="},
		{"fit=best", "fit="},
		{"format=exe", "format="},
		{"quality=0", "quality="},
		{"quality=101", "quality="},
		{"w=x&h=y", "h="},
	} {
		q, _ := url.ParseQuery(tt.query)
		if _, asked, err := ParseQuery(q); err == nil || !asked || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: asked %v, %v; want an error with %q", tt.query, asked, err, tt.want)
		}
	}
	if _, asked, err := ParseQuery(url.Values{"v": {"3"}}); asked || err != nil {
		t.Errorf("v=3: %v, %v", asked, err)
	}
}

func TestSpecText(t *testing.T) {
	same := func(w, h uint16, fit, format, quality uint8) bool {
		s := Spec{
			int(w) % (MaxSide + 1), int(h) % (MaxSide + 1), []Fit{Inside, Cover, Contain, Fill}[fit%4],
			[]Format{Auto, JPEG, PNG, GIF}[format%4], 1 + int(quality)%100,
		}
		back, err := Parse(s.String())
		return err == nil && back.String() == s.String()
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
	if a, b := spec(t, "w=10&fit=cover"), spec(t, "w=10"); a.String() != b.String() {
		t.Errorf("%s and %s are the same image", a, b)
	}
}

// Shrinking in two steps gives nearly the same pixels as in one, for all kinds of photos, sizes and parts.
func TestPreshrink(t *testing.T) {
	for _, ratio := range []image.YCbCrSubsampleRatio{
		image.YCbCrSubsampleRatio444, image.YCbCrSubsampleRatio422, image.YCbCrSubsampleRatio420, image.YCbCrSubsampleRatio440,
	} {
		for _, size := range []image.Point{{801, 603}, {640, 480}, {333, 1001}} {
			src := image.NewYCbCr(image.Rectangle{Max: size}, ratio)
			for y := range size.Y {
				for x := range size.X {
					src.Y[src.YOffset(x, y)] = byte(x * 255 / size.X)
					src.Cb[src.COffset(x, y)] = byte(y * 255 / size.Y)
					src.Cr[src.COffset(x, y)] = byte((x + y) * 255 / (size.X + size.Y))
				}
			}
			for _, s := range []Spec{
				{Width: 40, Fit: Inside}, {Width: 30, Height: 30, Fit: Cover}, {Width: 50, Height: 20, Fit: Fill}, {Width: 1, Fit: Inside},
			} {
				got := resize(src, s)
				p := s.plan(size.X, size.Y)
				want := image.NewRGBA(image.Rectangle{Max: p.size})
				xdraw.CatmullRom.Scale(want, p.dst, src, p.src, xdraw.Src, nil)
				if got.Bounds() != want.Bounds() {
					t.Fatalf("%v %v %v: bounds %v; want %v", ratio, size, s, got.Bounds(), want.Bounds())
				}
				for i, v := range got.(*image.RGBA).Pix {
					if d := int(v) - int(want.Pix[i]); d < -14 || d > 14 {
						t.Fatalf("%v %v %v: byte %d is %d; want about %d", ratio, size, s, i, v, want.Pix[i])
					}
				}
			}
		}
	}
}

func FuzzTransform(f *testing.F) {
	f.Add(pngOf(f, quarters(8, 8)), "w4-h4-cover-auto-q80")
	f.Add(withOrientation(jpegOf(f, quarters(16, 8)), binary.BigEndian, "MM", 6), "w4-h0-inside-jpeg-q80")
	f.Add(bmpOf(3, 3), "w1-h1-fill-gif-q1")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		s, err := Parse(text)
		if err != nil || s.Width > 64 || s.Height > 64 {
			return
		}
		out, _, err := Transform(data, s, Limits{MaxPixels: 1 << 14})
		if err != nil {
			return
		}
		if _, _, err := image.DecodeConfig(bytes.NewReader(out)); err != nil {
			t.Errorf("%s: the result cannot be read: %v", s, err)
		}
	})
}

func BenchmarkTransform(b *testing.B) {
	img := image.NewRGBA(image.Rect(0, 0, 4000, 3000))
	for i := range img.Pix {
		img.Pix[i] = byte(i * 7 >> 5)
	}
	data := jpegOf(b, img)
	s := spec(b, "w=200")
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Transform(data, s, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
