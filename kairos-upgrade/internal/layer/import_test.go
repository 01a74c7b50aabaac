package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/fsverity"
	"golang.org/x/sys/unix"
)

func TestImportRefuses(t *testing.T) {
	long := strings.Repeat("n", 256)
	deep := strings.Repeat("d/", 2100)
	for name, entries := range map[string][]string{
		"..":                           {"../a"},
		".. within":                    {"a/../../b"},
		".. harmless":                  {"a/../b"},
		"only ..":                      {".."},
		"long name":                    {long},
		"long path":                    {deep + "x"},
		"long target":                  {"a -> " + strings.Repeat("t", 4096)},
		"root as a file":               {"."},
		"parent is a file":             {"a", "a/b"},
		"parent is a loop of links":    {"a -> b", "b -> a", "a/c"},
		"parent is a link to itself":   {"a -> a/a", "a/c"},
		"parent is a link to a file":   {"a -> b", "b", "a/c"},
		"parents are many links":       append(chain(41), "a0/c"),
		"links to long ways":           {"a -> " + strings.Repeat("d/", 2000), strings.Repeat("d/", 2000) + "b -> " + strings.Repeat("e/", 2000), "a/b/c"},
		"long name in a link":          {"a -> " + long, "a/c"},
		"whiteout in a link":           {"a -> .wh.b", "a/c"},
		"parent is a hard link":        {"a", "b => a", "b/c"},
		"parent is a link to below":    {"b => a", "b/c"},
		"parent is a whiteout":         {".wh.a/b"},
		"whiteout below a file":        {"a", "a/.wh.b"},
		"whiteout without a name":      {".wh."},
		"whiteout of .":                {".wh.."},
		"whiteout of ..":               {".wh..."},
		"hard link outside":            {"a => ../../etc/passwd"},
		"hard link to a directory":     {"a/", "b => a"},
		"hard link to an implicit one": {"a/c", "b => a"},
		"hard link to root":            {"a => /"},
		"hard link from root":          {"a", ". => a"},
		"hard link through a loop":     {"a -> a", "b => a/d"},
		"hard link through a file":     {"a", "b => a/d"},
		"hard link to a whiteout":      {".wh.a", "b => .wh.a"},
		"hard link to a hidden file":   {".wh.a", "b => a"},
		"hard link below a hidden dir": {".wh.d", "b => d/a"},
		"hard link to an opaque dir":   {"d/.wh..wh..opq", "b => d/a"},
		"opaque far above":             {".wh..wh..opq", "d/e/", "b => d/e/f"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := build(t, entries...)
			if !errors.Is(err, ErrLayer) {
				t.Errorf("error %v, want ErrLayer", err)
			}
		})
	}
}

// chain is n symbolic links from each to the next: a0, a1 …
func chain(n int) (entries []string) {
	for i := range n {
		entries = append(entries, fmt.Sprintf("a%d -> a%d", i, i+1))
	}
	return append(entries, fmt.Sprintf("a%d/", n))
}

// raw builds archives that archive/tar refuses to write, from ustar headers.
func raw(headers ...func(h *[512]byte)) []byte {
	var buf bytes.Buffer
	for _, edit := range headers {
		var h [512]byte
		copy(h[100:], "0000644\x00")
		copy(h[108:], "0000000\x00")
		copy(h[116:], "0000000\x00")
		copy(h[124:], "00000000000\x00")
		copy(h[136:], "00000000000\x00")
		h[156] = '0'
		copy(h[257:], "ustar\x0000")
		edit(&h)
		copy(h[148:], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		buf.Write(h[:])
	}
	buf.Write(make([]byte, 1024))
	return buf.Bytes()
}

func TestImportRefusesRaw(t *testing.T) {
	name := func(h *[512]byte) { copy(h[:], "a") }
	for what, data := range map[string][]byte{
		"empty name":       raw(func(h *[512]byte) {}),
		"unknown type":     raw(func(h *[512]byte) { name(h); h[156] = 'V' }),
		"socket":           raw(func(h *[512]byte) { name(h); h[156] = 's' }),
		"empty target":     raw(func(h *[512]byte) { name(h); h[156] = '2' }),
		"empty hard link":  raw(func(h *[512]byte) { name(h); h[156] = '1' }),
		"negative uid":     raw(func(h *[512]byte) { name(h); copy(h[108:116], "\xff\xff\xff\xff\xff\xff\xff\xfe") }),
		"uid of nobody":    raw(func(h *[512]byte) { name(h); copy(h[108:116], "\x80\x00\x00\x00\xff\xff\xff\xff") }),
		"gid of 40 bits":   raw(func(h *[512]byte) { name(h); copy(h[116:124], "\x80\x00\x00\x10\x00\x00\x00\x00") }),
		"large major":      raw(func(h *[512]byte) { name(h); h[156] = '3'; copy(h[329:], "0010000\x00") }),
		"large minor":      raw(func(h *[512]byte) { name(h); h[156] = '4'; copy(h[337:], "4000000\x00") }),
		"negative size":    raw(func(h *[512]byte) { name(h); copy(h[124:136], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe") }),
		"broken checksum":  bytes.Replace(raw(name), []byte("a"), []byte("b"), 1),
		"no archive":       []byte(strings.Repeat("no tar archive ", 100)),
		"a single padding": append(raw(name)[:512], append(make([]byte, 512), raw(name)...)...),
	} {
		t.Run(what, func(t *testing.T) {
			l, err := Import(t.Context(), bytes.NewReader(data), Discard, Limits{})
			if !errors.Is(err, ErrLayer) {
				t.Errorf("error %v, want ErrLayer (%v)", err, l)
			}
		})
	}
}

func TestImportTruncated(t *testing.T) {
	whole := imagetest.Tar(t, []tar.Header{entry("a"), entry("b")}, map[string]string{"a": strings.Repeat("x", 3000), "b": "y"})
	// Behind the last byte of the last file only padding is missing, which the
	// diff ID covers; so it does where an archive ends between two entries.
	const secondEntry, lastByte = 512 + 3072, 512 + 3072 + 512 + 1
	for n := 1; n < lastByte; n += 97 {
		if n >= 512+3000 && n <= secondEntry {
			continue
		}
		if _, err := Import(t.Context(), bytes.NewReader(whole[:n]), Discard, Limits{}); err == nil {
			t.Errorf("cut at %d of %d: no error", n, len(whole))
		}
	}
}

func TestImportMetadata(t *testing.T) {
	value := "\x01\x00\x00\x02\x00\x04\x00\x00\xff"
	h := []tar.Header{
		{Name: "pax", Typeflag: tar.TypeReg, Mode: 0o104755, Uid: 3_000_000, Gid: 4_000_000_000, Format: tar.FormatPAX,
			ModTime: time.Unix(-2, 500_000_000), PAXRecords: map[string]string{"SCHILY.xattr.security.capability": value}},
		{Name: "gnu", Typeflag: tar.TypeReg, Mode: 0o1777, Uid: 70_000_000, Format: tar.FormatGNU, ModTime: time.Unix(-1_000_000, 0)},
		{Name: "sub/second", Typeflag: tar.TypeReg, Format: tar.FormatPAX, ModTime: time.Unix(5, 999_999_999)},
		{Name: "char", Typeflag: tar.TypeChar, Mode: 0o620, Devmajor: 4, Devminor: 65},
		{Name: "block", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 259, Devminor: 1_048_575},
		{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o600},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "../../x", Mode: 0o755},
		{Name: strings.Repeat("long/", 200) + "\xff\xfe", Typeflag: tar.TypeReg, Format: tar.FormatGNU},
		{Name: "pax_global_header", Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"path": "nowhere"}},
	}
	bodies := map[string]string{"pax": strings.Repeat("a", 65), "gnu": strings.Repeat("b", 64)}
	l, err := Import(t.Context(), bytes.NewReader(imagetest.Tar(t, h, bodies)), Discard, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	l = again(t, l)
	have := dump(l.root)
	want := map[string]string{
		"pax": fmt.Sprintf("104755 3000000:4000000000 @-2 65 %.12s security.capability=%q",
			fsverity.Bytes([]byte(bodies["pax"])), value),
		"gnu":        fmt.Sprintf("101777 70000000:0 @-1000000 %q", bodies["gnu"]),
		"sub/second": `100000 0:0 @5 ""`,
		"char":       fmt.Sprintf("20620 0:0 @0 dev %#x", tree.Mkdev(4, 65)),
		"block":      fmt.Sprintf("60660 0:0 @0 dev %#x", tree.Mkdev(259, 1<<20-1)),
		"fifo":       "10600 0:0 @0 dev 0x0",
		"link":       `120777 0:0 @0 "../../x"`,
		strings.Repeat("long/", 200) + "\xff\xfe": `100000 0:0 @0 ""`,
	}
	for path, line := range want {
		if have[path] != line {
			t.Errorf("%.40q\n have %s\n want %s", path, have[path], line)
		}
	}
	for path := range have {
		if strings.Contains(path, "global") {
			t.Errorf("a global header became %q", path)
		}
	}
}

func TestImportSparse(t *testing.T) {
	// GNU's old format: 1 MiB, of which the last 512 bytes are there.
	data := raw(func(h *[512]byte) {
		copy(h[:], "sparse")
		h[156] = 'S'
		copy(h[257:], "ustar  \x00")
		copy(h[124:], "00000001000\x00")
		copy(h[386:], fmt.Sprintf("%011o\x00%011o\x00", 1<<20-512, 512))
		copy(h[483:], fmt.Sprintf("%011o\x00", 1<<20))
	})
	data = append(data[:512], append(bytes.Repeat([]byte("x"), 512), make([]byte, 1024)...)...)
	l, err := Import(t.Context(), bytes.NewReader(data), Discard, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := append(make([]byte, 1<<20-512), bytes.Repeat([]byte("x"), 512)...)
	if n := l.root.Lookup("sparse"); n.Size != 1<<20 || n.Digest != fsverity.Bytes(want) {
		t.Errorf("%s", describeNode(n))
	}
	if _, err := Import(t.Context(), bytes.NewReader(data), Discard, Limits{Content: 1<<20 - 1}); !errors.Is(err, ErrLimit) {
		t.Errorf("error %v for a sparse file beyond the limit", err)
	}
}

// endless is a stream of headers that never come to an entry.
type endless struct {
	head []byte
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.head[e.at:])
	e.at = (e.at + n) % len(e.head)
	return n, nil
}

func TestImportLimits(t *testing.T) {
	many := make([]tar.Header, 100)
	for i := range many {
		many[i] = entry(fmt.Sprintf("f%03d", i))
	}
	archive := imagetest.Tar(t, many, nil)
	pax := raw(func(h *[512]byte) { copy(h[:], "pax"); h[156] = 'x' })[:512]
	xattrs := entry("x")
	xattrs.PAXRecords = map[string]string{"SCHILY.xattr.user.a": strings.Repeat("v", 40_000), "SCHILY.xattr.user.b": strings.Repeat("v", 40_000)}
	for name, test := range map[string]struct {
		r      io.Reader
		limits Limits
		want   error
	}{
		"entries":         {bytes.NewReader(archive), Limits{Entries: 99}, ErrLimit},
		"implied entries": {bytes.NewReader(imagetest.Tar(t, []tar.Header{entry("a/b/c/d/e/f")}, nil)), Limits{Entries: 5}, ErrLimit},
		"names":           {bytes.NewReader(archive), Limits{Metadata: 399}, ErrLimit},
		"stream":          {bytes.NewReader(archive), Limits{Stream: int64(len(archive)) - 1}, ErrLimit},
		"endless headers": {&endless{head: pax}, Limits{Stream: 10 << 20}, ErrLimit},
		"endless padding": {io.MultiReader(bytes.NewReader(archive), &endless{head: make([]byte, 512)}), Limits{Stream: 10 << 20}, ErrLimit},
		"attributes":      {bytes.NewReader(imagetest.Tar(t, []tar.Header{xattrs}, nil)), Limits{}, ErrLayer},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Import(t.Context(), test.r, Discard, test.limits); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
	if _, err := Import(t.Context(), bytes.NewReader(archive), Discard, Limits{Entries: 100, Metadata: 400, Stream: int64(len(archive))}); err != nil {
		t.Errorf("just within the limits: %v", err)
	}
}

// badObjects fails in a way.
type badObjects struct {
	take int64
	err  error
}

func (b badObjects) Put(_ context.Context, r io.Reader, _ int64) (fsverity.Digest, error) {
	io.CopyN(io.Discard, r, b.take)
	return fsverity.Digest{}, b.err
}

func (badObjects) Has(fsverity.Digest) bool { return false }

func TestImportObjects(t *testing.T) {
	archive := imagetest.Tar(t, []tar.Header{entry("a")}, map[string]string{"a": strings.Repeat("x", 1000)})
	if _, err := Import(t.Context(), bytes.NewReader(archive), badObjects{1000, unix.ENOSPC}, Limits{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error %v, want ENOSPC", err)
	}
	if _, err := Import(t.Context(), bytes.NewReader(archive), badObjects{999, nil}, Limits{}); err == nil {
		t.Error("a store that takes 999 of 1000 bytes goes unnoticed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Import(ctx, bytes.NewReader(archive), Discard, Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}
