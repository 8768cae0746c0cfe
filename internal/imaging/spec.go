package imaging

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
)

// Fit says what becomes of an image whose sides have another proportion than those that are wanted. Nothing is ever made
// larger than the original but by Fill.
type Fit string

// Fits.
const (
	Inside  Fit = "inside"  // as large as fits, in the original's proportion
	Cover   Fit = "cover"   // the wanted size, filled; what sticks out is cut off on both sides alike
	Contain Fit = "contain" // the wanted size, with the whole image in its middle and nothing around it: white in JPEG, else transparent
	Fill    Fit = "fill"    // the wanted size, out of proportion if need be
)

// Format is what an image is written as.
type Format string

// Formats.
const (
	Auto Format = "auto" // as the original, where that can be written; else JPEG, or PNG if there is transparency
	JPEG Format = "jpeg"
	PNG  Format = "png"
	GIF  Format = "gif"
)

const (
	// MaxSide is the largest width or height that can be asked for, in pixels.
	MaxSide = 8192
	// DefaultQuality is JPEG's, from 1 to 100.
	DefaultQuality = 82
)

// Spec is what is wanted of an image.
type Spec struct {
	Width, Height int // pixels; 0: what follows from the other, or the original's
	Fit           Fit
	Format        Format
	Quality       int // of JPEG
}

// ParseQuery reads w, h, fit, format and quality. asked is false when none of them is there. The errors name the parameter.
func ParseQuery(q url.Values) (s Spec, asked bool, err error) {
	s = Spec{Fit: Inside, Format: Auto, Quality: DefaultQuality}
	var errs []error
	number := func(key string, to *int, least, most int) {
		if !q.Has(key) {
			return
		}
		asked = true
		n, err := strconv.Atoi(q.Get(key))
		if err != nil || n < least || n > most {
			errs = append(errs, fmt.Errorf("%s=%.20q: want a number from %d to %d", key, q.Get(key), least, most))
			return
		}
		*to = n
	}
	number("w", &s.Width, 1, MaxSide)
	number("h", &s.Height, 1, MaxSide)
	number("quality", &s.Quality, 1, 100)
	if q.Has("fit") {
		asked = true
		s.Fit = Fit(q.Get("fit"))
	}
	if q.Has("format") {
		asked = true
		if s.Format = Format(q.Get("format")); s.Format == "jpg" {
			s.Format = JPEG
		}
	}
	if err := s.validate(); err != nil {
		errs = append(errs, err)
	}
	return s, asked, errors.Join(errs...)
}

func (s Spec) validate() error {
	switch s.Fit {
	case Inside, Cover, Contain, Fill:
	default:
		return fmt.Errorf("fit=%.20q: want inside, cover, contain or fill", string(s.Fit))
	}
	switch s.Format {
	case Auto, JPEG, PNG, GIF:
	default:
		return fmt.Errorf("format=%.20q: want auto, jpeg, png or gif", string(s.Format))
	}
	if s.Width < 0 || s.Width > MaxSide || s.Height < 0 || s.Height > MaxSide {
		return fmt.Errorf("size %d×%d: want at most %d pixels a side", s.Width, s.Height, MaxSide)
	}
	if s.Quality < 1 || s.Quality > 100 {
		return fmt.Errorf("quality %d: want 1 to 100", s.Quality)
	}
	return nil
}

// String is the same for all that give the same image, and what [Parse] reads: w200-h0-inside-auto-q82.
func (s Spec) String() string {
	if s.Width == 0 || s.Height == 0 {
		s.Fit = Inside // there is no other proportion than the original's
	}
	if s.Format == PNG || s.Format == GIF {
		s.Quality = DefaultQuality
	}
	return fmt.Sprintf("w%d-h%d-%s-%s-q%d", s.Width, s.Height, s.Fit, s.Format, s.Quality)
}

// Parse reads what String writes.
func Parse(text string) (Spec, error) {
	var s Spec
	parts := splitDashes(text)
	if len(parts) != 5 {
		return s, fmt.Errorf("imaging: %.60q: want w0-h0-FIT-FORMAT-q0", text)
	}
	var errs [3]error
	s.Width, errs[0] = prefixed(parts[0], 'w')
	s.Height, errs[1] = prefixed(parts[1], 'h')
	s.Quality, errs[2] = prefixed(parts[4], 'q')
	s.Fit, s.Format = Fit(parts[2]), Format(parts[3])
	if err := errors.Join(errors.Join(errs[:]...), s.validate()); err != nil {
		return s, fmt.Errorf("imaging: %.60q: %w", text, err)
	}
	return s, nil
}
