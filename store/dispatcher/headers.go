package dispatcher

import (
	"bytes"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// The headers of STF's protocol, with the meaning that they were documented to have.
const (
	headerConsistency     = "X-STF-Consistency"                 // PUT: entities that must be durable before 201
	headerReplicas        = "X-STF-Replication-Count"           // PUT, POST: copies that there shall be
	headerReplicasOld     = "X-Replication-Count"               // its deprecated alias
	headerRecursiveDelete = "X-STF-Recursive-Delete"            // DELETE bucket: objects too
	headerDestination     = "X-STF-Move-Destination"            // MOVE: path of the destination
	metaPrefix            = "X-Object-Meta-"                    // user metadata
	headerBucketAccess    = "X-Bucket-Access"                   // PUT, POST bucket: private or public-read
	headerBucketOwner     = "X-Bucket-Owner"                    // PUT, POST bucket by an administrator: id of an account, 0 for nobody
	headerBucketClass     = "X-Bucket-Class"                    // PUT, POST bucket
	headerBucketCache     = "X-Bucket-Cache-Control"            // PUT, POST bucket
	defaultContentType    = "application/octet-stream"          // where neither the client nor the suffix says more
	formContentType       = "application/x-www-form-urlencoded" // what curl --data-binary says without meaning it
)

// attributes are what a client can say of an object besides its bytes.
type attributes struct {
	contentType  string
	cacheControl string
	meta         []store.Field
	replicas     uint8
}

// parseAttributes reads them from the headers of a PUT or POST.
func parseAttributes(h *http1.Header, name []byte) (a attributes, f *failure) {
	a.contentType = h.Get("Content-Type")
	if a.contentType == "" || a.contentType == formContentType {
		a.contentType = typeBySuffix(string(name))
	}
	if len(a.contentType) > store.MaxContentType {
		return a, failf(http.StatusBadRequest, "Content-Type is %d bytes long; at most %d are kept", len(a.contentType), store.MaxContentType)
	}
	a.cacheControl = h.Get("Cache-Control")
	if len(a.cacheControl) > store.MaxContentType {
		return a, failf(http.StatusBadRequest, "Cache-Control is %d bytes long; at most %d are kept", len(a.cacheControl), store.MaxContentType)
	}
	size := 0
	for name, value := range h.All() {
		if len(name) <= len(metaPrefix) || !strings.EqualFold(string(name[:len(metaPrefix)]), metaPrefix) {
			continue
		}
		field := store.Field{Name: strings.ToLower(string(name[len(metaPrefix):])), Value: string(value)}
		if size += len(field.Name) + len(field.Value); size > store.MaxMetaSize {
			return a, failf(http.StatusBadRequest, "the %s headers are over %d bytes together", metaPrefix, store.MaxMetaSize)
		}
		a.meta = append(a.meta, field)
	}
	n, f := smallNumber(h, headerReplicas, headerReplicasOld)
	a.replicas = uint8(n)
	return a, f
}

// smallNumber reads the first of the headers that is there, as a number from 0 to 255; 0 when none is.
func smallNumber(h *http1.Header, names ...string) (int, *failure) {
	for _, name := range names {
		v := h.Bytes(name)
		if v == nil {
			continue
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(v)), 10, 8)
		if err != nil {
			return 0, failf(http.StatusBadRequest, "%s is not a number from 0 to 255: %s", name, quoteSome(v))
		}
		return int(n), nil
	}
	return 0, nil
}

// typeBySuffix goes by the table of this package first, so that the answer is the same on every machine.
func typeBySuffix(name string) string {
	ext := strings.ToLower(path.Ext(name))
	if t, ok := suffixTypes[ext]; ok {
		return t
	}
	if t := mime.TypeByExtension(ext); t != "" && len(t) <= store.MaxContentType {
		return t
	}
	return defaultContentType
}

var suffixTypes = map[string]string{
	".avif": "image/avif", ".bmp": "image/bmp", ".css": "text/css; charset=utf-8", ".csv": "text/csv; charset=utf-8",
	".flv": "video/x-flv", ".gif": "image/gif", ".gz": "application/gzip", ".heic": "image/heic",
	".htm": "text/html; charset=utf-8", ".html": "text/html; charset=utf-8", ".ico": "image/vnd.microsoft.icon",
	".jpeg": "image/jpeg", ".jpg": "image/jpeg", ".js": "text/javascript; charset=utf-8", ".json": "application/json",
	".m4a": "audio/mp4", ".md": "text/markdown; charset=utf-8", ".mov": "video/quicktime", ".mp3": "audio/mpeg",
	".mp4": "video/mp4", ".ogg": "audio/ogg", ".pdf": "application/pdf", ".png": "image/png", ".svg": "image/svg+xml",
	".tar": "application/x-tar", ".tif": "image/tiff", ".tiff": "image/tiff", ".txt": "text/plain; charset=utf-8",
	".wasm": "application/wasm", ".wav": "audio/wav", ".webm": "video/webm", ".webp": "image/webp",
	".woff": "font/woff", ".woff2": "font/woff2", ".xml": "text/xml; charset=utf-8", ".zip": "application/zip",
	".zst": "application/zstd",
}
