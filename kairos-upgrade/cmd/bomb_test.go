package cmd

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	digest "github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// header makes a raw ustar header: type, name and size as they come.
func header(kind byte, name, size string) []byte {
	var h [512]byte
	copy(h[:], name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:136], size)
	copy(h[136:], "00000000000\x00")
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	return checksummed(h[:])
}

// pax makes an extended header with exactly these records, for the file that
// follows it.
func pax(records string) []byte {
	data := append(header('x', "pax", fmt.Sprintf("%011o\x00", len(records))), records...)
	return append(data, make([]byte, -len(data)&511)...)
}

func TestHostileStreams(t *testing.T) {
	manyProcesses(t)
	h := newHostile(t)
	end := make([]byte, 1024)
	file := header('0', "a", "00000000000\x00")
	tera := binary.BigEndian.AppendUint64([]byte{0x80, 0, 0, 0}, 1<<40)
	gnuSparse := func() []byte {
		d := header('S', "sparse", "00000000000\x00")
		copy(d[257:], "ustar  \x00")
		copy(d[386:], "00000000000\x0000000000000\x00") // one hole at 0
		copy(d[483:], tera)
		return checksummed(d)
	}()
	for name, stream := range map[string][]byte{
		"1 TB":                   header('0', "a", string(tera)),
		"1 TB, sparse":           gnuSparse,
		"1 TB, sparse PAX":       append(pax("22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n37 GNU.sparse.realsize=1099511627776\n"), append(header('0', "a", "00000001000\x00"), append([]byte("1\n1099511627776\n0\n"), make([]byte, 494)...)...)...),
		"PAX without end":        append(pax("20 path=b"), file...),
		"PAX without length":     append(pax("path=b\n"), file...),
		"PAX of length 0":        append(pax("0 path=b\n"), file...),
		"PAX of huge length":     append(pax("99999999999999999999 path=b\n"), file...),
		"PAX with a NUL":         append(pax("12 path=b\x00c\n"), file...),
		"PAX with a bad number":  append(pax("13 size=none\n"), file...),
		"PAX size of 1 TB":       append(pax("22 size=1099511627776\n"), file...),
		"PAX path outside":       append(pax("23 path=../../../outside\n"), file...),
		"PAX of 1 GiB":           header('x', "pax", "10000000000\x00"),
		"a long name of 1 GiB":   header('L', "long", "10000000000\x00"),
		"bad checksum":           append([]byte("b"), file[1:]...),
		"a file that is missing": header('0', "a", "00000010000\x00"),
		"no archive":             bytes.Repeat([]byte("no archive "), 200),
		"zeros in between":       append(append(bytes.Clone(file), make([]byte, 512)...), header('0', "b", "7777777777x\x00")...),
	} {
		t.Run(name, func(t *testing.T) {
			h.node.t = t
			layer := imagetest.Layer{Tar: append(bytes.Clone(stream), end...), Compression: "zstd"}
			h.stage(t, 1, "oci:"+bootable(t, layer).Layout(t, "bad"))
		})
	}
}

// checksummed sets the checksum of a header.
func checksummed(h []byte) []byte {
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h[:512] {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

// repeated is a gzip stream of head, count times body, and tail: gzip streams
// may be joined (RFC 1952, 2.2), so that bombs of any size are made quickly.
func repeated(t *testing.T, head, body []byte, count int, tail []byte) []byte {
	var out bytes.Buffer
	for i, part := range [][]byte{head, body, tail} {
		var member bytes.Buffer
		w, err := gzip.NewWriterLevel(&member, gzip.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(part)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		n := 1
		if i == 1 {
			n = count
		}
		for range n {
			out.Write(member.Bytes())
		}
	}
	return out.Bytes()
}

// zstdZeros is a zstd frame of count times 128 KiB of zeros, four bytes each,
// with the given window descriptor (RFC 8878, 3.1.1).
func zstdZeros(window byte, count int) []byte {
	const block = 128 << 10
	data := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, window}
	for i := range count {
		head := uint32(block<<3 | 1<<1) // RLE
		if i == count-1 {
			head |= 1
		}
		data = append(data, byte(head), byte(head>>8), byte(head>>16), 0)
	}
	return data
}

// Bombs: a few bytes that become many. The store has little room.
func TestBombs(t *testing.T) {
	manyProcesses(t)
	h := newHostile(t)
	// The stores of bombs are file systems of their own, and so small that
	// nothing outside of limits could hide in them.
	small(t, h.store, "tmpfs", 64<<20)
	for _, dir := range []string{"loader", "kairos"} { // of the store beneath
		if err := os.RemoveAll(filepath.Join(h.esp, dir)); err != nil {
			t.Fatal(err)
		}
	}
	h.want(0, "stage", "oci:"+bootable(t).Layout(t, "good"))
	h.bless(1)
	h.before = files(t, h.store, h.esp)
	gz := imgspecv1.MediaTypeImageLayerGzip
	zs := imgspecv1.MediaTypeImageLayerZstd
	zeros := make([]byte, 1<<20)
	small := bytes.Repeat(header('0', "usr/share/same", "00000000000\x00"), 2000)
	frames := func(tar []byte, window byte, count int) []byte {
		return append(imagetest.Compress(t, tar, "zstd"), zstdZeros(window, count)...)
	}
	for name, c := range map[string]struct {
		status int
		blob   []byte
		kind   string
		says   string
	}{
		// 2 GiB in one file, from 2 MB and from 64 kB.
		"gzip":              {5, repeated(t, header('0', "a", "20000000000\x00"), zeros, 2048, nil), gz, "no space left"},
		"zstd":              {5, frames(header('0', "a", "20000000000\x00"), 0x38, 16384), zs, "no space left"},
		"zstd, huge window": {1, frames(header('0', "a", "20000000000\x00"), 0xff, 16384), zs, "window"},
		// A million and more entries, of the same name.
		"entries": {1, repeated(t, nil, small, 501, make([]byte, 1024)), gz, "entries"},
		// An end of archive, and then 2 GiB that nobody needs; the digest is wrong.
		"behind the end": {1, repeated(t, make([]byte, 1024), zeros, 2048, nil), gz, "digest"},
	} {
		t.Run(name, func(t *testing.T) {
			h.node.t = t
			layer := imagetest.Layer{Tar: c.blob, DiffID: digest.FromString("unknown"), MediaType: c.kind}
			source := "oci:" + bootable(t, layer).Layout(t, "bad")
			if out := h.stage(t, c.status, source, "--force"); !strings.Contains(out, c.says) {
				t.Errorf("it does not say %q:\n%s", c.says, out)
			}
		})
	}
}
