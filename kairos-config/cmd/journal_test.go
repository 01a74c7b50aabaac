package cmd

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/stage"
	"github.com/kairos-io/toolkit/lib/journal"
)

func TestStepsSpeakToTheJournal(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "socket")
	step := stage.Step{Part: "boot.after", Name: "two words", Spec: schema.Step{Pos: diag.Pos{Source: "/oem/90.yaml", Line: 7}}}
	t.Setenv("JOURNAL_STREAM", "8:1")
	if stepLogger("kairos-config", socket) != nil {
		t.Error("a journal that isn't there is written to")
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stepLogger("kairos-config", socket)(step).Warn("said so")
	var b [4096]byte
	n, err := conn.Read(b[:])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"MESSAGE=said so\n", "MESSAGE_ID=" + journal.ConfigStep + "\n", "PRIORITY=4\n", "SYSLOG_IDENTIFIER=kairos-config\n",
		"KAIROS_STAGE=boot.after\n", "KAIROS_STEP=two words\n", "KAIROS_CONFIG=/oem/90.yaml:7\n",
	} {
		if !strings.Contains(string(b[:n]), want) {
			t.Errorf("the entry lacks %q:\n%s", want, b[:n])
		}
	}
	t.Setenv("JOURNAL_STREAM", "")
	if stepLogger("kairos-config", socket) != nil {
		t.Error("a person's terminal goes to the journal")
	}
}
