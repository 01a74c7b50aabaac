package live

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cutOff says that a medium ends before its partitions do, at size bytes instead
// of end. Of a medium in the initramfs the reason is known: the kernel stops
// unpacking when half of the memory is full, and boots with what it has.
func (f *Finder) cutOff(c candidate, size, end int64) error {
	err := fmt.Errorf("cut off after %d of %d MiB", size>>20, mib(end))
	if c.kind != inFile {
		return err
	}
	var st unix.Statfs_t
	if unix.Statfs(filepath.Dir(c.file), &st) != nil || st.Blocks == 0 {
		return fmt.Errorf("%w: %d MiB of memory are missing", err, mib(end-size))
	}
	room, used := int64(st.Blocks)*st.Bsize, int64(st.Blocks-st.Bfree)*st.Bsize
	need := used - size + end
	return fmt.Errorf("%w: the initramfs needs %d MiB, and the kernel gives it half of the memory, %d MiB: %d MiB of memory are missing",
		err, mib(need), room>>20, mib(2*(need-room)))
}

// mib rounds up to MiB.
func mib(bytes int64) int64 { return (bytes + 1<<20 - 1) >> 20 }

// LowMemory is how much memory a live system wants besides its medium, in bytes:
// systemd, a shell, and what an installation keeps in memory.
const LowMemory = 256 << 20

// Available returns MemAvailable of a /proc/meminfo in bytes.
func Available(meminfo string) (int64, error) {
	text, err := os.ReadFile(meminfo)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s does not tell MemAvailable", meminfo)
}
