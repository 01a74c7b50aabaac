package progress

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal returns the two ends of a pseudo-terminal.
func openTerminal(t *testing.T) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { terminal.Close() })
	return screen, terminal
}

// A real terminal gets a bar, as wide as it is at that moment.
func TestRealTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	screen, file := openTerminal(t)
	now := time.Unix(0, 0)
	r := New(file, "kairos-upgrade", false)
	r.now = func() time.Time { return now }
	for _, columns := range []uint16{120, 60, 30} {
		if err := unix.IoctlSetWinsize(int(file.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
		r.Phase("fetch 3 of 5 layers", 100<<20)
		buf := make([]byte, 1024)
		n, err := screen.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		line, isBar := strings.CutPrefix(string(buf[:n]), "\r\x1b[K")
		if !isBar || !strings.Contains(line, "fetch 3 of") || len(line) >= int(columns) {
			t.Errorf("%d columns: %q", columns, line)
		}
		if bar := strings.Contains(line, "[----"); bar != (columns > 30) {
			t.Errorf("%d columns: %q", columns, line)
		}
	}
	t.Setenv("TERM", "dumb")
	if r := New(file, "kairos-upgrade", false); r.terminal != nil || !r.lines {
		t.Error("a dumb terminal gets a bar")
	}
}
