package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/checks"
)

func write(t *testing.T, root, file, text string) {
	t.Helper()
	file = filepath.Join(root, file)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDefaults(t *testing.T) {
	c := Load(t.TempDir())
	if err := c.Wrong; err != nil {
		t.Fatal(err)
	}
	if c.TimeoutOf("any") != time.Minute || c.FailedUnits != Required || !slices.Equal(c.Ignore, checks.IgnoredUnits) {
		t.Errorf("%+v", c)
	}
}

func TestLaterFilesWin(t *testing.T) {
	root := t.TempDir()
	write(t, root, "etc/kairos/boot-assess.conf", "# site\n[Assess]\nTimeoutSec=10\nFailedUnits=wanted\nIgnoreFailedUnits=a.service\n")
	write(t, root, "usr/lib/kairos/boot-assess.conf.d/10-image.conf", "[Assess]\nTimeoutSec=2min\n\n[Check 50-site.sh]\nTimeoutSec=5min 30s\n")
	write(t, root, "usr/lib/kairos/boot-assess.conf.d/20-hidden.conf", "[Assess]\nTimeoutSec=1h\n")
	write(t, root, "etc/kairos/boot-assess.conf.d/20-hidden.conf", "[Assess]\nIgnoreFailedUnits=\nIgnoreFailedUnits=b.service c@*.service\n")
	c := Load(root)
	if err := c.Wrong; err != nil {
		t.Fatal(err)
	}
	if c.Timeout != 2*time.Minute || c.TimeoutOf("50-site.sh") != 330*time.Second || c.FailedUnits != Wanted {
		t.Errorf("%+v", c)
	}
	if want := []string{"b.service", "c@*.service"}; !slices.Equal(c.Ignore, want) {
		t.Errorf("ignored: %q, want %q", c.Ignore, want)
	}
}

func TestMistakesAreNamedAndTheRestHolds(t *testing.T) {
	root := t.TempDir()
	write(t, root, "etc/kairos/boot-assess.conf", `TimeoutSec=1
[Assess]
TimeOut=5
TimeoutSec=soon
FailedUnits=maybe
IgnoreFailedUnits=[
what is this
TimeoutSec=7
[Check x]
Wait=1
`)
	c := Load(root)
	err := c.Wrong
	if err == nil || c.Timeout != 7*time.Second {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, want := range []string{
		"boot-assess.conf: line 1: TimeoutSec: unknown in section []",
		"line 3: TimeOut: unknown in section [Assess]",
		`line 4: TimeoutSec: time span "soon"`,
		`line 5: FailedUnits: "maybe": not required, wanted or off`,
		`line 6: IgnoreFailedUnits: pattern "["`,
		"line 7: not a [section] or KEY=VALUE",
		"line 10: Wait: unknown in section [Check x]",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in\n%v", want, err)
		}
	}
}

func TestSeverityOfWritablePaths(t *testing.T) {
	root := t.TempDir()
	if c := Load(root); c.Wrong != nil || c.Writable != Wanted {
		t.Errorf("by default: %q, %v", c.Writable, c.Wrong)
	}
	write(t, root, "etc/kairos/boot-assess.conf", "[Assess]\nWritablePaths=required\n")
	if c := Load(root); c.Wrong != nil || c.Writable != Required || c.ConfigStages != Required {
		t.Errorf("%q, %q, %v", c.Writable, c.ConfigStages, c.Wrong)
	}
}
