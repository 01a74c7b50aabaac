// Package fat reads FAT32 file systems without mounting them: directories, long names, and which sectors
// of the device a file lies in (Microsoft, "FAT: General Overview of On-Disk Format", 1.03). mtools is
// held against it in a test; it would have to copy every kernel again for each power cut.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode/utf16"
)

// ErrDamaged says that the file system is not as it should be.
var ErrDamaged = errors.New("damaged FAT file system")

const (
	maxDirectory = 2 << 20 // bytes; the specification's own limit
	maxTable     = 256 << 20
	endOfChain   = 0x0ffffff8
	linkMask     = 0x0fffffff
	entrySize    = 32

	attrVolume = 0x08
	attrDir    = 0x10
	attrLong   = 0x0f
)

// FS is a file system.
type FS struct {
	device  io.ReaderAt
	cluster int64 // bytes
	data    int64 // where cluster 2 begins, in bytes
	root    uint32
	table   []byte // the first copy
}

// File is a file or a directory.
type File struct {
	Name   string // the long name where there is one
	Dir    bool
	Size   int64 // bytes; 0 for a directory
	Chain  []uint32
	Offset int64 // of its entry on the device
	fs     *FS
	err    error // why it can't be read
}

// Open opens the file system on a device.
func Open(device io.ReaderAt) (*FS, error) {
	boot := make([]byte, 512)
	if _, err := device.ReadAt(boot, 0); err != nil {
		return nil, fmt.Errorf("read the boot sector: %w", err)
	}
	le := binary.LittleEndian
	sector, perCluster := int64(le.Uint16(boot[11:])), int64(boot[13])
	reserved, copies, length := int64(le.Uint16(boot[14:])), int64(boot[16]), int64(le.Uint32(boot[36:]))
	switch {
	case le.Uint16(boot[510:]) != 0xaa55:
		return nil, fmt.Errorf("%w: no boot sector", ErrDamaged)
	case le.Uint16(boot[22:]) != 0 || le.Uint16(boot[17:]) != 0:
		return nil, errors.New("fat: not FAT32")
	case sector < 512 || sector > 4096 || sector&(sector-1) != 0 || perCluster == 0 || copies == 0 || length == 0 || length*sector > maxTable:
		return nil, fmt.Errorf("%w: impossible sizes in the boot sector", ErrDamaged)
	}
	f := &FS{device: device, cluster: sector * perCluster, data: (reserved + copies*length) * sector, root: le.Uint32(boot[44:])}
	f.table = make([]byte, length*sector)
	if _, err := device.ReadAt(f.table, reserved*sector); err != nil {
		return nil, fmt.Errorf("read the allocation table: %w", err)
	}
	return f, nil
}

// chain follows the links from a cluster on, to at most limit bytes.
func (f *FS) chain(first uint32, limit int64) (chain []uint32, err error) {
	for c := first; c < endOfChain; c = binary.LittleEndian.Uint32(f.table[4*c:]) & linkMask {
		if c < 2 || 4*int64(c)+4 > int64(len(f.table)) || int64(len(chain))*f.cluster >= limit {
			return nil, fmt.Errorf("%w: a chain of clusters from %d leads to %d", ErrDamaged, first, c)
		}
		chain = append(chain, c)
	}
	return chain, nil
}

// Lookup returns the file at a path from the root, in whatever case. One that does not exist is
// fs.ErrNotExist.
func (f *FS) Lookup(name string) (*File, error) {
	at, err := f.directory(f.root)
	if err != nil {
		return nil, err
	}
	for part := range strings.SplitSeq(path.Clean(name), "/") {
		if part == "." || part == "" {
			continue
		}
		files, err := f.ReadDir(at)
		if err != nil {
			return nil, fmt.Errorf("look up %s: %w", name, err)
		}
		at = nil
		for _, file := range files {
			if strings.EqualFold(file.Name, part) {
				at = file
				break
			}
		}
		if at == nil {
			return nil, &fs.PathError{Op: "look up", Path: name, Err: fs.ErrNotExist}
		}
	}
	return at, nil
}

func (f *FS) directory(first uint32) (*File, error) {
	chain, err := f.chain(first, maxDirectory)
	return &File{Dir: true, Chain: chain, fs: f}, err
}

// ReadDir returns what is in a directory.
func (f *FS) ReadDir(dir *File) (files []*File, err error) {
	if !dir.Dir {
		return nil, errors.New("not a directory")
	}
	content := make([]byte, int64(len(dir.Chain))*f.cluster)
	if err := dir.read(content); err != nil {
		return nil, err
	}
	var long longName
	for at := int64(0); at < int64(len(content)); at += entrySize {
		e := content[at:][:entrySize]
		switch {
		case e[0] == 0:
			return files, nil
		case e[0] == 0xe5:
			long = longName{}
			continue
		case e[11]&0x3f == attrLong:
			long.add(e)
			continue
		case e[11]&attrVolume != 0 || e[0] == '.':
			long = longName{}
			continue
		}
		file := f.file(e)
		if name, ok := long.of(e); ok {
			file.Name = name
		}
		if file.Name == "" || file.Name == ".." || strings.ContainsAny(file.Name, "/\x00") {
			return nil, fmt.Errorf("%w: a file called %q", ErrDamaged, file.Name)
		}
		file.Offset = f.offset(dir.Chain[at/f.cluster]) + at%f.cluster
		files, long = append(files, file), longName{}
	}
	return files, nil
}

// file reads an entry of a directory. What is wrong with it keeps nobody from reading the others.
func (f *FS) file(e []byte) *File {
	le := binary.LittleEndian
	first := uint32(le.Uint16(e[26:])) | uint32(le.Uint16(e[20:]))<<16
	file := &File{Name: shortName(e), Dir: e[11]&attrDir != 0, Size: int64(le.Uint32(e[28:])), fs: f}
	limit := int64(1 << 32)
	if file.Dir {
		file.Size, limit = 0, maxDirectory
	}
	if first != 0 || file.Dir {
		file.Chain, file.err = f.chain(first, limit)
	}
	if file.err == nil && int64(len(file.Chain))*f.cluster < file.Size {
		file.err = fmt.Errorf("%w: %d bytes in %d clusters", ErrDamaged, file.Size, len(file.Chain))
	}
	return file
}

func (f *FS) offset(cluster uint32) int64 { return f.data + int64(cluster-2)*f.cluster }

// read reads the file's first bytes.
func (file *File) read(p []byte) error {
	if file.err != nil {
		return fmt.Errorf("%s: %w", file.Name, file.err)
	}
	f := file.fs
	for i := 0; len(p) > 0; {
		run := 1 // clusters that follow each other on the device
		for i+run < len(file.Chain) && file.Chain[i+run] == file.Chain[i]+uint32(run) {
			run++
		}
		n := min(int64(len(p)), int64(run)*f.cluster)
		if _, err := f.device.ReadAt(p[:n], f.offset(file.Chain[i])); err != nil {
			return err
		}
		p, i = p[n:], i+run
	}
	return nil
}

// Content reads the file whole.
func (file *File) Content() ([]byte, error) {
	if file.err != nil {
		return nil, fmt.Errorf("%s: %w", file.Name, file.err)
	}
	p := make([]byte, file.Size)
	return p, file.read(p)
}

// Blocks calls visit for each unit of size bytes of the device that the file's content touches.
func (file *File) Blocks(size int64, visit func(block int64)) {
	last := int64(-1)
	for _, c := range file.Chain {
		at := file.fs.offset(c)
		for block := at / size; block <= (at+file.fs.cluster-1)/size; block++ {
			if block != last {
				visit(block)
			}
			last = block
		}
	}
}

// shortName puts together the name of eight and three characters, in lower case where the entry says so.
func shortName(e []byte) string {
	base, ext := strings.TrimRight(string(e[:8]), " "), strings.TrimRight(string(e[8:11]), " ")
	if e[12]&0x08 != 0 {
		base = strings.ToLower(base)
	}
	if e[12]&0x10 != 0 {
		ext = strings.ToLower(ext)
	}
	if ext == "" {
		return base
	}
	return base + "." + ext
}

// longName is what is known of a long name: its entries come last part first, before the short one.
type longName struct {
	units []uint16
	next  byte // the number that the next entry must have
	sum   byte
}

func (l *longName) add(e []byte) {
	number := e[0] & 0x3f
	if e[0]&0x40 != 0 {
		*l = longName{next: number, sum: e[13]}
	}
	if number == 0 || number != l.next || e[13] != l.sum {
		*l = longName{}
		return
	}
	var units []uint16
	for _, part := range [][]byte{e[1:11], e[14:26], e[28:32]} {
		for i := 0; i < len(part); i += 2 {
			units = append(units, binary.LittleEndian.Uint16(part[i:]))
		}
	}
	l.units, l.next = append(units, l.units...), number-1
}

// of returns the long name of a short entry, if it is that entry's.
func (l *longName) of(e []byte) (string, bool) {
	var sum byte
	for _, c := range e[:11] {
		sum = sum>>1 | sum<<7
		sum += c
	}
	if len(l.units) == 0 || l.next != 0 || sum != l.sum {
		return "", false
	}
	for i, u := range l.units {
		if u == 0 {
			return string(utf16.Decode(l.units[:i])), true
		}
	}
	return string(utf16.Decode(l.units)), true
}
