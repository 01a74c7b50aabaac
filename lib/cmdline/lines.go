package cmdline

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"sync"

	"github.com/kairos-io/toolkit/lib/progress"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// jsonLines is stderr under --json: each line that is no object becomes one, a
// progress.Message, whoever has written it.
type jsonLines struct {
	w    io.Writer
	name string // of the program

	mu   sync.Mutex
	rest []byte // of a line that has no end yet
}

func (j *jsonLines) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rest = append(j.rest, p...)
	for {
		line, rest, ok := bytes.Cut(j.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		err := j.line(string(line))
		if j.rest = rest; err != nil {
			return 0, err
		}
	}
}

// flush writes what has no end as a line.
func (j *jsonLines) flush() {
	j.mu.Lock()
	defer j.mu.Unlock()
	_ = j.line(string(j.rest))
	j.rest = nil
}

func (j *jsonLines) line(text string) error {
	if strings.HasPrefix(text, "{") && json.Valid([]byte(text)) {
		_, err := io.WriteString(j.w, text+"\n")
		return err
	}
	m := progress.Message{MessageType: "info"}
	if len(text) > 3 && text[0] == '<' && text[2] == '>' { // sd-daemon(3)
		if text[1] <= '4' {
			m.MessageType = "warning"
		}
		text = text[3:]
	}
	text = strings.TrimPrefix(text, j.name+": ")
	if rest, ok := strings.CutPrefix(text, "warning: "); ok {
		m.MessageType, text = "warning", rest
	}
	if m.Text = strings.TrimSpace(text); m.Text == "" {
		return nil
	}
	object, err := terminal.JSON(m)
	if err == nil {
		_, err = j.w.Write(object)
	}
	return err
}
