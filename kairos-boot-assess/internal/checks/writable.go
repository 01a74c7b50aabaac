package checks

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/report"
)

// WritablePathsName is the name of the built-in check for writable paths.
const WritablePathsName = "writable-paths"

// mountInfo is the path of proc_pid_mountinfo(5), relative to the root of the system.
const mountInfo = "proc/self/mountinfo"

// maxMountInfo bounds it, in bytes.
const maxMountInfo = 4 << 20

// WritablePaths returns the built-in check for writable paths: it fails if a path that
// kairos-root mounted in the initrd is no longer mounted. Paths that kairos-root could
// not mount cause a message only: a missing data disk is no fault of the image, and a
// fallback would not help.
func WritablePaths(root string) func(context.Context, io.Writer, io.Writer) error {
	return func(_ context.Context, out, problem io.Writer) error {
		mounts, err := report.Read[report.Root](root, report.RootFile)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an initrd without the report: nothing is known
		}
		if err != nil {
			return err
		}
		for _, d := range mounts.Degraded {
			fmt.Fprintf(out, "%s: %s\n", d.What, d.Reason)
		}
		if !mounts.Writable {
			return errors.New("the writable paths were not mounted")
		}
		data, err := bounded.File(filepath.Join(root, mountInfo), maxMountInfo)
		if err != nil {
			return err
		}
		mounted, missing := mountPoints(string(data)), 0
		for _, m := range mounts.Mounts {
			if !mounted[m.Target] {
				missing++
				fmt.Fprintf(problem, "%s is not mounted any more\n", m.Target)
			}
		}
		if missing > 0 {
			return fmt.Errorf("missing mounts: %d of %d", missing, len(mounts.Mounts))
		}
		return nil
	}
}

// mountPoints returns the mount points of a mountinfo file: the fifth word of
// each line.
func mountPoints(text string) map[string]bool {
	points := map[string]bool{}
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, maxMountInfo)
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) > 4 {
			points[unescape(words[4])] = true
		}
	}
	return points
}

// unescape resolves the octal escapes (\040 is a space) of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
