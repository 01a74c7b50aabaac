package cmd

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
)

// --wait says who holds the lock and goes on when it is free; Ctrl-C ends the wait.
func TestWait(t *testing.T) {
	for name, test := range map[string]struct {
		options   []string
		interrupt bool
		want      int
	}{
		"free then":   {[]string{"--wait"}, false, exit.OK},
		"within":      {[]string{"--wait=1h"}, false, exit.OK},
		"interrupted": {[]string{"--wait"}, true, exit.Interrupted},
		"too long":    {[]string{"--wait=1ms"}, true, exit.Busy},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, sub := range []string{"store/objects", "store/images", "store/deployments", "store/layers", "store/tmp", "esp"} {
				if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			holder, err := holdLock(filepath.Join(dir, "store"))
			if err != nil {
				t.Fatal(err)
			}
			defer holder.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			said, out := io.Pipe()
			a := app(testMachine(dir))
			a.Writer, a.ErrWriter = io.Discard, out
			status := make(chan int, 1)
			go func() {
				args := append([]string{"kairos-upgrade", "gc", "--store", filepath.Join(dir, "store"), "--esp", filepath.Join(dir, "esp")}, test.options...)
				status <- cmdline.Run(ctx, a, args)
				out.Close()
			}()
			lines := bufio.NewScanner(said)
			var text strings.Builder
			for lines.Scan() {
				text.WriteString(lines.Text() + "\n")
				switch first := strings.HasPrefix(lines.Text(), "kairos-upgrade: waiting: the lock is held by stage quay.io/x/y:9 (pid 4711"); {
				case first && test.interrupt && test.want == exit.Interrupted:
					cancel()
				case first && !test.interrupt:
					holder.Close()
				}
			}
			if code := <-status; code != test.want || !strings.Contains(text.String(), "waiting: ") {
				t.Errorf("exit status %d, want %d:\n%s", code, test.want, text.String())
			}
		})
	}
}
