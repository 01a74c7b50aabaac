package composefs

import (
	"encoding/binary"
	"math/bits"
)

// xxh32 is the 32-bit xxHash of s, which EROFS uses for its filter of attribute
// names. Specification: github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
func xxh32(s string, seed uint32) uint32 {
	const (
		prime1 = 0x9e3779b1
		prime2 = 0x85ebca77
		prime3 = 0xc2b2ae3d
		prime4 = 0x27d4eb2f
		prime5 = 0x165667b1
	)
	p := []byte(s)
	h := seed + prime5
	if len(p) >= 16 {
		// Variables, so that the sums wrap around.
		p1, p2 := uint32(prime1), uint32(prime2)
		lanes := [4]uint32{seed + p1 + p2, seed + p2, seed, seed - p1}
		for ; len(p) >= 16; p = p[16:] {
			for i := range lanes {
				in := binary.LittleEndian.Uint32(p[4*i:])
				lanes[i] = bits.RotateLeft32(lanes[i]+in*prime2, 13) * prime1
			}
		}
		h = bits.RotateLeft32(lanes[0], 1) + bits.RotateLeft32(lanes[1], 7) +
			bits.RotateLeft32(lanes[2], 12) + bits.RotateLeft32(lanes[3], 18)
	}
	h += uint32(len(s))
	for ; len(p) >= 4; p = p[4:] {
		h = bits.RotateLeft32(h+binary.LittleEndian.Uint32(p)*prime3, 17) * prime4
	}
	for _, c := range p {
		h = bits.RotateLeft32(h+uint32(c)*prime5, 11) * prime1
	}
	h = (h ^ h>>15) * prime2
	h = (h ^ h>>13) * prime3
	return h ^ h>>16
}
