package vm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
)

// Console is what a machine's serial port has said since it was started.
type Console struct {
	mu      sync.Mutex
	text    []byte
	changed chan struct{}
	closed  bool
	pieces  int64 // read so far, but for those that repeat what systemd waits for
}

func newConsole() *Console { return &Console{changed: make(chan struct{})} }

// escapes are terminal control sequences: the firmware draws with them.
var escapes = regexp.MustCompile(`\x1b(\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[=>A-Z])|[\r\x00]`)

// progress are the lines by which systemd shows over and over what it waits for.
var progress = regexp.MustCompile(`(?m)^\[[ *]{6}\] .*\n`)

// waiting is a line, or the beginning of one, of those by which systemd shows what it waits for.
var waiting = regexp.MustCompile(`^(\[[ *]{0,6}(\].*)?)?$`)

// news tells whether a piece of text says something: more than that systemd still waits.
func news(text []byte) bool {
	for line := range bytes.Lines(escapes.ReplaceAll(text, nil)) {
		if !waiting.Match(bytes.TrimRight(line, "\n")) {
			return true
		}
	}
	return false
}

// signs counts the pieces of text that said something.
func (c *Console) signs() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pieces
}

// follow reads the port until it is closed, and hands each line to watch, also while it is still
// growing. Whoever watch wakes finds the line in the text.
func (c *Console) follow(port io.Reader, watch func([]byte)) {
	buf := make([]byte, 4096)
	var line []byte
	for {
		n, err := port.Read(buf)
		line = append(line, buf[:n]...)
		said := n > 0 && news(line)
		c.mu.Lock()
		c.text = append(c.text, buf[:n]...)
		if said {
			c.pieces++
		}
		c.closed = err != nil
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		watch(line)
		line = line[bytes.LastIndexByte(line, '\n')+1:]
		if err != nil {
			return
		}
	}
}

// Mark is the current end of the text, to wait for what comes after it.
func (c *Console) Mark() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.text)
}

// Text returns what was said after mark, without control sequences.
func (c *Console) Text(mark int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(escapes.ReplaceAll(bytes.Clone(c.text[mark:]), nil))
}

// wait waits until what was said after mark matches pattern, and returns the match.
func (c *Console) wait(ctx context.Context, mark int, pattern *regexp.Regexp) (string, error) {
	for {
		c.mu.Lock()
		changed, closed := c.changed, c.closed
		c.mu.Unlock()
		if match := pattern.FindString(c.Text(mark)); match != "" {
			return match, nil
		}
		if closed {
			return "", fmt.Errorf("wait for %q on the console: the machine has ended%s", pattern, c.Tail(30))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", fmt.Errorf("wait for %q on the console: %w%s", pattern, context.Cause(ctx), c.Tail(30))
		}
	}
}

// Tail returns the last n lines, indented and on lines of their own, to end an error message with.
func (c *Console) Tail(n int) string {
	text := progress.ReplaceAllString(c.Text(0), "")
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	lines = lines[max(0, len(lines)-n):]
	return "\n  console: " + strings.Join(lines, "\n  console: ")
}
