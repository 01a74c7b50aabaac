package verity

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/kairos-io/toolkit/lib/fsverity"
)

// The digest is that of lib/fsverity, which the kernel agrees with; the tree is as
// long as it is said to be.
func TestCompute(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	for _, size := range []int64{0, 1, 100, 4095, 4096, 4097, 8192, 10000, 65536, 65537, 128 * 4096, 128*4096 + 1, 5 << 20, 128*128*4096 + 1} {
		content := make([]byte, size)
		random.Read(content)
		m, err := Compute(bytes.NewReader(content), size)
		if err != nil {
			t.Fatal(err)
		}
		if want := fsverity.Bytes(content); m.Digest != want {
			t.Errorf("%d bytes: %s, want %s", size, m.Digest, want)
		}
		if have := int64(len(m.Bytes())); have != Length(size) || m.At%65536 != 0 || m.At < size || m.At-size >= 65536 {
			t.Errorf("%d bytes: %d bytes of data at %d, want %d", size, have, m.At, Length(size))
		}
	}
	if _, err := Compute(bytes.NewReader(nil), 1); err == nil {
		t.Error("a short content is none")
	}
}

func TestAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "object")
	content := bytes.Repeat([]byte("content "), 2000)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Append(path, fsverity.Bytes(nil)); err == nil {
		t.Fatal("another content is accepted")
	}
	m, err := Append(path, fsverity.Bytes(content))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(data)) != m.End() || !bytes.Equal(data[:len(content)], content) || !bytes.Equal(data[65536:], m.Bytes()) {
		t.Errorf("%d bytes", len(data))
	}
	if _, err := Append(path, fsverity.Bytes(content)); err == nil {
		t.Error("twice is no error")
	}
}
