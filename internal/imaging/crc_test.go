package imaging

import (
	"encoding/binary"
	"hash/crc32"
)

// fixCRC makes the checksum of a PNG's first chunk right again.
func fixCRC(b []byte) {
	binary.BigEndian.PutUint32(b[29:], crc32.ChecksumIEEE(b[12:29]))
}
