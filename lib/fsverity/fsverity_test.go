package fsverity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

// vectors were printed by `fsverity digest --compact` of fsverity-utils 1.6 for
// files made by pattern. Their sizes stand around every threshold of the tree:
// nothing, one block, one block of hashes (128 data blocks), two levels (16384).
var vectors = []struct {
	size   int
	digest string
}{
	{0, "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"},
	{1, "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551"},
	{63, "b1e344feb02d09cb3094b563f8cb2b2193c902908ca8c60dfa3eae7303947299"},
	{64, "bd5b94be3ac2d07abe2b7a025b155d10064547c3c50d1a2e184d213b8fd30646"},
	{65, "08aa4b8fc1772a75a1414967335ab19febb622f66855385178a3010296790580"},
	{4095, "a6ae6d11297a2fd61a2edb33c512099c45b7d609cd34c0cb507bd5512b8e0e10"},
	{4096, "e5bda1a48d4dafddbf6ce7b73b8d16eef168e8ecb788bd6dc92e89d2712fc001"},
	{4097, "21f38d435b0ce731fd4b8219ad5d33cd306994a67d8c6279afdb8c8e2191f8bc"},
	{8192, "328e7188a8866840126e0692466bccb5daa6974bf0a86b87a5d6d7bc9ea091b3"},
	{8193, "47f1fb5a3043685f53eedf7326d9a933d447b951d63af69d96ffd3d1450dd5c8"},
	{524287, "ef65ca69b6d80e6db7f286a2c64b86a599eb2c3ef510f4e9aa85b334cacad8b6"},
	{524288, "4b9e67f887119d3b19bd4071e75701e3db28a4f225e93f6ef6075b454299f69a"},
	{524289, "cb2d7295db72234b13a32f0c5028ae13bb68714cca59cb2e9f123e29b9b045cf"},
	{528384, "7c264c61a210f2e175f0db30ed3f9df3ce62c0ef2a6a1865ff344263d8991a1a"},
	{528385, "414d54b9d6522c57fceb019547e6069023e118859d588c86aada39489ad88d28"},
	{67108864, "ea345bd68811b867d36c9558b6c17386b6b9160f638587e42d53026021210cad"},
	{67108865, "d2e5857a3c7cd440293b103b10bda0b4c72cc70e820ca93065151eed950161ff"},
	{67633153, "c91c5cf391d531b8e5a953f307da4ce9cb952199dea55d65006f5927a8e7a4ed"},
}

// pattern returns n bytes: a block of 64 KiB without short periods, repeated.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range min(n, 1<<16) {
		p[i] = byte(i*7 ^ i>>8)
	}
	for done := 1 << 16; done < n; done *= 2 {
		copy(p[done:], p[:done])
	}
	return p
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(fmt.Sprint(v.size), func(t *testing.T) {
			p := pattern(v.size)
			if got := Bytes(p).String(); got != v.digest {
				t.Fatalf("digest %s, fsverity(1) says %s", got, v.digest)
			}
			got, n, err := File(bytes.NewReader(p))
			if err != nil || n != int64(v.size) || got.String() != v.digest {
				t.Fatalf("File: %s, %d, %v", got, n, err)
			}
		})
	}
}

// TestSumContinues asks for the digest at every size on the way: Sum must not
// disturb what follows.
func TestSumContinues(t *testing.T) {
	p := pattern(528385)
	h := NewHasher()
	done := 0
	for _, v := range vectors {
		if v.size > len(p) {
			break
		}
		h.Write(p[done:v.size])
		done = v.size
		for range 2 {
			if got := h.Sum().String(); got != v.digest {
				t.Fatalf("at %d bytes: digest %s, want %s", v.size, got, v.digest)
			}
		}
		if h.Size() != int64(v.size) {
			t.Fatalf("size %d, want %d", h.Size(), v.size)
		}
	}
	for _, v := range vectors[:10] {
		h.Reset()
		h.Write(p[:v.size])
		if got := h.Sum().String(); got != v.digest {
			t.Fatalf("after Reset, %d bytes: digest %s, want %s", v.size, got, v.digest)
		}
	}
}

func TestFileReportsReadError(t *testing.T) {
	broken := errors.New("disk on fire")
	if _, _, err := File(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Fatalf("error %v, want %v", err, broken)
	}
}

func TestCheck(t *testing.T) {
	want := Bytes([]byte("kernel"))
	if err := Check(strings.NewReader("kernel"), want); err != nil {
		t.Fatal(err)
	}
	if err := Check(strings.NewReader("kernem"), want); !errors.Is(err, ErrMismatch) {
		t.Fatalf("error %v, want %v", err, ErrMismatch)
	}
}

func TestParse(t *testing.T) {
	good := vectors[1].digest
	d, err := Parse(good)
	if err != nil || d.String() != good {
		t.Fatalf("%s, %v", d, err)
	}
	for _, bad := range []string{"", good[1:], good + "0", strings.ToUpper(good), "g" + good[1:], "../" + good[3:], "sha256:" + good} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("Parse(%q) succeeded", bad)
		}
	}
}

func TestJSON(t *testing.T) {
	type record struct {
		Image Digest `json:"image"`
	}
	in := record{Bytes([]byte("x"))}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"image":"` + in.Image.String() + `"}`; string(text) != want {
		t.Fatalf("%s, want %s", text, want)
	}
	var out record
	if err := json.Unmarshal(text, &out); err != nil || out != in {
		t.Fatalf("%v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"image":"00"}`), &out); err == nil {
		t.Fatal("a short digest was accepted")
	}
}

// TestKernel runs the real ioctls. Where the file system has no fs-verity it
// proves that this is told apart from other failures; the digest of an enabled
// file is compared where it has.
func TestKernel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "object")
	if err := os.WriteFile(path, pattern(8193), 0o444); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	if _, err := Measure(f); !errors.Is(err, ErrNotEnabled) && !errors.Is(err, ErrNotSupported) {
		t.Fatalf("measure an ordinary file: %v", err)
	}
	err = Enable(f)
	if errors.Is(err, ErrNotSupported) {
		t.Skipf("only the refusal was tested: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := Enable(f); err != nil {
		t.Fatalf("enable twice: %v", err)
	}
	got, err := Measure(f)
	if err != nil {
		t.Fatal(err)
	}
	if want := Bytes(pattern(8193)); got != want {
		t.Fatalf("the kernel measures %s, want %s", got, want)
	}
}

func TestErrorsAreToldApart(t *testing.T) {
	for _, c := range []struct {
		errno unix.Errno
		want  error
	}{
		{unix.EOPNOTSUPP, ErrNotSupported},
		{unix.ENOTTY, ErrNotSupported},
		{unix.ENODATA, ErrNotEnabled},
		{unix.EIO, unix.EIO},
	} {
		err := translate(c.errno)
		if !errors.Is(err, c.want) || !errors.Is(err, c.errno) {
			t.Errorf("%v became %v", c.errno, err)
		}
	}
}

// FuzzChunks writes the same bytes whole and cut into pieces.
func FuzzChunks(f *testing.F) {
	f.Add(uint32(0), uint64(1))
	f.Add(uint32(4096), uint64(2))
	f.Add(uint32(4097), uint64(3))
	f.Add(uint32(128*4096+1), uint64(4))
	f.Add(uint32(129*4096), uint64(5))
	f.Fuzz(func(t *testing.T, size uint32, seed uint64) {
		p := pattern(int(size % (300 * BlockSize)))
		r := rand.New(rand.NewPCG(seed, 0))
		h := NewHasher()
		for rest := p; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(1<<r.IntN(17)))
			h.Write(rest[:n])
			rest = rest[n:]
			if r.IntN(8) == 0 {
				h.Sum()
			}
		}
		if got, want := h.Sum(), Bytes(p); got != want {
			t.Fatalf("in pieces %s, whole %s", got, want)
		}
	})
}

func BenchmarkHasher(b *testing.B) {
	for _, size := range []int{100, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := pattern(size)
			h := NewHasher()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				h.Reset()
				h.Write(p)
				h.Sum()
			}
		})
	}
}
