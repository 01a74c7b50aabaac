package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kairos-io/toolkit/lib/terminal"
	"golang.org/x/sys/unix"
)

// screen redraws one line, which is never wider than the terminal: its width
// is asked for each time, so a window may change its size.
type screen struct {
	out   io.Writer
	width func() int // columns
	drawn bool
}

// Widths in columns.
const (
	barWidth     = 24
	barLeast     = 8
	defaultWidth = 80
)

func widthOf(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return defaultWidth
	}
	return int(size.Col)
}

func (t *screen) draw(prefix string, s Snapshot) {
	// Nothing in the last column: some terminals go to the next line there.
	fmt.Fprintf(t.out, "\r\x1b[K%s", terminal.Line(layout(prefix, s, t.width()-1)))
	t.drawn = true
}

func (t *screen) erase() {
	if t.drawn {
		fmt.Fprint(t.out, "\r\x1b[K")
		t.drawn = false
	}
}

// layout puts as much on a line of so many columns as there is room for. What
// matters least goes first: the program's name, what is reused, the rate, what
// is left; then the bar shrinks and goes; and last the phase is cut.
func layout(prefix string, s Snapshot, width int) string {
	parts := []string{"", perSecond(s), left(s), reused(s)}
	if s.Done > 0 && s.Total > 0 {
		parts[0] = fmt.Sprintf("%s of %s", terminal.Bytes(s.Done), terminal.Bytes(s.Total))
	} else if s.Done > 0 {
		parts[0] = terminal.Bytes(s.Done)
	}
	phase := printable(s.Phase)
	for _, drop := range []int{-1, 0, 3, 1, 2} {
		switch drop {
		case -1:
		case 0:
			prefix = ""
		default:
			parts[drop] = ""
		}
		figures := join(parts)
		rest := width - utf8.RuneCountInString(prefix+phase+figures)
		if bar := bar(s, rest); bar != "" && rest >= 0 {
			return prefix + phase + bar + figures
		}
		if s.Total <= 0 && rest >= 0 {
			return prefix + phase + figures
		}
	}
	line := []rune(phase + join(parts))
	return string(line[:max(0, min(len(line), width))])
}

func join(parts []string) string {
	text := ""
	for _, p := range parts {
		if p != "" {
			text += ", " + p
		}
	}
	return strings.TrimPrefix(text, ",")
}

// bar draws a bar that fits into so many columns, "" where none does.
func bar(s Snapshot, room int) string {
	const frame = len(" [] 100%")
	width := min(barWidth, room-frame)
	if s.Total <= 0 || width < barLeast {
		return ""
	}
	done := min(s.Total, max(0, s.Done))
	full := int(float64(done) / float64(s.Total) * float64(width))
	return fmt.Sprintf(" [%s%s] %3d%%", strings.Repeat("#", full), strings.Repeat("-", width-full), int64(float64(done)/float64(s.Total)*100))
}

// printable replaces what would move the cursor: phases name what users gave.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}
