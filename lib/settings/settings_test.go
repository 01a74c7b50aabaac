package settings

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
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

func TestOrderOfFiles(t *testing.T) {
	root := t.TempDir()
	write(t, root, "etc/kairos/x.conf", "# main\n[A]\nKey = 1 \n")
	write(t, root, "usr/lib/kairos/x.conf.d/10-image.conf", "[A]\nKey=2\n[B]\nKey=a=b\n")
	write(t, root, "usr/lib/kairos/x.conf.d/20-hidden.conf", "[A]\nKey=hidden\n")
	write(t, root, "etc/kairos/x.conf.d/20-hidden.conf", "; site\n[A]\nKey=3\n")
	write(t, root, "etc/kairos/x.conf.d/30-other.txt", "[A]\nKey=no\n")
	var have []string
	err := Load(root, "x", func(section, key, value string) error {
		have = append(have, fmt.Sprintf("%s %s %s", section, key, value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"A Key 1", "A Key 2", "B Key a=b", "A Key 3"}; !slices.Equal(have, want) {
		t.Errorf("%q, want %q", have, want)
	}
}

func TestMistakesAreNamedAndTheRestIsRead(t *testing.T) {
	root := t.TempDir()
	write(t, root, "etc/kairos/x.conf", "[A]\nwhat is this\nBad=1\nGood=1\n")
	write(t, root, "etc/kairos/x.conf.d/big.conf", strings.Repeat("#", maxFile+1))
	good := 0
	err := Load(root, "x", func(_, key, _ string) error {
		if key == "Bad" {
			return fmt.Errorf("%s: no", key)
		}
		good++
		return nil
	})
	if err == nil || good != 1 {
		t.Fatalf("%d good ones, %v", good, err)
	}
	for _, want := range []string{"x.conf: line 2: not a [section] or KEY=VALUE", "line 3: Bad: no", "big.conf: larger than"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in\n%v", want, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("[A]\nKey=1\n# x\n[B\nKey\n=\n[]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = parse(data, func(_, key, value string) error {
			if strings.ContainsAny(key+value, "\n") {
				t.Errorf("%q=%q spans lines", key, value)
			}
			return nil
		})
	})
}

func TestParseTimeSpan(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"90": 90 * time.Second, "1min 30s": 90 * time.Second, "1min30s": 90 * time.Second, "2h": 2 * time.Hour,
		" 250 ms ": 250 * time.Millisecond, "24h": 24 * time.Hour,
	} {
		if got, err := ParseTimeSpan(s); err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0", "-1", "s", "1x", "1.5h", "infinity", "25h", "23h 61min", "99999999999999999999", "1min-3s", "१"} {
		if got, err := ParseTimeSpan(s); err == nil {
			t.Errorf("%q: %s, want an error", s, got)
		}
	}
}

func FuzzParseTimeSpan(f *testing.F) {
	for _, s := range []string{"90", "1min 30s", "5min30", "18446744073709551615h", "١s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseTimeSpan(s); err == nil && (d <= 0 || d > MaxTimeSpan) {
			t.Errorf("%q: %s", s, d)
		}
	})
}
