package checks

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"unicode"

	"github.com/kairos-io/toolkit/lib/mask"
)

const (
	maxLines = 20   // stored lines of output
	maxWidth = 256  // stored bytes of a line
	maxSaid  = 1000 // logged lines
)

// transcript stores the last lines of a check's stdout and stderr, without control
// characters, as they are shown on terminals, and with secrets masked, as everybody may
// read them.
type transcript struct {
	mu     sync.Mutex
	say    func(string)
	said   int
	kept   []string
	last   [2]string // last line with text, per stream
	stream [2]stream
}

type stream struct {
	t    *transcript
	n    int
	part []byte // the beginning of a line, up to maxWidth
}

func newTranscript(say func(string)) *transcript {
	t := &transcript{say: say}
	for n := range t.stream {
		t.stream[n] = stream{t: t, n: n}
	}
	return t
}

func (t *transcript) stdout() io.Writer { return &t.stream[0] }
func (t *transcript) stderr() io.Writer { return &t.stream[1] }

func (s *stream) Write(p []byte) (int, error) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	for rest := p; len(rest) > 0; {
		text, after, ended := bytes.Cut(rest, []byte{'\n'})
		if room := maxWidth - len(s.part); room > 0 {
			s.part = append(s.part, text[:min(room, len(text))]...)
		}
		if ended {
			s.end()
		}
		rest = after
	}
	return len(p), nil
}

// end ends the line of a stream.
func (s *stream) end() {
	t, line := s.t, mask.Text(clean(string(s.part)))
	s.part = s.part[:0]
	if strings.TrimSpace(line) == "" {
		return
	}
	t.last[s.n] = line
	if t.kept = append(t.kept, line); len(t.kept) > maxLines {
		t.kept = t.kept[1:]
	}
	switch t.said++; {
	case t.said <= maxSaid:
		t.say(line)
	case t.said == maxSaid+1:
		t.say("(more output, not logged)")
	}
}

// flush ends lines that have no newline.
func (t *transcript) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := range t.stream {
		if len(t.stream[n].part) > 0 {
			t.stream[n].end()
		}
	}
}

func (t *transcript) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept
}

// message returns the last line about the failure: of stderr, or of stdout.
func (t *transcript) message() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last[1] != "" {
		return strings.TrimSpace(t.last[1])
	}
	return strings.TrimSpace(t.last[0])
}

func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
