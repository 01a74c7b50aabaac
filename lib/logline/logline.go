// Package logline writes the log of a program as plain lines, for a terminal or for the
// journal.
package logline

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/kairos-io/toolkit/lib/mask"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// UnderSystemd reports whether stderr is connected to the journal.
func UnderSystemd() bool { return os.Getenv("JOURNAL_STREAM") != "" }

// New returns a logger that writes plain lines: "name: message key=value".
// Under systemd each line carries its priority in sd-daemon(3) form instead of
// the name.
func New(w io.Writer, name string, quiet bool) *slog.Logger {
	level := slog.LevelInfo
	if quiet {
		level = slog.LevelError
	}
	prefix := name + ": "
	if UnderSystemd() {
		prefix = ""
	}
	return slog.New(&lineHandler{mu: new(sync.Mutex), w: w, prefix: prefix, level: level})
}

type lineHandler struct {
	mu     *sync.Mutex
	w      io.Writer
	prefix string
	level  slog.Level
	attrs  string
}

func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var line strings.Builder
	if h.prefix == "" {
		fmt.Fprintf(&line, "<%d>", Priority(r.Level))
	}
	line.WriteString(h.prefix)
	if h.prefix != "" && r.Level >= slog.LevelWarn && r.Level < slog.LevelError {
		line.WriteString("warning: ")
	}
	line.WriteString(terminal.Line(mask.Message(r.Message)))
	line.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool { line.WriteString(attr(a)); return true })
	line.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, line.String())
	return err
}

func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	for _, a := range attrs {
		next.attrs += attr(a)
	}
	return &next
}

func (h *lineHandler) WithGroup(string) slog.Handler { return h }

func attr(a slog.Attr) string {
	v := mask.Message(a.Value.Resolve().String())
	if strings.ContainsAny(v, " \t\n\"") || v == "" {
		v = fmt.Sprintf("%q", v)
	}
	return " " + a.Key + "=" + terminal.Line(v)
}

// Priority returns the syslog priority of a level.
func Priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}
