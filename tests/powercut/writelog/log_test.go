package writelog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/workspace"
)

// logged is a request of a log that is made up.
type logged struct {
	sector, sectors, flags uint64
	data                   string // repeated to fill the sectors
}

// encode writes a log as the kernel's documentation has it.
func encode(sector uint32, entries ...logged) []byte {
	le := binary.LittleEndian
	super := make([]byte, sector)
	le.PutUint64(super, 0x6a736677736872)
	le.PutUint64(super[8:], 1)
	le.PutUint64(super[16:], uint64(len(entries)))
	le.PutUint32(super[24:], sector)
	out := super
	for _, e := range entries {
		header := make([]byte, sector)
		le.PutUint64(header, e.sector)
		le.PutUint64(header[8:], e.sectors)
		le.PutUint64(header[16:], e.flags)
		out = append(out, header...)
		if e.flags&Discard == 0 && e.sectors > 0 {
			out = append(out, bytes.Repeat([]byte(e.data), int(e.sectors)*int(sector)/len(e.data))...)
		}
	}
	return out
}

func read(t *testing.T, data []byte) *Log {
	t.Helper()
	l, err := Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestRead(t *testing.T) {
	l := read(t, encode(4096, logged{1, 2, 0, "ab"}, logged{9, 3, Discard, ""}, logged{0, 0, Flush, ""}, logged{4, 1, FUA, "x"}))
	if l.Len() != 4 {
		t.Fatalf("%d entries", l.Len())
	}
	first, last := l.Entry(0), l.Entry(3)
	data, err := l.Data(first)
	if err != nil || first.Sector != 8 || first.Sectors != 16 || string(data) != strings.Repeat("ab", 4096) {
		t.Errorf("the first is %+v, %v", first, err)
	}
	if data, err := l.Data(last); err != nil || !last.Is(FUA) || string(data) != strings.Repeat("x", 4096) {
		t.Errorf("the last is %+v, %v", last, err)
	}
	if data, err := l.Data(l.Entry(1)); err != nil || data != nil {
		t.Errorf("a discard writes %d bytes, %v", len(data), err)
	}
}

func TestReadDamaged(t *testing.T) {
	whole := encode(512, logged{1, 1, 0, "a"}, logged{2, 1, 0, "b"})
	for name, damage := range map[string]func([]byte) []byte{
		"magic":         func(b []byte) []byte { b[0]++; return b },
		"version":       func(b []byte) []byte { b[8]++; return b },
		"sector size":   func(b []byte) []byte { b[24] = 3; return b },
		"count":         func(b []byte) []byte { b[23] = 0x7f; return b },
		"flags":         func(b []byte) []byte { b[512+17] = 1; return b },
		"length":        func(b []byte) []byte { b[512+8+7] = 0xff; return b },
		"place":         func(b []byte) []byte { b[512+7] = 0xff; return b },
		"cut off":       func(b []byte) []byte { return b[:len(b)-1] },
		"count too big": func(b []byte) []byte { b[16] = 4; return b },
	} {
		data := damage(bytes.Clone(whole))
		if l, err := Read(bytes.NewReader(data), int64(len(data))); err == nil {
			t.Errorf("%s: read as %d entries", name, l.Len())
		} else if !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// QEMU writes a log of what qemu-io asks it for.
func TestReadQEMU(t *testing.T) {
	if _, err := os.Stat(workspace.Cache("tools", "usr/bin/qemu-io")); err != nil {
		t.Skip("no tools root")
	}
	dir := t.TempDir()
	disk, log := filepath.Join(dir, "disk"), filepath.Join(dir, "log")
	for _, file := range []string{disk, log} {
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(disk, 1<<20); err != nil {
		t.Fatal(err)
	}
	_, err := workspace.RunTool(t.Context(), "qemu-io", "-t", "writeback", "-c", "write -P 0x61 4096 8192", "-c", "flush", "-c", "discard 65536 4096", "-c", "write -P 0x62 512 512", "-c", "flush", "--image-opts",
		"driver=blklogwrites,discard=unmap,file.driver=file,file.filename="+disk+",log.driver=file,log.filename="+log)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var got []Entry
	for i := range l.Len() {
		e := l.Entry(i)
		e.offset = 0
		got = append(got, e)
	}
	want := []Entry{{Sector: 8, Sectors: 16}, {Flags: Flush}, {Sector: 128, Sectors: 8, Flags: Discard}, {Sector: 1, Sectors: 1}, {Flags: Flush}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if data, err := l.Data(l.Entry(0)); err != nil || string(data) != strings.Repeat("a", 8192) {
		t.Errorf("the first write has %q…, %v", data[:16], err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(encode(512, logged{1, 1, 0, "a"}, logged{0, 0, Flush, ""}))
	f.Add(encode(512, logged{1, 1 << 50, Discard, ""}, logged{0, 0, Mark, ""}))
	f.Add(encode(4096, logged{7, 2, FUA, "b"}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		for i := range l.Len() {
			e := l.Entry(i)
			content, err := l.Data(e)
			if err != nil {
				t.Errorf("entry %d, %+v: %v", i, e, err)
			}
			if content != nil && int64(len(content)) != e.Bytes() {
				t.Errorf("entry %d has %d bytes, not %d", i, len(content), e.Bytes())
			}
		}
		for _, c := range l.Cuts(0, l.Len(), 20, 1) {
			check(t, l, c)
		}
	})
}
