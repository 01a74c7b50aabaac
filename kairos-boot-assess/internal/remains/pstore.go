package remains

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/checks"
)

// pstoreDirs are the directories of dumps, relative to the root of the system: the
// archive of systemd-pstore.service(8), and the kernel's persistent storage
// (Documentation/ABI/testing/pstore).
var pstoreDirs = []string{"var/lib/systemd/pstore", "sys/fs/pstore"}

const (
	maxDumps     = 256      // files that are examined
	maxDumpDepth = 3        // of directories in the archive
	dumpTail     = 64 << 10 // bytes that are read of a dump, from its end
)

// ErrNoDump says that the kernel has saved no log.
var ErrNoDump = errors.New("the kernel has saved no log since")

// dump is a file with a log that the kernel saved.
type dump struct {
	file string
	time time.Time
}

// Kernel returns the last lines of the kernel's log that was saved in a crash since a
// time, and the file that has them. It returns ErrNoDump where there is none.
func Kernel(root string, since time.Time) (file string, lines []string, err error) {
	system, err := os.OpenRoot(root)
	if err != nil {
		return "", nil, err
	}
	defer system.Close()
	var found []dump
	for _, dir := range pstoreDirs {
		dumps, err := findDumps(system, dir, maxDumpDepth)
		if err != nil {
			return "", nil, fmt.Errorf("look for dumps of the kernel: %w", err)
		}
		found = append(found, dumps...)
	}
	found = slices.DeleteFunc(found, func(d dump) bool { return d.time.Before(since) })
	if len(found) == 0 {
		return "", nil, ErrNoDump
	}
	ends := slices.DeleteFunc(slices.Clone(found), func(d dump) bool { return !hasEnd(system, d.file) })
	if len(ends) > 0 {
		found = ends
	}
	last := slices.MaxFunc(found, func(a, b dump) int { return a.time.Compare(b.time) })
	file = "/" + last.file
	if lines, err = tailOf(system, last.file); err != nil {
		return file, nil, fmt.Errorf("read dump of the kernel: %w", err)
	}
	return file, lines, nil
}

// findDumps returns the kernel's logs in a directory and beneath it. A missing
// directory has none.
func findDumps(system *os.Root, dir string, depth int) (found []dump, err error) {
	d, err := system.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(maxDumps)
	if err != nil && err != io.EOF {
		return nil, err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case e.IsDir() && depth > 1:
			beneath, err := findDumps(system, name, depth-1)
			if err != nil {
				return nil, err
			}
			found = append(found, beneath...)
		case !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), "dmesg") || strings.HasSuffix(e.Name(), ".enc.z"):
		default:
			if info, err := e.Info(); err == nil { // else it is being archived
				found = append(found, dump{file: name, time: info.ModTime()})
			}
		}
		if len(found) > maxDumps {
			return found[:maxDumps], nil
		}
	}
	return found, nil
}

// hasEnd reports whether a file has the end of the log. A log that is too long for one
// record is saved in parts, of which part 1 is the last; each begins with a line such
// as "Panic#1 Part1". A file that systemd assembled (dmesg.txt) is complete.
func hasEnd(system *os.Root, file string) bool {
	if path.Base(file) == "dmesg.txt" {
		return true
	}
	f, err := system.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	first, _ := bufio.NewReader(io.LimitReader(f, 256)).ReadString('\n')
	return strings.HasSuffix(strings.TrimSpace(first), " Part1")
}

func tailOf(system *os.Root, file string) ([]string, error) {
	f, err := system.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("/%s is no regular file", file)
	}
	return checks.LastLines(io.NewSectionReader(f, max(0, info.Size()-dumpTail), dumpTail))
}
