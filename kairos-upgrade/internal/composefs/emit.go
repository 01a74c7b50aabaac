package composefs

import (
	"fmt"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"golang.org/x/sys/unix"
)

// emit writes the image as planned.
func (p *image) emit(o *output) {
	p.emitHeader(o)
	p.emitSuper(o)
	nextBlock := uint32(p.dataStart / blockSize)
	for i := range p.inodes {
		o.room()
		p.emitInode(o, i, nextBlock)
		nextBlock += p.inodes[i].blocks
	}
	o.align(slotSize)
	p.mustBeAt(o, p.inodesEnd)
	for _, x := range p.shared.list {
		o.room()
		emitXattr(o, x)
	}
	o.align(blockSize)
	p.mustBeAt(o, p.dataStart)
	for i := range p.inodes {
		p.emitBlocks(o, i)
	}
	p.mustBeAt(o, p.dataStart+p.dataBlocks*blockSize)
}

// mustBeAt holds the plan against what was written.
func (p *image) mustBeAt(o *output, want uint64) {
	if o.err == nil && o.pos() != want {
		o.err = fmt.Errorf("%d bytes written where %d were planned", o.pos(), want)
	}
}

func (p *image) emitHeader(o *output) {
	o.u32(headerMagic)
	o.u32(headerVersion)
	if p.hasACL {
		o.u32(headerHasACL)
	} else {
		o.u32(0)
	}
	o.u32(p.version)
	o.zeros(superOffset - o.pos())
}

func (p *image) emitSuper(o *output) {
	o.u32(superMagic)
	o.u32(0) // checksum: unused, the digest covers all
	o.u32(superCompatMtime | superCompatXattrName)
	o.u8(blockBits)
	o.u8(0)
	o.u16(uint16(p.inodes[0].nid))
	o.u64(uint64(len(p.inodes)))
	o.u64(uint64(p.minMtime))
	o.u32(0) // nanoseconds
	o.u32(uint32(p.dataStart/blockSize + p.dataBlocks))
	o.u32(0) // block where nids count from
	o.u32(uint32(p.inodesEnd / blockSize))
	o.zeros(inodeStart - o.pos())
}

func (p *image) emitInode(o *output, i int, nextBlock uint32) {
	n := &p.inodes[i]
	o.zeros(uint64(n.pad))
	if n.compact {
		p.emitCompact(o, i, nextBlock)
	} else {
		p.emitExtended(o, i, nextBlock)
	}
	if n.xattr > 0 {
		p.emitXattrs(o, p.xattrs(i))
	}
	if n.tail == 0 {
		return
	}
	switch {
	case n.node.IsDir():
		p.emitDir(o, i, false)
	case n.node.HasObject():
		emitChunks(o, int(n.tail)/4)
	default:
		o.string(n.node.Content)
	}
}

// format is the first field of an inode.
func (n *inode) format() uint16 {
	layout := uint16(layoutPlain)
	switch {
	case n.node.HasObject():
		layout = layoutChunks
	case n.tail > 0:
		layout = layoutInline
	}
	if n.compact {
		return layout << 1
	}
	return layout<<1 | 1
}

// union is the field of an inode that means something else for each type.
func (n *inode) union(nextBlock uint32) uint32 {
	switch {
	case n.blocks > 0:
		return nextBlock
	case n.node.HasObject():
		bits, _ := chunking(n.node.Size)
		return uint32(bits - blockBits)
	case n.node.Type() == unix.S_IFBLK, n.node.Type() == unix.S_IFCHR:
		return n.node.Rdev
	}
	return 0
}

// xattrCount tells the size of the attributes in units of four bytes.
func (n *inode) xattrCount() uint16 {
	if n.xattr == 0 {
		return 0
	}
	return uint16((n.xattr-xattrHeaderSize)/4 + 1)
}

func (p *image) emitCompact(o *output, i int, nextBlock uint32) {
	n := &p.inodes[i]
	o.u16(n.format())
	o.u16(n.xattrCount())
	o.u16(uint16(n.mode()))
	o.u16(uint16(n.nlink))
	o.u32(uint32(n.dataSize()))
	o.u32(0)
	o.u32(n.union(nextBlock))
	o.u32(uint32(i))
	o.u16(uint16(n.node.UID))
	o.u16(uint16(n.node.GID))
	o.u32(0)
}

func (p *image) emitExtended(o *output, i int, nextBlock uint32) {
	n := &p.inodes[i]
	o.u16(n.format())
	o.u16(n.xattrCount())
	o.u16(uint16(n.mode()))
	o.u16(0)
	o.u64(n.dataSize())
	o.u32(n.union(nextBlock))
	o.u32(uint32(i))
	o.u32(n.node.UID)
	o.u32(n.node.GID)
	o.u64(uint64(n.node.Mtime))
	o.u32(0) // nanoseconds
	o.u32(n.nlink)
	o.zeros(16)
}

func (p *image) emitXattrs(o *output, list []xattr) {
	var count uint8
	for _, x := range list {
		if x.shared {
			count++
		}
	}
	o.u32(nameFilter(list))
	o.u8(count)
	o.zeros(7)
	for _, x := range list {
		if x.shared {
			o.u32(uint32((p.inodesEnd%blockSize + uint64(x.offset)) / 4))
		}
	}
	for _, x := range list {
		if !x.shared {
			emitXattr(o, x.Xattr)
		}
	}
}

func emitXattr(o *output, x tree.Xattr) {
	index, rest := splitXattr(x.Name)
	o.u8(uint8(len(rest)))
	o.u8(index)
	o.u16(uint16(len(x.Value)))
	o.string(rest)
	o.string(x.Value)
	o.align(4)
}

// emitBlocks writes the whole blocks of an inode.
func (p *image) emitBlocks(o *output, i int) {
	n := &p.inodes[i]
	if n.blocks == 0 {
		return
	}
	o.room()
	if n.node.IsDir() {
		p.emitDir(o, i, true)
		return
	}
	o.string(n.node.Content)
	o.align(blockSize)
}

func emitChunks(o *output, n int) {
	for range n {
		o.u32(nullChunk)
	}
}

// emitDir writes either the whole blocks of a directory or its tail.
func (p *image) emitDir(o *output, dir int, whole bool) {
	block := p.scratch.block[:0]
	defer func() { p.scratch.block = block[:0] }()
	var done uint32 // blocks seen
	used := 0
	flush := func() {
		if isBlock := done < p.inodes[dir].blocks; isBlock != whole {
			return
		}
		nameoff := direntSize * len(block)
		for _, e := range block {
			o.u64(uint64(e.inode.nid))
			o.u16(uint16(nameoff))
			o.u8(direntType(e.inode.mode()))
			o.u8(0)
			nameoff += len(e.name)
		}
		for _, e := range block {
			o.string(e.name)
		}
		if whole {
			o.align(blockSize)
			o.room()
		}
	}
	for e := range p.entries(dir) {
		size := direntSize + len(e.name)
		if used+size > blockSize {
			flush()
			done++
			block, used = block[:0], 0
		}
		block = append(block, e)
		used += size
	}
	flush()
}

func direntType(mode uint32) uint8 {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return typeRegular
	case unix.S_IFDIR:
		return typeDirectory
	case unix.S_IFCHR:
		return typeCharDevice
	case unix.S_IFBLK:
		return typeBlockDevice
	case unix.S_IFIFO:
		return typeFifo
	case unix.S_IFSOCK:
		return typeSocket
	case unix.S_IFLNK:
		return typeSymlink
	}
	return 0
}
