package bounded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	for _, test := range []struct {
		have  int
		limit int64
		want  string // error
	}{
		{0, 0, ""}, {5, 5, ""}, {6, 5, "larger than 5 B"}, {1025, 1024, "larger than 1 KiB"}, {3<<20 + 1, 3 << 20, "larger than 3 MiB"},
	} {
		data, err := Read(strings.NewReader(strings.Repeat("x", test.have)), test.limit)
		if test.want == "" && (err != nil || len(data) != test.have) {
			t.Errorf("%d of %d: %d, %v", test.have, test.limit, len(data), err)
		}
		if test.want != "" && (!errors.Is(err, ErrTooLarge) || err.Error() != test.want) {
			t.Errorf("%d of %d: %v", test.have, test.limit, err)
		}
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if data, err := File(name, 5); err != nil || string(data) != "12345" {
		t.Errorf("%q, %v", data, err)
	}
	if data, err := In(root, "file", 5); err != nil || string(data) != "12345" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := File(name, 4); err == nil || err.Error() != "read "+name+": larger than 4 B" {
		t.Errorf("%v", err)
	}
	if _, err := In(root, "none", 5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
