package mask

import (
	"errors"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// TestSecretsOfAConfig: a config with secrets in all places that people put them
// to shows none.
func TestSecretsOfAConfig(t *testing.T) {
	data, err := os.ReadFile("testdata/secrets.yaml")
	if err != nil {
		t.Fatal(err)
	}
	n, problems := tree.Parse("f", data)
	if n == nil || problems.Failed() {
		t.Fatal(problems)
	}
	text, err := Tree(n).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if found := regexp.MustCompile(`SECRET[A-Z][0-9]|U0VDUkVURDU=`).FindAllString(string(text), -1); len(found) > 0 {
		t.Errorf("shown: %q", found)
	}
	for _, keep := range []string{"github.com/o/r", "passwd --stdin root", "/bin/put", "machine x login y", "username=a", "/opt/r"} {
		if !strings.Contains(string(text), keep) {
			t.Errorf("hidden too: %s", keep)
		}
	}
}

func TestLoggerAndErrors(t *testing.T) {
	var out strings.Builder
	log := Logger(slog.New(slog.NewTextHandler(&out, nil))).With("source", "https://u:hunter2@h/").WithGroup("g")
	log.Error("get https://hunter2@h/x?key=hunter2 failed", "error", errors.New("TOKEN=hunter2"), "number", 7)
	inner := errors.New("password=hunter2")
	err := Error{inner}
	if strings.Contains(out.String()+err.Error(), "hunter2") || !strings.Contains(out.String(), "number=7") || !errors.Is(err, inner) {
		t.Errorf("%s%v", out.String(), err)
	}
}
