package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// device is a disk in memory.
type device []byte

func (d device) ReadAt(p []byte, at int64) (int, error)  { return copy(p, d[at:]), nil }
func (d device) WriteAt(p []byte, at int64) (int, error) { return copy(d[at:], p), nil }

// made returns the start of a file system of some groups, with a right checksum.
func made(groups uint32) device {
	d := make(device, Offset+Size)
	block := d[Offset:]
	binary.LittleEndian.PutUint16(block[magicAt:], magic)
	for at, value := range map[int]uint32{0x4: groups * 32768, 0x18: 2, 0x20: 32768, 0x64: metadataChecksum} {
		binary.LittleEndian.PutUint32(block[at:], value)
	}
	binary.LittleEndian.PutUint32(block[checksumAt:], sum(block))
	return d
}

func TestTorn(t *testing.T) {
	for groups, want := range map[uint32]Tear{1: {}, 2: {Backup: 32768, BlockSize: 4096}} {
		d := made(groups)
		if tear := Torn(d[Offset:]); tear != nil {
			t.Errorf("%d groups: whole, and %+v", groups, tear)
		}
		d[Offset+0x30] ^= 1
		if tear := Torn(d[Offset:]); tear == nil || *tear != want {
			t.Errorf("%d groups: %+v", groups, tear)
		}
		before := bytes.Clone(d)
		if err := Join(d); err != nil || Torn(d[Offset:]) != nil || !bytes.Equal(d[:Offset+checksumAt], before[:Offset+checksumAt]) {
			t.Errorf("%d groups: joined: %v", groups, err)
		}
	}
	without := made(2)
	binary.LittleEndian.PutUint32(without[Offset+0x64:], 0)
	without[Offset+0x30] ^= 1
	if tear := Torn(without[Offset:]); tear != nil {
		t.Errorf("without checksums: %+v", tear)
	}
	if err := Join(make(device, Offset+Size)); err == nil {
		t.Error("joined what is not of ext4")
	}
}

func TestRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "device")
	for what, tc := range map[string]struct {
		change func(block []byte)
		want   Superblock
		err    error
	}{
		"whole":      {func([]byte) {}, Superblock{Size: 2 * 32768 * 4096, BlockSize: 4096}, nil},
		"has errors": {func(b []byte) { b[0x3a] = 3 }, Superblock{Size: 2 * 32768 * 4096, BlockSize: 4096, Errors: true}, nil},
		"16 TiB and more": {func(b []byte) {
			binary.LittleEndian.PutUint32(b[0x60:], incompat64Bit)
			binary.LittleEndian.PutUint32(b[0x150:], 1)
		}, Superblock{Size: (1<<32 + 2*32768) * 4096, BlockSize: 4096}, nil},
		"without 64bit there is no upper half": {func(b []byte) {
			binary.LittleEndian.PutUint32(b[0x150:], 1)
		}, Superblock{Size: 2 * 32768 * 4096, BlockSize: 4096}, nil},
		"blocks of 64 KiB":  {func(b []byte) { b[0x18] = 6 }, Superblock{Size: 2 * 32768 * 64 << 10, BlockSize: 64 << 10}, nil},
		"blocks of 128 KiB": {func(b []byte) { b[0x18] = 7 }, Superblock{}, ErrNone},
		"no magic number":   {func(b []byte) { b[magicAt] = 0 }, Superblock{}, ErrNone},
	} {
		d := made(2)
		tc.change(d[Offset:])
		binary.LittleEndian.PutUint32(d[Offset+checksumAt:], sum(d[Offset:]))
		if err := os.WriteFile(name, d, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Read(name); s != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s: %+v, %v", what, s, err)
		}
	}
	if err := os.Truncate(name, Offset+Size-1); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(name); !errors.Is(err, ErrNone) {
		t.Errorf("too short: %v", err)
	}
}

func FuzzTorn(f *testing.F) {
	f.Add([]byte(made(2)[Offset:]))
	f.Fuzz(func(t *testing.T, superblock []byte) {
		if tear := Torn(superblock); tear != nil && tear.Backup != 0 && (tear.BlockSize < 1024 || tear.BlockSize > 64<<10) {
			t.Errorf("%+v", tear)
		}
	})
}
