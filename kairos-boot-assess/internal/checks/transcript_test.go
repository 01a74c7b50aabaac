package checks

import (
	"fmt"
	"strings"
	"testing"
)

// TestTranscriptHasNoSecrets: everybody may read what a check printed.
func TestTranscriptHasNoSecrets(t *testing.T) {
	var said []string
	transcript := newTranscript(func(line string) { said = append(said, line) })
	fmt.Fprintln(transcript.stdout(), "get https://u:hunter2@h/x?key=hunter2: 403")
	fmt.Fprint(transcript.stderr(), "K3S_TOKEN=hunter2 is refused")
	transcript.flush()
	all := strings.Join(append(append(said, transcript.lines()...), transcript.message()), "\n")
	if strings.Contains(all, "hunter2") || !strings.Contains(all, "403") {
		t.Error(all)
	}
}
