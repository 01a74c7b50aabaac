package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/atomicfile"
)

// FileName is the name of the history in its directory.
const FileName = "history.jsonl"

// mode is the mode of the file: it contains lines of the journal, which not everybody
// may read.
const mode = 0o600

const (
	maxFile = 256 << 10 // bytes: some hundred boots
	maxLine = 16 << 10  // bytes: a verdict with many failed checks
)

// Log is the history in a directory.
type Log struct{ Dir string }

// Append adds an event durably. If the file would become too large, it drops the oldest
// half before.
func (l Log) Append(e Event) error {
	if err := l.append(e); err != nil {
		return fmt.Errorf("record in %s: %w", l.Dir, err)
	}
	return nil
}

func (l Log) append(e Event) error {
	line, err := encode(e)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(l.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	unlock, err := lock(root)
	if err != nil {
		return err
	}
	defer unlock()
	old, err := read(root)
	if err != nil {
		return err
	}
	if len(old)+len(line)+1 > maxFile {
		return atomicfile.Write(root, FileName, append(newest(old, maxFile/2), line...), mode)
	}
	return extend(root, old, line)
}

// extend appends a line to the file, after a newline if a power cut has torn the last
// line.
func extend(root *os.Root, old, line []byte) error {
	f, err := root.OpenFile(FileName, os.O_WRONLY|os.O_CREATE|os.O_APPEND, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().Perm() != mode { // of an older version
		if err := f.Chmod(mode); err != nil {
			return err
		}
	}
	if len(old) > 0 && old[len(old)-1] != '\n' {
		line = append([]byte{'\n'}, line...)
	}
	if _, err := f.Write(line); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if len(old) == 0 {
		return atomicfile.SyncDir(root, ".")
	}
	return nil
}

// encode returns an event as a line. If it is too long, it drops first the output of
// checks, then the checks; of a failed boot's lines the older ones; it always keeps the
// reason.
func encode(e Event) ([]byte, error) {
	line, err := json.Marshal(e)
	for err == nil && len(line) >= maxLine && shorten(&e) {
		line, err = json.Marshal(e)
	}
	if err == nil && len(line) >= maxLine && e.Verdict != nil {
		short := *e.Verdict
		short.Checks = nil
		for _, c := range e.Verdict.Checks {
			c.Output = nil
			short.Checks = append(short.Checks, c)
		}
		e.Verdict = &short
		if line, err = json.Marshal(e); err == nil && len(line) >= maxLine {
			short.Checks = nil
			line, err = json.Marshal(e)
		}
	}
	if err == nil && len(line) >= maxLine {
		err = fmt.Errorf("event of %d bytes, at most %d", len(line), maxLine)
	}
	return append(line, '\n'), err
}

// shorten drops the older half of a fallback's lines about the failed boot, and the
// output of hooks; false when there is nothing to drop.
func shorten(e *Event) bool {
	switch {
	case e.Fallback != nil && e.Fallback.FailedBoot != nil:
		f, trace := *e.Fallback, *e.Fallback.FailedBoot
		dropped := len(trace.Journal)+len(trace.Kernel) > 0
		trace.Journal = trace.Journal[(len(trace.Journal)+1)/2:]
		trace.Kernel = trace.Kernel[(len(trace.Kernel)+1)/2:]
		f.FailedBoot, e.Fallback = &trace, &f
		return dropped
	case e.Hooks != nil:
		h := *e.Hooks
		dropped := len(h.Results) > 0
		h.Results = h.Results[(len(h.Results)+1)/2:]
		e.Hooks = &h
		return dropped
	}
	return false
}

// lock excludes other writers until the returned function is called. It locks the
// directory, since the file may be replaced.
func lock(root *os.Root) (func(), error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		dir.Close()
		return nil, fmt.Errorf("lock: %w", err)
	}
	return func() { dir.Close() }, nil
}

// newest returns whole lines from the end of data, at most size bytes.
func newest(data []byte, size int) []byte {
	if len(data) > size {
		data = data[len(data)-size:]
		_, data, _ = bytes.Cut(data, []byte{'\n'})
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		data = append(bytes.Clone(data), '\n')
	}
	return data
}

// Read returns all readable events, oldest first. A missing file is an empty history.
func (l Log) Read() ([]Event, error) {
	root, err := os.OpenRoot(l.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	defer root.Close()
	data, err := read(root)
	if err != nil {
		return nil, fmt.Errorf("read history in %s: %w", l.Dir, err)
	}
	return Parse(data), nil
}

// read returns the end of the file: nothing but damage makes it larger than
// its limit.
func read(root *os.Root) ([]byte, error) {
	f, err := root.Open(FileName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", FileName)
	}
	offset := max(0, info.Size()-maxFile)
	return io.ReadAll(io.NewSectionReader(f, offset, maxFile))
}

// Parse parses events from JSON lines. It skips invalid lines.
func Parse(data []byte) []Event {
	var events []Event
	for line := range bytes.Lines(data) {
		var e Event
		if len(line) <= maxLine && json.Unmarshal(line, &e) == nil && valid(e) {
			events = append(events, e)
		}
	}
	return events
}

func valid(e Event) bool {
	switch e.Kind {
	case KindStart:
		return e.Start != nil
	case KindVerdict:
		return e.Verdict != nil
	case KindFallback:
		return e.Fallback != nil
	case KindHooks:
		return e.Hooks != nil
	}
	return false
}
