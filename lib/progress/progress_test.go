package progress

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// talk lets a reporter say one of everything.
func talk(r *Reporter) {
	r.Steps = 12
	done := r.Step("stage-state", "deploy the image")
	r.Line("kairos-upgrade", "copying")
	done()
	r.Info("looking at %s", "x")
	r.Warn("no UEFI")
}

func TestText(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "")
	var out bytes.Buffer
	talk(&Reporter{W: &out, Name: "kairos-install"})
	got := regexp.MustCompile(`[0-9.]+ s\n`).ReplaceAllString(out.String(), "TIME\n")
	want := "[ 1/12] deploy the image\n        copying\n        done in TIME\nlooking at x\nkairos-install: warning: no UEFI\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestUnderSystemd(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "8:1")
	var out bytes.Buffer
	(&Reporter{W: &out, Name: "kairos-install"}).Warn("no UEFI")
	if out.String() != "<4>warning: no UEFI\n" {
		t.Errorf("%q", out.String())
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	talk(&Reporter{W: &out, JSON: true})
	var types []string
	for line := range strings.Lines(out.String()) {
		var object struct {
			MessageType string `json:"message_type"`
			State       string
		}
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		types = append(types, strings.TrimSpace(object.MessageType+" "+object.State))
	}
	if got := strings.Join(types, ", "); got != "status started, log, status done, info, warning" {
		t.Error(got)
	}
}

func TestQuiet(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "")
	var out bytes.Buffer
	talk(&Reporter{W: &out, Name: "x", Quiet: true})
	if out.String() != "x: warning: no UEFI\n" {
		t.Errorf("%q", out.String())
	}
}
