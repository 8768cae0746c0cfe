// Package imaging makes an image smaller, crops it, and changes its format: what a photo site wants of an upload.
//
// An image is looked at before it is decoded: one with more pixels than [Limits] allow is refused by its header alone, so
// that a few bytes cannot cost gigabytes. JPEG, PNG, GIF (its first frame), WebP, BMP and TIFF are read, JPEG, PNG and GIF
// written. The orientation that a camera notes down is applied, and all other metadata is left out, places included.
package imaging
