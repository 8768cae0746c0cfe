package memcached

import "slices"

// memcached's arithmetic of sizes, in which statistics are given, the limit of an item is compared, and items are classed. What an item
// takes here is less.
const (
	itemHeader = 48
	itemCAS    = 8
	pageSize   = 1 << 20
	maxClasses = 63
)

// itemTotal is an item's size as memcached has it: header, CAS, key with a NUL, flags unless they are 0, value with CRLF.
func (o *Options) itemTotal(keyLen, valueLen int, flags bool) int {
	n := itemHeader + keyLen + 1 + valueLen + 2
	if flags {
		n += 4
	}
	if !o.NoCAS {
		n += itemCAS
	}
	return n
}

// classSizes are the upper bounds of the slab classes that memcached makes for a growth factor and a least size. Class 1 is the first.
func classSizes(factor float64, least, chunkMax int) (sizes []uint32) {
	size := itemHeader + least
	for len(sizes) < maxClasses-1 && float64(size) <= float64(chunkMax)/factor {
		size = (size + 7) &^ 7
		sizes = append(sizes, uint32(size))
		size = int(float64(size) * factor)
	}
	return append(slices.Clip(sizes), uint32(chunkMax))
}
