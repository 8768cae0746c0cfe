package imaging

import "image"

// leastPre is how many pixels are left of a side at least: the last square of a row has fewer pixels than the others, and
// must not weigh much.
const leastPre = 64

// preshrink makes a photo smaller by a whole factor before it is resampled, where it would still be twice as large as
// wanted: averages over squares are cheap, and the resampling, whose cost is that of the source, then sees few pixels. It
// returns the image and the part of it that corresponds to src; the same ones where there is nothing to gain.
func preshrink(img image.Image, src image.Rectangle, size image.Point) (image.Image, image.Rectangle) {
	photo, ok := img.(*image.YCbCr)
	k := min(src.Dx()/max(1, size.X), src.Dy()/max(1, size.Y)) / 2
	k = min(k, src.Dx()/leastPre, src.Dy()/leastPre)
	if !ok || k < 2 || photo.Rect.Min != (image.Point{}) {
		return img, src
	}
	w, h := photo.Rect.Dx(), photo.Rect.Dy()
	out := image.NewYCbCr(image.Rect(0, 0, (w+k-1)/k, (h+k-1)/k), photo.SubsampleRatio)
	// The planes of colour have sizes of their own.
	cw, ch := planeSize(len(photo.Cb), photo.CStride, w, photo.SubsampleRatio)
	average(plane{out.Y, out.YStride, out.Rect.Dx(), out.Rect.Dy()}, plane{photo.Y, photo.YStride, w, h}, k)
	ow, oh := planeSize(len(out.Cb), out.CStride, out.Rect.Dx(), photo.SubsampleRatio)
	average(plane{out.Cb, out.CStride, ow, oh}, plane{photo.Cb, photo.CStride, cw, ch}, k)
	average(plane{out.Cr, out.CStride, ow, oh}, plane{photo.Cr, photo.CStride, cw, ch}, k)
	return out, image.Rect(src.Min.X/k, src.Min.Y/k, max(src.Min.X/k+1, src.Max.X/k), max(src.Min.Y/k+1, src.Max.Y/k))
}

// planeSize is the width and height of a plane of colour.
func planeSize(n, stride, w int, r image.YCbCrSubsampleRatio) (cw, ch int) {
	switch r {
	case image.YCbCrSubsampleRatio422, image.YCbCrSubsampleRatio420:
		w = (w + 1) / 2
	case image.YCbCrSubsampleRatio411, image.YCbCrSubsampleRatio410:
		w = (w + 3) / 4
	}
	if stride == 0 {
		return w, 0
	}
	return min(w, stride), n / stride
}

// plane is one channel of an image.
type plane struct {
	pix          []byte
	stride, w, h int
}

// average makes each pixel of dst the mean of k×k pixels of src; at the edges of those that there are.
func average(dst, src plane, k int) {
	sums := make([]uint32, dst.w)
	for y := range dst.h {
		top := min(y*k, src.h-1)
		bottom := min(top+k, src.h)
		clear(sums)
		for sy := top; sy < bottom; sy++ {
			row := src.pix[sy*src.stride : sy*src.stride+src.w]
			for x := range sums {
				left := min(x*k, src.w-1)
				var sum uint32
				for _, v := range row[left:min(left+k, src.w)] {
					sum += uint32(v)
				}
				sums[x] += sum
			}
		}
		out := dst.pix[y*dst.stride : y*dst.stride+dst.w]
		for x := range out {
			left := min(x*k, src.w-1)
			n := uint32((bottom - top) * (min(left+k, src.w) - left))
			out[x] = byte((sums[x] + n/2) / n)
		}
	}
}
