package dispatcher

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"hash"
	"net/http"
	"strings"

	"wheelhouse/internal/http1"
)

// digester computes an upload's MD5, which becomes its ETag, and whatever else its headers want to see checked.
type digester struct {
	md5  hash.Hash
	want []wanted
}

// wanted is a digest that the client announced.
type wanted struct {
	header string
	hash   hash.Hash
	sum    []byte
}

// newDigester reads Content-MD5 (RFC 1864), Digest (RFC 3230) and Repr-Digest (RFC 9530). Algorithms that are not known
// are passed over, as those RFCs say.
func newDigester(h *http1.Header) (*digester, *failure) {
	d := &digester{md5: md5.New()}
	if v := h.Get("Content-MD5"); v != "" {
		if f := d.expect("Content-MD5", d.md5, v); f != nil {
			return nil, f
		}
	}
	for _, header := range []string{"Digest", "Repr-Digest"} {
		if !h.Has(header) {
			continue
		}
		for item := range strings.SplitSeq(h.Joined(header), ",") {
			algorithm, value, ok := strings.Cut(strings.TrimSpace(item), "=")
			if !ok {
				return nil, failf(http.StatusBadRequest, "%s is not of the form algorithm=value: %s", header, quoteSome([]byte(item)))
			}
			if header == "Repr-Digest" { // a byte sequence of RFC 8941 stands between colons
				if len(value) < 2 || value[0] != ':' || value[len(value)-1] != ':' {
					return nil, failf(http.StatusBadRequest, "%s has a value that is not between colons: %s", header, quoteSome([]byte(value)))
				}
				value = value[1 : len(value)-1]
			}
			hash := d.algorithm(strings.ToLower(strings.TrimSpace(algorithm)))
			if hash == nil {
				continue
			}
			if f := d.expect(header, hash, value); f != nil {
				return nil, f
			}
		}
	}
	return d, nil
}

func (d *digester) algorithm(name string) hash.Hash {
	switch name {
	case "md5":
		return d.md5
	case "sha":
		return sha1.New()
	case "sha-256":
		return sha256.New()
	case "sha-512":
		return sha512.New()
	}
	return nil
}

func (d *digester) expect(header string, h hash.Hash, value string) *failure {
	sum, err := base64.StdEncoding.DecodeString(value)
	if err != nil || len(sum) != h.Size() {
		return failf(http.StatusBadRequest, "%s is not %d bytes in base64: %s", header, h.Size(), quoteSome([]byte(value)))
	}
	d.want = append(d.want, wanted{header, h, sum})
	return nil
}

// Write takes in a part of the body. It never fails.
func (d *digester) Write(p []byte) (int, error) {
	d.md5.Write(p)
	for _, w := range d.want {
		if w.hash != d.md5 {
			w.hash.Write(p)
		}
	}
	return len(p), nil
}

// sum returns the ETag, or the failure to answer with when the body is not what the client announced.
func (d *digester) sum() (etag [16]byte, f *failure) {
	d.md5.Sum(etag[:0])
	for _, w := range d.want {
		if got := w.hash.Sum(nil); !bytes.Equal(got, w.sum) {
			return etag, failf(http.StatusBadRequest, "the body does not match its %s: its digest is %s, not %s; nothing was stored",
				w.header, base64.StdEncoding.EncodeToString(got), base64.StdEncoding.EncodeToString(w.sum))
		}
	}
	return etag, nil
}
