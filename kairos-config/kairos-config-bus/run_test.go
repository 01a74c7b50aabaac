package main

import (
	"testing"

	"github.com/kairos-io/toolkit/lib/run"
)

// A program that fails prints its error on stdout as well, where it would be
// taken for an empty result.
func TestErrorIsNoResult(t *testing.T) {
	for script, want := range map[string]string{
		`echo '{"message_type":"exit_error","code":1,"reason":"failed","message":"x"}'; exit 1`: "",
		`echo '{"valid":false,"problems":[]}'; exit 1`:                                          `{"valid":false,"problems":[]}` + "\n",
	} {
		out, err := output(t.Context(), run.Runner{}, []string{"sh", "-c", script})
		if err == nil || string(out) != want {
			t.Errorf("%s: %q, %v", script, out, err)
		}
	}
}
