package imaging

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math"
	"strconv"
	"strings"

	_ "golang.org/x/image/bmp" // registers itself with image.Decode, like the next two
	xdraw "golang.org/x/image/draw"
	_ "golang.org/x/image/tiff"
	_ "golang.org/x/image/webp"
)

// Limits bound what an image may cost.
type Limits struct {
	// MaxPixels is width times height of the original. Default 64 million; decoding takes up to 4 bytes for each (8 where a
	// PNG or TIFF has 16 bits a channel).
	MaxPixels int64
}

// DefaultMaxPixels is a bit more than most cameras make.
const DefaultMaxPixels = 64 << 20

var (
	// ErrNotImage says that the bytes are no image that can be read.
	ErrNotImage = errors.New("not an image that can be read")
	// ErrTooLarge says that the image has more pixels than is allowed. It was not decoded.
	ErrTooLarge = errors.New("the image has too many pixels")
)

// Transform makes of an image what s says, and returns it with its content type. It takes the memory of the decoded
// original, of the result, and of one more of the original where it must be turned.
func Transform(data []byte, s Spec, l Limits) (out []byte, contentType string, err error) {
	if err := s.validate(); err != nil {
		return nil, "", fmt.Errorf("imaging: %w", err)
	}
	if l.MaxPixels <= 0 {
		l.MaxPixels = DefaultMaxPixels
	}
	conf, name, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrNotImage, err)
	}
	if conf.Width <= 0 || conf.Height <= 0 {
		return nil, "", fmt.Errorf("%w: it is %d×%d pixels", ErrNotImage, conf.Width, conf.Height)
	}
	if n := int64(conf.Width) * int64(conf.Height); n > l.MaxPixels {
		return nil, "", fmt.Errorf("%w: %d×%d, at most %d are allowed", ErrTooLarge, conf.Width, conf.Height, l.MaxPixels)
	}
	src, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrNotImage, err)
	}
	if name == "jpeg" {
		src = upright(src, orientation(data))
	}
	return encode(resize(src, s), s, name)
}

// plan is where which part of the original goes.
type plan struct {
	size image.Point     // of the result
	dst  image.Rectangle // within it
	src  image.Rectangle // of the original, which begins at 0,0
}

func (s Spec) plan(w, h int) plan {
	whole := image.Rect(0, 0, w, h)
	if s.Width == 0 && s.Height == 0 {
		return plan{image.Pt(w, h), whole, whole}
	}
	tw, th := s.Width, s.Height
	if tw == 0 || th == 0 || s.Fit == Inside {
		size := scaled(w, h, shrink(w, h, tw, th))
		return plan{size, image.Rectangle{Max: size}, whole}
	}
	size := image.Pt(tw, th)
	switch s.Fit {
	case Contain:
		in := scaled(w, h, shrink(w, h, tw, th))
		at := size.Sub(in).Div(2)
		return plan{size, image.Rectangle{Min: at, Max: at.Add(in)}, whole}
	case Cover:
		// The part of the original that has the wanted proportion, and no more pixels than it has.
		f := min(float64(w)/float64(tw), float64(h)/float64(th))
		cut := image.Pt(clamp(float64(tw)*f, w), clamp(float64(th)*f, h))
		at := image.Pt(w, h).Sub(cut).Div(2)
		if f < 1 {
			size = cut
		}
		return plan{size, image.Rectangle{Max: size}, image.Rectangle{Min: at, Max: at.Add(cut)}}
	}
	return plan{size, image.Rectangle{Max: size}, whole}
}

// shrink is the factor by which w×h fits into tw×th, of which one may be 0 for any; at most 1.
func shrink(w, h, tw, th int) float64 {
	f := 1.0
	if tw > 0 {
		f = min(f, float64(tw)/float64(w))
	}
	if th > 0 {
		f = min(f, float64(th)/float64(h))
	}
	return f
}

func scaled(w, h int, f float64) image.Point {
	return image.Pt(clamp(float64(w)*f, w), clamp(float64(h)*f, h))
}

// clamp rounds to 1 … most.
func clamp(v float64, most int) int { return min(max(1, int(math.Round(v))), most) }

// resize draws the part of src that is wanted in the size that is wanted. Where that is all of it, src itself is
// returned.
func resize(src image.Image, s Spec) image.Image {
	b := src.Bounds()
	p := s.plan(b.Dx(), b.Dy())
	if p.size == b.Size() && p.src.Size() == b.Size() && p.dst.Size() == b.Size() {
		return src
	}
	dst := image.NewRGBA(image.Rectangle{Max: p.size}) // transparent
	from, part := preshrink(src, p.src.Add(b.Min), p.dst.Size())
	xdraw.CatmullRom.Scale(dst, p.dst, from, part, xdraw.Src, nil)
	return dst
}

// encode writes an image in the format that is wanted.
func encode(img image.Image, s Spec, original string) ([]byte, string, error) {
	f := s.Format
	if f == Auto {
		switch Format(original) {
		case JPEG, PNG, GIF:
			f = Format(original)
		default:
			f = JPEG
			if !opaque(img) {
				f = PNG
			}
		}
	}
	var buf bytes.Buffer
	var err error
	switch f {
	case JPEG:
		err = jpeg.Encode(&buf, onWhite(img), &jpeg.Options{Quality: s.Quality})
	case PNG:
		err = png.Encode(&buf, img)
	case GIF:
		err = gif.Encode(&buf, img, &gif.Options{NumColors: 256})
	}
	if err != nil {
		return nil, "", fmt.Errorf("imaging: write %s: %w", f, err)
	}
	return buf.Bytes(), "image/" + string(f), nil
}

func opaque(img image.Image) bool {
	o, ok := img.(interface{ Opaque() bool })
	return ok && o.Opaque()
}

// onWhite lays what is not opaque on white, since JPEG has no transparency.
func onWhite(img image.Image) image.Image {
	if opaque(img) {
		return img
	}
	dst := image.NewRGBA(image.Rectangle{Max: img.Bounds().Size()})
	draw.Draw(dst, dst.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	draw.Draw(dst, dst.Bounds(), img, img.Bounds().Min, draw.Over)
	return dst
}

func splitDashes(text string) []string {
	if len(text) > 60 {
		return nil
	}
	return strings.Split(text, "-")
}

// prefixed reads a number behind a letter.
func prefixed(text string, letter byte) (int, error) {
	if len(text) < 2 || text[0] != letter {
		return 0, fmt.Errorf("%.20q: want %c and a number", text, letter)
	}
	return strconv.Atoi(text[1:])
}
