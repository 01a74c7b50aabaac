package remains

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/checks"
)

// fakeJournalctl puts a journalctl into PATH. What it cannot prove, that the
// real one finds the boot, the end-to-end tests do.
func fakeJournalctl(t *testing.T, script string) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

const boot = "8a0dc2f4-51f7-4d54-9a0b-0123456789ab"

func TestJournal(t *testing.T) {
	for name, test := range map[string]struct {
		id, script string
		until      time.Time
		lines      []string
		err        string
	}{
		"until the verdict": {boot, `echo "$@"`, time.Unix(1700000000, 5000), []string{
			"--boot=8a0dc2f451f74d549a0b0123456789ab --lines=20 --output=short-monotonic --no-hostname --no-pager --quiet --until=@1700000000.000005"}, ""},
		"to its end": {boot, `echo "$@"; echo warning >&2`, time.Time{}, []string{
			"--boot=8a0dc2f451f74d549a0b0123456789ab --lines=20 --output=short-monotonic --no-hostname --no-pager --quiet"}, ""},
		"not there":   {boot, "echo No such boot ID in journal >&2; exit 1", time.Time{}, nil, "No such boot ID in journal"},
		"silent":      {boot, "exit 3", time.Time{}, nil, "journalctl: failed exit status 3"},
		"empty":       {boot, "", time.Time{}, nil, "the journal has no lines of boot " + boot},
		"an option":   {"--output-fields=all", "echo called", time.Time{}, nil, `"--output-fields=all" is not a boot id`},
		"a wrong id":  {"8a0dc2f4", "echo called", time.Time{}, nil, `"8a0dc2f4" is not a boot id`},
		"no boot id":  {"", "echo called", time.Time{}, nil, `"" is not a boot id`},
		"escapes":     {boot, `printf 'a\033[2Jb\n'`, time.Time{}, []string{"a[2Jb"}, ""},
		"a long line": {boot, `head -c 100000 /dev/zero | tr '\0' x`, time.Time{}, []string{strings.Repeat("x", 256)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			fakeJournalctl(t, test.script)
			lines, err := Journal(t.Context(), test.id, test.until)
			if !slices.Equal(lines, test.lines) || (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
				t.Errorf("%q, %v", lines, err)
			}
		})
	}
}

var noon = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// save puts a dump into a root; hours is when after noon.
func save(t *testing.T, root, file, text string, hours int) {
	t.Helper()
	file = filepath.Join(root, file)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	at := noon.Add(time.Duration(hours) * time.Hour)
	if err := os.Chtimes(file, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestKernel(t *testing.T) {
	root := t.TempDir()
	last := func(want string) {
		t.Helper()
		file, lines, err := Kernel(root, noon)
		got := fmt.Sprintf("%s %q %v", file, lines, err)
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	const nothing = ` [] the kernel has saved no log since`
	last(nothing)
	save(t, root, "sys/fs/pstore/dmesg-efi_pstore-1", "Panic#1 Part1\nolder\n", -1)
	save(t, root, "sys/fs/pstore/console-ramoops-0", "no dump", 1)
	save(t, root, "sys/fs/pstore/dmesg-ramoops-0.enc.z", "\x78\x9c", 1)
	last(nothing)
	if _, _, err := Kernel(root, noon); !errors.Is(err, ErrNoDump) {
		t.Error(err)
	}
	save(t, root, "sys/fs/pstore/dmesg-efi_pstore-2", "Panic#1 Part2\nearlier\n", 3)
	last(`/sys/fs/pstore/dmesg-efi_pstore-2 ["Panic#1 Part2" "earlier"] <nil>`)
	save(t, root, "sys/fs/pstore/dmesg-efi_pstore-3", "Panic#1 Part1\nthe end\n", 2)
	last(`/sys/fs/pstore/dmesg-efi_pstore-3 ["Panic#1 Part1" "the end"] <nil>`)
	save(t, root, "var/lib/systemd/pstore/1780000000/001/dmesg.txt", "all of\x1b it\n", 4)
	last(`/var/lib/systemd/pstore/1780000000/001/dmesg.txt ["all of it"] <nil>`)
	save(t, root, "var/lib/systemd/pstore/1780000000/001/too/deep/dmesg.txt", "no\n", 5)
	last(`/var/lib/systemd/pstore/1780000000/001/dmesg.txt ["all of it"] <nil>`)
}

func TestKernelReadsNoLinks(t *testing.T) {
	root := t.TempDir()
	save(t, root, "secret", "secret", 1)
	if err := os.MkdirAll(filepath.Join(root, "var/lib/systemd/pstore"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../../secret", filepath.Join(root, "var/lib/systemd/pstore/dmesg.txt")); err != nil {
		t.Fatal(err)
	}
	if file, lines, err := Kernel(root, noon); !errors.Is(err, ErrNoDump) {
		t.Error(file, lines, err)
	}
}

func TestLargeDumpIsReadFromItsEnd(t *testing.T) {
	root := t.TempDir()
	save(t, root, "sys/fs/pstore/dmesg-erst-1", strings.Repeat("line of the log\n", 1<<16)+"the end\n", 1)
	_, lines, err := Kernel(root, noon)
	if err != nil || len(lines) != maxLines || lines[len(lines)-1] != "the end" {
		t.Errorf("%q, %v", lines, err)
	}
}

// FuzzLines: a dump is bytes that a dying kernel and a firmware wrote; what is
// kept of it ends on terminals.
func FuzzLines(f *testing.F) {
	f.Add([]byte("Panic#1 Part1\n<0>[   21.0] Kernel panic - not syncing\n"))
	f.Add([]byte("\x1b[2J\xff\xfe\r\x00tab\there"))
	f.Add(bytes.Repeat([]byte("long "), 1000))
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, err := checks.LastLines(bytes.NewReader(data))
		if err != nil || len(lines) > maxLines {
			t.Errorf("%d lines, %v", len(lines), err)
		}
		for _, line := range lines {
			if len(line) > 256 || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q", line)
			}
		}
	})
}
