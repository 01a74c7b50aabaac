package composefs

import (
	"math"

	"golang.org/x/sys/unix"
)

// layOut gives every inode its place.
func (p *image) layOut() {
	pos := uint64(inodeStart)
	for i := range p.inodes {
		n := &p.inodes[i]
		p.measure(i)
		n.compact = p.fitsCompact(n)
		n.xattr = uint32(xattrArea(p.xattrs(i)))

		start := roundUp(pos, slotSize)
		start += n.placeTail(start)
		n.pad = uint16(start - pos)
		n.nid = uint32(start / slotSize)
		p.dataBlocks += uint64(n.blocks)
		pos = start + n.size() + uint64(n.xattr) + uint64(n.tail)
	}
	p.inodesEnd = roundUp(pos, slotSize)
	p.dataStart = roundUp(p.inodesEnd+p.shared.size, blockSize)
}

// measure splits the data of an inode into whole blocks and a tail.
func (p *image) measure(i int) {
	n := &p.inodes[i]
	switch {
	case n.node.IsDir():
		n.blocks, n.tail = p.measureDir(i)
	case n.node.HasObject():
		_, chunks := chunking(n.node.Size)
		n.tail = uint16(4 * chunks)
	default:
		n.tail = uint16(len(n.node.Content))
	}
}

// measureDir fills one block after the other with whole entries. What remains
// is a tail if it takes at most half a block.
func (p *image) measureDir(i int) (blocks uint32, tail uint16) {
	used := 0
	for _, e := range p.names(i) {
		size := direntSize + len(e.name)
		if used+size > blockSize {
			blocks++
			used = 0
		}
		used += size
	}
	if used > blockSize/2 {
		return blocks + 1, 0
	}
	return blocks, uint16(used)
}

// dataSize is the length of an inode's data as it is written.
func (n *inode) dataSize() uint64 {
	switch n.node.Type() {
	case unix.S_IFDIR:
		return uint64(n.blocks)*blockSize + uint64(n.tail)
	case unix.S_IFREG:
		return uint64(n.node.Size)
	case unix.S_IFLNK:
		return uint64(len(n.node.Content))
	}
	return 0
}

func (p *image) fitsCompact(n *inode) bool {
	return n.node.Mtime == p.minMtime && n.dataSize() <= math.MaxUint32 &&
		max(n.nlink, n.node.UID, n.node.GID) <= math.MaxUint16
}

// placeTail returns how many bytes to leave free before an inode at start, a
// multiple of slotSize, so that its tail lies within one block. The target of a
// long symbolic link becomes a block of its own.
func (n *inode) placeTail(start uint64) (pad uint64) {
	fixed := n.size() + uint64(n.xattr)
	tail := uint64(n.tail)
	if !n.node.IsSymlink() {
		if room := blockSize - (start+fixed)%blockSize; tail > room {
			// The tail starts up to 28 bytes behind the start of the next
			// block then, and is never so long that it would not fit there.
			return roundUp(room, slotSize)
		}
		return 0
	}
	// The kernel wants a short target in one block with its inode.
	end := start + fixed + tail - 1
	if fixed+tail >= blockSize {
		n.blocks, n.tail = 1, 0
	}
	if start/blockSize != end/blockSize {
		return roundUp(start, blockSize) - start
	}
	return 0
}
