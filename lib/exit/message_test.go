package exit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/exit"
)

// TestMessage: no message speaks of Go.
func TestMessage(t *testing.T) {
	var record struct {
		Serial int `json:"serial"`
	}
	_, number := strconv.ParseInt("many", 10, 64)
	_, large := strconv.ParseInt("99999999999999999999", 10, 64)
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	for _, c := range []struct {
		err  error
		want string
	}{
		{json.Unmarshal([]byte("{,"), &record), "read x: not valid JSON at byte 2"},
		{json.Unmarshal([]byte("{"), &record), "read x: not valid JSON: it ends too early"},
		{json.Unmarshal([]byte(`{"serial": "1"}`), &record), "read x: the JSON has a wrong type: string in serial"},
		{number, `read x: "many" is not a number`},
		{large, `read x: "99999999999999999999" is too large or too small`},
		{ctx.Err(), "read x: timed out"},
		{io.ErrUnexpectedEOF, "read x: it ends too early"},
		{errors.Join(errors.New("one"), context.Canceled), "read x: one; interrupted"},
		{errors.New("no such file"), "read x: no such file"},
	} {
		var out bytes.Buffer
		exit.Print(&out, "p", exit.Hint(exit.WithCode(fmt.Errorf("read x: %w", c.err), 1), "look"), false)
		if got := out.String(); got != "p: "+c.want+"\nhint: look\n" {
			t.Errorf("%v is printed as %q", c.err, got)
		}
		out.Reset()
		exit.Print(&out, "p", fmt.Errorf("read x: %w", c.err), true)
		var report exit.Report
		if err := json.Unmarshal(out.Bytes(), &report); err != nil || strings.ReplaceAll(report.Message, "\n", "; ") != c.want {
			t.Errorf("%v is reported as %s", c.err, out.String())
		}
	}
}
