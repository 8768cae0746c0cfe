package disk

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"wheelhouse/store"
)

// reservedDir is the component below which members lie whose true name cannot be a path.
const reservedDir = ".wheelhouse"

// maxComponent is NAME_MAX of the usual file systems, in bytes.
const maxComponent = 255

// memberPath is the path of an entity in a pack. plain means that it is bucket/name, so that the name needs no record of
// its own: it can be extracted anywhere, and leaves the directory that tar was started in by no means.
func memberPath(id store.ObjectID, bucket, name string) (path string, plain bool) {
	if safeComponent(bucket) && bucket != reservedDir && safeName(name) {
		return bucket + "/" + name, true
	}
	tail := reservedDir + "/" + strconv.FormatUint(uint64(id), 10)
	if bucket == "" {
		return tail, false
	}
	return escapeBucket(bucket) + "/" + tail, false
}

// safeName reports whether name is a relative path that tar extracts below the bucket's directory, under that name.
func safeName(name string) bool {
	if name == reservedDir || strings.HasPrefix(name, reservedDir+"/") {
		return false
	}
	for rest, more := name, true; more; {
		var c string
		c, rest, more = strings.Cut(rest, "/")
		if !safeComponent(c) {
			return false
		}
	}
	return true
}

func safeComponent(c string) bool {
	return c != "" && c != "." && c != ".." && len(c) <= maxComponent && utf8.ValidString(c) &&
		strings.IndexByte(c, '/') < 0 && strings.IndexByte(c, 0) < 0
}

// escapeBucket makes any bucket's name a safe component; what was lost is in a record of the member.
func escapeBucket(bucket string) string {
	var b strings.Builder
	for i := range len(bucket) {
		c := bucket[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte("0123456789ABCDEF"[c>>4])
			b.WriteByte("0123456789ABCDEF"[c&15])
		}
		if b.Len() > maxComponent-3 {
			break
		}
	}
	return b.String()
}

// splitPath undoes a plain memberPath.
func splitPath(path string) (bucket, name string) {
	bucket, name, _ = strings.Cut(path, "/")
	return bucket, name
}
