package imaging

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/draw"
)

// orientation reads how a JPEG must be turned: Exif's tag 0x0112, 1 to 8 (CIPA DC-008, §4.6.4). 1 where there is none, or
// where the metadata makes no sense, which must not keep a photo from being shown.
func orientation(data []byte) int {
	for data = skip(data, 2); len(data) >= 4 && data[0] == 0xff; { // behind SOI
		marker, n := data[1], int(binary.BigEndian.Uint16(data[2:]))
		if marker == 0xda || n < 2 || len(data) < 2+n { // SOS: the image begins
			return 1
		}
		if body, ok := bytes.CutPrefix(data[4:2+n], []byte("Exif\x00\x00")); marker == 0xe1 && ok {
			return tiffOrientation(body)
		}
		data = data[2+n:]
	}
	return 1
}

func skip(b []byte, n int) []byte { return b[min(n, len(b)):] }

// tiffOrientation looks through the first directory of a TIFF structure.
func tiffOrientation(b []byte) int {
	if len(b) < 8 {
		return 1
	}
	var order binary.ByteOrder = binary.BigEndian
	if b[0] == 'I' {
		order = binary.LittleEndian
	}
	dir := skip(b, int(min(order.Uint32(b[4:]), 1<<16)))
	if len(dir) < 2 {
		return 1
	}
	entries := int(order.Uint16(dir))
	for dir = dir[2:]; entries > 0 && len(dir) >= 12; entries-- {
		const tag, short = 0x0112, 3
		if order.Uint16(dir) == tag && order.Uint16(dir[2:]) == short {
			if v := int(order.Uint16(dir[8:])); v >= 1 && v <= 8 {
				return v
			}
			return 1
		}
		dir = dir[12:]
	}
	return 1
}

// upright turns an image as its orientation says. Orientations 5 to 8 lie on a side.
func upright(src image.Image, o int) image.Image {
	if o <= 1 || o > 8 {
		return src
	}
	b := src.Bounds()
	w, h := b.Dx(), b.Dy()
	flat, ok := src.(*image.RGBA)
	if !ok || b.Min != (image.Point{}) {
		flat = image.NewRGBA(image.Rect(0, 0, w, h))
		draw.Draw(flat, flat.Bounds(), src, b.Min, draw.Src)
	}
	size := image.Pt(w, h)
	if o >= 5 {
		size = image.Pt(h, w)
	}
	dst := image.NewRGBA(image.Rectangle{Max: size})
	for y := range h {
		row := flat.Pix[y*flat.Stride : y*flat.Stride+4*w]
		for x := range w {
			to := turn(o, x, y, w, h)
			copy(dst.Pix[to.Y*dst.Stride+4*to.X:][:4], row[4*x:])
		}
	}
	return dst
}

// turn is where a pixel goes.
func turn(o, x, y, w, h int) image.Point {
	switch o {
	case 2:
		return image.Pt(w-1-x, y)
	case 3:
		return image.Pt(w-1-x, h-1-y)
	case 4:
		return image.Pt(x, h-1-y)
	case 5:
		return image.Pt(y, x)
	case 6:
		return image.Pt(h-1-y, x)
	case 7:
		return image.Pt(h-1-y, w-1-x)
	default: // 8
		return image.Pt(y, w-1-x)
	}
}
