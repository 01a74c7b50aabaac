package judge

import (
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/atomicfile"
)

// harmless is what fsck.fat may say after a power cut without anything being lost:
//
//   - the dirty bit says that there was a cut;
//   - the number of free clusters in FSINFO is a hint, which kernels don't trust after a cut;
//   - clusters that are in use and in no file are what was being written, or had just been removed: space
//     that is lost until the partition is checked;
//   - where the two tables differ, Linux, systemd-boot and the firmware read the first;
//   - the boot sector's copy has not seen the dirty bit;
//   - parts of a long name without the entry that they belong to are a renaming or removal that was torn
//     between two sectors of the directory: nobody reads them, and they are written over.
var harmless = []*regexp.Regexp{
	regexp.MustCompile(`^fsck\.fat \d`),
	regexp.MustCompile(`Dirty bit is set|Automatically removing dirty bit`),
	regexp.MustCompile(`^\s*Free cluster summary (wrong|uninitialized)|^\s*Auto-(correcting|setting)`),
	regexp.MustCompile(`^Reclaimed \d+ unused clusters?`),
	regexp.MustCompile(`^FATs differ but appear to be intact|^\s*Using first FAT`),
	regexp.MustCompile(`^There are differences between boot sector and its backup|^This is mostly harmless\. Differences:|^  65:0[01]/0[01]$|^  Not automatically fixing this`),
	regexp.MustCompile(`^Orphaned long file name part|^\s+Auto-deleting\.$`),
	regexp.MustCompile(`^Long filename fragment .* found outside a LFN sequence|^\s+\(Maybe the start bit is missing|^\s+Not auto-correcting this\.$`),
	regexp.MustCompile(`^Leaving filesystem unchanged|^\S+: \d+ files, \d+/\d+ clusters`),
}

// ofFile is what may be said of a file that nobody needs: one that was being written, under its temporary
// name, and seed.
var ofFile = regexp.MustCompile(`^\s+(File size is \d+ bytes, cluster chain length is|Truncating file to|Contains a free cluster|Bad (dir )?start cluster|and$|share clusters)`)

// seed is what systemd itself writes on the ESP at each boot, by a rename that its syncfs comes after:
// systemd-boot-random-seed.service. systemd-boot starts without it, and systemd makes it anew.
const seed = "/loader/random-seed"

// harmful returns what fsck.fat says beyond that. What it says of a file stands below the file's path.
func harmful(said string) (problems []string) {
	file := ""
	for line := range strings.Lines(said) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "/") && !strings.Contains(line, "clusters") {
			file = strings.TrimSpace(line)
			continue
		}
		if line == "" || slices.ContainsFunc(harmless, func(r *regexp.Regexp) bool { return r.MatchString(line) }) {
			continue
		}
		if !strings.HasPrefix(line, " ") {
			file = ""
		}
		if file != "" && (file == seed || atomicfile.IsTemp(path.Base(file))) && ofFile.MatchString(line) {
			continue
		}
		problems = append(problems, "fsck.fat: "+strings.TrimSpace(file+" "+line))
	}
	return problems
}

// exitStatus returns the status of a program that has run.
func exitStatus(err error) (int, bool) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, true
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode(), true
	}
	return 0, false
}

func writeNumber(to io.Writer, n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	to.Write(b[:])
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
