package serve

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/disk"
)

// medium writes a file with one partition of a label, and what is on it.
func medium(t *testing.T, label string) (file, content string) {
	t.Helper()
	le := binary.LittleEndian
	image := make([]byte, 1<<20)
	entry := image[1024:]
	entry[0], entry[16] = 1, 1
	le.PutUint64(entry[32:], 64)
	le.PutUint64(entry[40:], 128)
	for i, c := range label {
		entry[56+2*i] = byte(c)
	}
	header := image[512:][:92]
	copy(header, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
	le.PutUint64(header[72:], 2)
	le.PutUint32(header[80:], 4)
	le.PutUint32(header[84:], 128)
	le.PutUint32(header[88:], crc32.ChecksumIEEE(image[1024:][:512]))
	le.PutUint32(header[16:], crc32.ChecksumIEEE(header))
	copy(image[64*512:], "the store")
	file = filepath.Join(t.TempDir(), "live medium.raw")
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, string(image)
}

// TestServe fetches a medium as firmware does, in whole and in ranges; there is
// nothing else to fetch.
func TestServe(t *testing.T) {
	file, content := medium(t, disk.LabelLive)
	m, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	sent := make(chan int64, 8)
	go func() {
		ended <- Run(ctx, listener, m, func(_ *http.Request, _ int, bytes int64) { sent <- bytes })
	}()
	address := m.URL(listener.Addr())
	if !strings.HasSuffix(address, "/live%20medium.raw") {
		t.Errorf("address %s", address)
	}
	fetch := func(method, address, ranges string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequest(method, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if ranges != "" {
			r.Header.Set("Range", ranges)
		}
		got, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Body.Close()
		body, err := io.ReadAll(got.Body)
		if err != nil {
			t.Fatal(err)
		}
		return got, string(body)
	}
	got, body := fetch("GET", address, "")
	if got.StatusCode != 200 || body != content || got.Header.Get("Content-Type") != "application/vnd.efi-iso" || got.Header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("whole: %s, %d bytes, %v", got.Status, len(body), got.Header)
	}
	if got, body := fetch("GET", address, "bytes=32768-32776"); got.StatusCode != 206 || body != "the store" {
		t.Errorf("range: %s, %q", got.Status, body)
	}
	if got, body := fetch("HEAD", address, ""); got.StatusCode != 200 || got.ContentLength != 1<<20 || body != "" {
		t.Errorf("head: %s, %d", got.Status, got.ContentLength)
	}
	base := "http://" + listener.Addr().String()
	for path, status := range map[string]int{"/": 404, "/..%2flive%20medium.raw": 404, "/etc/passwd": 404, "/live%20medium.raw/": 404} {
		if got, _ := fetch("GET", base+path, ""); got.StatusCode != status {
			t.Errorf("%s: %s", path, got.Status)
		}
	}
	if got, _ := fetch("PUT", address, ""); got.StatusCode != 405 {
		t.Errorf("put: %s", got.Status)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if whole, part := <-sent, <-sent; whole != 1<<20 || part != 9 {
		t.Errorf("reported %d and %d bytes", whole, part)
	}
}

func TestNoMedium(t *testing.T) {
	other, _ := medium(t, disk.LabelState)
	cut, content := medium(t, disk.LabelLive)
	if err := os.WriteFile(cut, []byte(content[:128*512]), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]error{other: ErrNoMedium, cut: ErrNoMedium, os.DevNull: nil, t.TempDir(): nil, "/no/such/file": os.ErrNotExist} {
		if m, err := Open(file); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, %v", file, m, err)
		}
	}
}
