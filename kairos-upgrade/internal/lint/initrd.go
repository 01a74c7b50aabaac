package lint

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Bounds of an initrd, which is untrusted: an archive may claim anything.
const (
	maxInitrd      = 4 << 30 // bytes, uncompressed
	maxInitrdNames = 1 << 20
	maxName        = 4096
)

// errCompression says that an initrd is compressed in a way that is not read here.
var errCompression = errors.New("compressed in an unknown format")

// cpio headers: Documentation/driver-api/early-userspace/buffer-format.rst.
const cpioHeader = 110

// initrdNames calls found with the name of each file in an initrd: cpio
// archives one after the other, each compressed or not, with zeros between.
func initrdNames(r io.Reader, found func(name string)) error {
	return archives(r, true, found)
}

// archives is initrdNames; nothing that is compressed holds compressed archives.
func archives(r io.Reader, mayDecompress bool, found func(name string)) error {
	in := bufio.NewReaderSize(io.LimitReader(r, maxInitrd), 64<<10)
	names := 0
	for {
		magic, err := in.Peek(6)
		switch {
		case len(magic) == 0 && err == io.EOF:
			return nil
		case len(magic) == 0:
			return err
		case magic[0] == 0:
			_, _ = in.Discard(1)
			continue
		case bytes.HasPrefix(magic, []byte("070701")), bytes.HasPrefix(magic, []byte("070702")):
			if err := cpioNames(in, &names, found); err != nil {
				return err
			}
			continue
		}
		if !mayDecompress {
			return fmt.Errorf("%w: twice", errCompression)
		}
		plain, err := decompress(magic, in)
		if err != nil {
			return err
		}
		// What is compressed is the last one: decompressors read ahead.
		return archives(plain, false, found)
	}
}

func decompress(magic []byte, in io.Reader) (io.Reader, error) {
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(in)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z'}):
		return xz.ReaderConfig{DictCap: 64 << 20}.NewReader(in)
	case bytes.HasPrefix(magic, []byte("BZh")):
		return bzip2.NewReader(in), nil
	}
	for _, other := range [][]byte{{0x02, 0x21, 0x4c, 0x18}, {0x5d, 0, 0}, {0x89, 'L', 'Z', 'O'}} { // the kernel knows these, too
		if bytes.HasPrefix(magic, other) {
			return nil, fmt.Errorf("%w: it begins with %x", errCompression, magic)
		}
	}
	return nil, fmt.Errorf("it begins with %x, which no kernel knows", magic)
}

// cpioNames reads one archive, to its trailer.
func cpioNames(in *bufio.Reader, names *int, found func(string)) error {
	for {
		var header [cpioHeader]byte
		if _, err := io.ReadFull(in, header[:]); err != nil {
			return fmt.Errorf("cpio archive: %w", err)
		}
		if !bytes.HasPrefix(header[:], []byte("07070")) {
			return errors.New("cpio archive: no header where one must be")
		}
		size, err := field(header[:], 6)
		if err != nil {
			return err
		}
		length, err := field(header[:], 11)
		if err != nil {
			return err
		}
		if length == 0 || length > maxName {
			return fmt.Errorf("cpio archive: a name of %d bytes", length)
		}
		name := make([]byte, length)
		if _, err := io.ReadFull(in, name); err != nil {
			return fmt.Errorf("cpio archive: %w", err)
		}
		if *names++; *names > maxInitrdNames {
			return fmt.Errorf("cpio archive: more than %d names", maxInitrdNames)
		}
		if err := skip(in, pad(cpioHeader+length)); err != nil {
			return err
		}
		text := strings.Trim(strings.TrimPrefix(string(bytes.TrimRight(name, "\x00")), "./"), "/")
		if text == "TRAILER!!!" {
			return nil
		}
		found(text)
		if err := skip(in, size+pad(size)); err != nil {
			return err
		}
	}
}

// field returns the nth number of a header.
func field(header []byte, n int) (int64, error) {
	v, err := strconv.ParseUint(string(header[6+8*n:14+8*n]), 16, 32)
	if err != nil {
		return 0, errors.New("cpio archive: a header without numbers")
	}
	return int64(v), nil
}

// pad returns how many bytes are missing to a multiple of 4.
func pad(n int64) int64 { return (4 - n%4) % 4 }

func skip(in *bufio.Reader, n int64) error {
	if copied, err := io.CopyN(io.Discard, in, n); err != nil {
		return fmt.Errorf("cpio archive: ends %d bytes early", n-copied)
	}
	return nil
}

// ukiInitrd returns the initrd in a unified kernel image.
func ukiInitrd(uki io.ReaderAt) (io.Reader, error) {
	f, err := pe.NewFile(uki)
	if err != nil {
		return nil, fmt.Errorf("unified kernel image: %w", err)
	}
	section := f.Section(".initrd")
	if section == nil {
		return nil, errors.New("unified kernel image: it has no section .initrd")
	}
	return section.Open(), nil
}
