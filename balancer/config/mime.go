package config

import (
	"maps"
)

// mimeTypes is Perlbal's table, and what has become usual since.
var mimeTypes = map[string]string{
	"avif": "image/avif", "bz2": "application/x-bzip2", "css": "text/css", "csv": "text/csv", "doc": "application/msword",
	"gif": "image/gif", "gz": "application/gzip", "htm": "text/html", "html": "text/html", "ico": "image/vnd.microsoft.icon",
	"jpeg": "image/jpeg", "jpg": "image/jpeg", "js": "application/x-javascript", "json": "application/json", "m4a": "audio/mp4",
	"mjs": "text/javascript", "mp3": "audio/mpeg", "mp4": "video/mp4", "mpg": "video/mpeg", "ogg": "audio/ogg",
	"pdf": "application/pdf", "png": "image/png", "svg": "image/svg+xml", "tar": "application/x-tar", "tif": "image/tiff",
	"tiff": "image/tiff", "torrent": "application/x-bittorrent", "ttf": "font/ttf", "txt": "text/plain", "wasm": "application/wasm",
	"wav": "audio/wav", "webm": "video/webm", "webp": "image/webp", "woff": "font/woff", "woff2": "font/woff2",
	"xml": "application/xml", "zip": "application/zip",
}

// MIMEType is the type of files with an extension (without the dot, in lower case), "" when it is not known.
func (s *State) MIMEType(ext string) string {
	if v, ok := s.MIME[ext]; ok {
		return v
	}
	return mimeTypes[ext]
}

// MIMETypes is the table in force, by extension.
func (s *State) MIMETypes() map[string]string {
	m := maps.Clone(mimeTypes)
	maps.Copy(m, s.MIME)
	maps.DeleteFunc(m, func(_, v string) bool { return v == "" })
	return m
}
