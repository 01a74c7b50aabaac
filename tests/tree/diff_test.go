package tree

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var day = time.Date(2025, 5, 1, 12, 0, 0, 0, time.UTC)

// plant writes files ("name": "content", "name/": directory, "name@": link to content, "name=": hard
// link to content) that are all a day old.
func plant(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(root, strings.TrimRight(name, "/@="))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case strings.HasSuffix(name, "@"):
			err = os.Symlink(content, path)
		case strings.HasSuffix(name, "="):
			// after the files: see below
		default:
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range files {
		if name, ok := strings.CutSuffix(name, "="); ok {
			if err := os.Link(filepath.Join(root, target), filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type() != os.ModeSymlink {
			err = os.Chtimes(path, day, day)
		}
		return err
	})
}

// list shows an archive, one entry a line: type, name, what is in it.
func list(t *testing.T, archive io.Reader) string {
	t.Helper()
	var lines strings.Builder
	for r := tar.NewReader(archive); ; {
		header, err := r.Next()
		if err == io.EOF {
			return lines.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		content, _ := io.ReadAll(r)
		fmt.Fprintf(&lines, "%c %s %s%s\n", header.Typeflag, header.Name, header.Linkname, content)
	}
}

func TestWriteDiff(t *testing.T) {
	before := map[string]string{
		"etc/same": "same", "etc/changed": "old", "etc/gone": "x", "usr/gonedir/a": "a", "bin@": "usr/bin",
		"was-file": "f", "was-dir/x": "x", "usr/one": "1", "usr/two=": "usr/one", "relinked@": "a",
	}
	for name, test := range map[string]struct {
		after map[string]string
		want  string
	}{
		"nothing": {before, ""},
		"all kinds": {
			map[string]string{
				"etc/same": "same", "etc/changed": "new", "etc/new": "n", "usr/empty/": "", "bin@": "usr/bin",
				"was-file/y": "y", "was-dir": "d", "usr/one": "1", "usr/two=": "usr/one", "relinked@": "b",
			},
			`0 etc/.wh.gone 
0 etc/changed new
0 etc/new n
2 relinked b
0 usr/.wh.gonedir 
5 usr/empty/ 
0 was-dir d
5 was-file/ 
0 was-file/y y
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			lower, upper := t.TempDir(), t.TempDir()
			plant(t, lower, before)
			plant(t, upper, test.after)
			for _, root := range []string{lower, upper} { // links have the time of their making
				for _, link := range []string{"bin", "relinked"} {
					setLinkTime(t, filepath.Join(root, link))
				}
			}
			var archive bytes.Buffer
			if err := WriteDiff(&archive, lower, upper, day); err != nil {
				t.Fatal(err)
			}
			if got := list(t, &archive); got != test.want {
				t.Errorf("layer holds\n%swant\n%s", got, test.want)
			}
		})
	}
}

func TestWriteDiffIsReproducible(t *testing.T) {
	files := map[string]string{"b": "b", "a/c": "c", "a/d=": "a/c", "link@": "b"}
	var archives [2]bytes.Buffer
	for i := range archives {
		root := t.TempDir()
		plant(t, root, files)
		now := day.Add(time.Duration(i+1) * time.Hour) // as another build would
		os.Chtimes(filepath.Join(root, "b"), now, now)
		if err := WriteDiff(&archives[i], "", root, day); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0].Bytes(), archives[1].Bytes()) {
		t.Errorf("two builds differ:\n%s\n%s", list(t, &archives[0]), list(t, &archives[1]))
	}
	want := "5 a/ \n0 a/c c\n1 a/d a/c\n0 b b\n2 link b\n"
	if got := list(t, &archives[0]); got != want {
		t.Errorf("layer holds\n%swant\n%s", got, want)
	}
}

func TestWriteDiffRefusesWhiteoutNames(t *testing.T) {
	root := t.TempDir()
	plant(t, root, map[string]string{"etc/.wh.passwd": ""})
	if err := WriteDiff(io.Discard, "", root, day); err == nil {
		t.Error("a file that a layer would read as a removal was accepted")
	}
}

func setLinkTime(t *testing.T, path string) {
	t.Helper()
	times := []unix.Timespec{unix.NsecToTimespec(day.UnixNano()), unix.NsecToTimespec(day.UnixNano())}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		t.Fatal(err)
	}
}
