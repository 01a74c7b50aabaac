// Package inotify reports changes in directories: inotify(7).
package inotify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Event reports a change in a directory.
type Event struct {
	Dir  string // as given to Add
	Name string // name of the file, "" when unknown: any file may have changed
}

// Watcher watches directories.
type Watcher struct {
	file   *os.File
	events chan Event
	done   chan struct{}

	mu     sync.Mutex
	fd     int
	closed bool
	dirs   map[int32]string // by watch descriptor
}

// mask is the set of events: a file was closed after writing, created, removed or
// renamed. A file that is written in pieces is reported once.
const mask = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_MODIFY | unix.IN_ONLYDIR

// New returns a Watcher that watches nothing yet.
func New() (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify_init1: %w", err)
	}
	w := &Watcher{fd: fd, file: os.NewFile(uintptr(fd), "inotify"), events: make(chan Event), done: make(chan struct{}), dirs: map[int32]string{}}
	go w.read() // ends with Close
	return w, nil
}

// Add watches a directory; one that is watched already counts once. A directory that
// does not exist is no error: Add can be called again later. After Close it does
// nothing.
func (w *Watcher) Add(dir string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	wd, err := unix.InotifyAddWatch(w.fd, dir, mask)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	w.dirs[int32(wd)] = dir
	return nil
}

// Events returns a channel of changes, which Close closes.
func (w *Watcher) Events() <-chan Event { return w.events }

// Follow calls changed after events for which matters returns true, once for several
// that arrive together, until Close.
func (w *Watcher) Follow(matters func(Event) bool, changed func()) {
	for e := range w.events {
		matter := matters(e)
		for more := true; more; {
			select {
			case e, more = <-w.events:
				matter = matter || more && matters(e)
			default:
				more = false
			}
		}
		if matter {
			changed()
		}
	}
}

// Close stops watching.
func (w *Watcher) Close() error {
	w.mu.Lock()
	w.closed = true
	close(w.done)
	err := w.file.Close()
	w.mu.Unlock()
	for range w.events { // until read has ended
	}
	return err
}

func (w *Watcher) read() {
	defer close(w.events)
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return
		}
		for _, e := range w.parse(buf[:n]) {
			select {
			case w.events <- e:
			case <-w.done:
				return
			}
		}
	}
}

// parse parses struct inotify_event: each is followed by a name of len bytes, padded
// with NULs.
func (w *Watcher) parse(data []byte) (events []Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(data) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(data))
		what := binary.NativeEndian.Uint32(data[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(data[12:]))
		if end > len(data) {
			return events
		}
		name, _, _ := bytes.Cut(data[unix.SizeofInotifyEvent:end], []byte{0})
		data = data[end:]
		switch {
		case what&unix.IN_Q_OVERFLOW != 0: // some were lost
			for _, dir := range w.dirs {
				events = append(events, Event{Dir: dir})
			}
		case what&unix.IN_IGNORED != 0: // removed or unmounted
			delete(w.dirs, wd)
		default:
			if dir, known := w.dirs[wd]; known {
				events = append(events, Event{dir, string(name)})
			}
		}
	}
	return events
}
