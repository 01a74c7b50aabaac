package cmdline

import (
	"bytes"
	"io"
	"testing"
)

func TestJSONLines(t *testing.T) {
	var out bytes.Buffer
	j := &jsonLines{w: &out, name: "tool"}
	for _, part := range []string{"tool: fetch", "es\ntool: warning: old\n\n<4>from systemd\n", "{\"a\":1}\n{broken\n", "  step\x1b[m\n", "no end"} {
		if _, err := io.WriteString(j, part); err != nil {
			t.Fatal(err)
		}
	}
	j.flush()
	want := `{"message_type":"info","text":"fetches"}
{"message_type":"warning","text":"old"}
{"message_type":"warning","text":"from systemd"}
{"a":1}
{"message_type":"info","text":"{broken"}
{"message_type":"info","text":"step\u001b[m"}
{"message_type":"info","text":"no end"}
`
	if out.String() != want {
		t.Errorf("got:\n%s", out.String())
	}
}
