package target

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// mount is the used part of a line of /proc/self/mountinfo.
type mount struct {
	dev    string // major:minor
	point  string // mount point
	fstype string
	source string // as given to mount(2), often a device node
}

// parseMounts parses the format of proc_pid_mountinfo(5).
func parseMounts(r io.Reader) ([]mount, error) {
	var mounts []mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		before, after := strings.Fields(left), strings.Fields(right)
		if !ok || len(before) < 6 || len(after) < 2 {
			return nil, fmt.Errorf("mountinfo line %q: not in the expected form", lines.Text())
		}
		mounts = append(mounts, mount{
			dev:    before[2],
			point:  unescape(before[4]),
			fstype: after[0],
			source: unescape(after[1]),
		})
	}
	return mounts, lines.Err()
}

// parseSwaps parses /proc/swaps and returns the files and devices in use.
func parseSwaps(r io.Reader) ([]string, error) {
	var swaps []string
	lines := bufio.NewScanner(r)
	for first := true; lines.Scan(); first = false {
		if fields := strings.Fields(lines.Text()); !first && len(fields) > 0 {
			swaps = append(swaps, unescape(fields[0]))
		}
	}
	return swaps, lines.Err()
}

// unescape decodes the kernel's \ooo for blanks, backslashes and line feeds.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }
