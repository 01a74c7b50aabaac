package logline

import (
	"bytes"
	"testing"
)

func TestLoggerLines(t *testing.T) {
	var b bytes.Buffer
	t.Setenv("JOURNAL_STREAM", "")
	log := New(&b, "tool", false)
	log.Info("wrote object", "name", "a b")
	log.Warn("no signatures")
	if want := "tool: wrote object name=\"a b\"\ntool: warning: no signatures\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
	b.Reset()
	t.Setenv("JOURNAL_STREAM", "8:1")
	New(&b, "tool", true).Info("muted")
	New(&b, "tool", true).Error("failed")
	if want := "<3>failed\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
