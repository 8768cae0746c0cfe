package memcache

import "time"

// MaxKey is the greatest length of a key, in bytes (protocol.txt, "Keys").
const MaxKey = 250

// Item is what a cache keeps under a key.
type Item struct {
	Key   string // 1 to 250 bytes, no spaces, no control characters
	Value []byte
	// Flags are the application's. Those of a [Codec] are not seen here.
	Flags uint32
	// Expiration is 0 for never, 1 to 2592000 (30 days) for seconds from now, more for a Unix time; negative is at once. Servers do not
	// tell it: it is 0 in what is read.
	Expiration int32
	// CAS is the item's version: what a read returns, and CompareAndSwap compares. A successful store sets it where the server speaks
	// the meta protocol, and makes it 0 elsewhere.
	CAS uint64
}

// Expire returns the Expiration for a duration: seconds, rounded up, and a Unix time beyond 30 days. Zero and less is at once, not never.
// What lies beyond the year 2038 is then.
func Expire(d time.Duration) int32 {
	const month = 30 * 24 * time.Hour
	switch {
	case d <= 0:
		return -1
	case d <= month:
		return int32((d + time.Second - 1) / time.Second)
	}
	return int32(min(time.Now().Add(d).Unix(), 1<<31-1))
}

// checkKey returns ErrMalformedKey for a key that would break the protocol.
func checkKey(key string) error {
	if len(key) == 0 || len(key) > MaxKey {
		return ErrMalformedKey
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] == 0x7f {
			return ErrMalformedKey
		}
	}
	return nil
}
