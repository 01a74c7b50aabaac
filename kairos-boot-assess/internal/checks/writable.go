package checks

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// WritablePathsName is the name of the built-in check of writable paths.
const WritablePathsName = "writable-paths"

// Where kairos-root(8) records what it mounted, and the kernel what is mounted
// (proc_pid_mountinfo(5)), beneath the root of the system.
const (
	rootReport = "run/kairos/root.json"
	mountInfo  = "proc/self/mountinfo"
)

// maxMountFile bounds either file, in bytes.
const maxMountFile = 4 << 20

// mountReport is the part of kairos-root's report that says what has to be
// there.
type mountReport struct {
	Writable bool `json:"writable"`
	Mounts   []struct {
		Path   string `json:"path"`
		Target string `json:"target"`
	} `json:"mounts"`
	Degraded []struct {
		What   string `json:"what"`
		Reason string `json:"reason"`
	} `json:"degraded"`
}

// WritablePaths returns the built-in check that the writable paths which
// kairos-root mounted in the initrd are still mounted. What it had to do
// without is only said: a lost data disk is no fault of the image, and the
// deployment before would not find it either.
func WritablePaths(root string) func(context.Context, io.Writer, io.Writer) error {
	return func(_ context.Context, out, problem io.Writer) error {
		system, err := os.OpenRoot(root)
		if err != nil {
			return err
		}
		defer system.Close()
		data, err := readBounded(system, rootReport, maxMountFile)
		if errors.Is(err, os.ErrNotExist) {
			return nil // an initrd without the report: nothing is known
		}
		if err != nil {
			return err
		}
		var report mountReport
		if err := json.Unmarshal(data, &report); err != nil {
			return fmt.Errorf("read /%s: %w", rootReport, err)
		}
		for _, d := range report.Degraded {
			fmt.Fprintf(out, "%s: %s\n", d.What, d.Reason)
		}
		if !report.Writable {
			return errors.New("the writable paths were not mounted")
		}
		data, err = readBounded(system, mountInfo, maxMountFile)
		if err != nil {
			return err
		}
		mounted, missing := mountPoints(string(data)), 0
		for _, m := range report.Mounts {
			if !mounted[m.Target] {
				missing++
				fmt.Fprintf(problem, "%s is not mounted any more\n", m.Target)
			}
		}
		if missing > 0 {
			return fmt.Errorf("missing mounts: %d of %d", missing, len(report.Mounts))
		}
		return nil
	}
}

// mountPoints returns the mount points of a mountinfo file: the fifth word of
// each line.
func mountPoints(text string) map[string]bool {
	points := map[string]bool{}
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, maxMountFile)
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
