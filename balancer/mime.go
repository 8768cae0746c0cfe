package balancer

import (
	"maps"
	"strings"
)

// UnknownType is the media type of files whose extension nothing is known of, as Perlbal had it.
const UnknownType = "text/plain"

// mimeTypes are Perlbal's, and what has come since. MIME set and MIME remove change what a balancer uses.
var mimeTypes = map[string]string{
	"css": "text/css", "doc": "application/msword", "gif": "image/gif", "htm": "text/html", "html": "text/html", "jpg": "image/jpeg",
	"js": "text/javascript", "mp3": "audio/mpeg", "mpg": "video/mpeg", "pdf": "application/pdf", "png": "image/png",
	"tif": "image/tiff", "tiff": "image/tiff", "torrent": "application/x-bittorrent", "txt": "text/plain", "zip": "application/zip",

	"avif": "image/avif", "gz": "application/gzip", "ico": "image/x-icon", "jpeg": "image/jpeg", "json": "application/json",
	"mjs": "text/javascript", "mp4": "video/mp4", "ogg": "audio/ogg", "svg": "image/svg+xml", "tar": "application/x-tar",
	"ttf": "font/ttf", "wasm": "application/wasm", "webm": "video/webm", "webp": "image/webp", "woff": "font/woff",
	"woff2": "font/woff2", "xml": "application/xml", "zst": "application/zstd",
}

// MIMETypes are the media types by extension, in lower case and without the dot: the table that is built in, changed by changes, in
// which "" removes an extension.
func MIMETypes(changes map[string]string) map[string]string {
	m := maps.Clone(mimeTypes)
	for ext, t := range changes {
		if m[ext] = t; t == "" {
			delete(m, ext)
		}
	}
	return m
}

// MIMEType is the media type of a file by its name; ok is false, and the type UnknownType, when its extension is not known.
func (s *Settings) MIMEType(name string) (t string, ok bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 || strings.IndexByte(name[i:], '/') >= 0 {
		return UnknownType, false
	}
	ext := strings.ToLower(name[i+1:])
	t, changed := s.MIME[ext]
	if !changed {
		t = mimeTypes[ext]
	}
	if t == "" {
		return UnknownType, false
	}
	return t, true
}
