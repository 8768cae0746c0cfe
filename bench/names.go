package main

// splitmix is a bijection of 64-bit numbers that looks like chance (Steele, Lea, Flood 2014).
func splitmix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// photoName appends the name of photo i, 41 bytes such as photos/2026/11/07/IMG0123456789abcdef.jpg: a few directories,
// then chance.
func photoName(b []byte, i int64) []byte {
	const digits = "0123456789abcdef"
	x := splitmix(uint64(i))
	day := 1 + x%28
	b = append(b, "photos/2026/11/"...)
	b = append(b, byte('0'+day/10), byte('0'+day%10))
	b = append(b, "/IMG"...)
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[x>>shift&15])
	}
	return append(b, ".jpg"...)
}
