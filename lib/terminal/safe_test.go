package terminal

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// hostile is text that images, registries and configs can hold.
var hostile = map[string]string{
	"\x1b]0;owned\x07":      `\x1b]0;owned\a`,
	"\x1b[2J\x1b[1;1H":      `\x1b[2J\x1b[1;1H`,
	"good\rbad":             `good\rbad`,
	"one\ntwo\r\n":          `one\ntwo\r\n`,
	"a\tb":                  `a\tb`,
	"\u009b31m":             `\u009b31m`,
	"\x9b31m":               `\x9b31m`,
	"\u202egpj.exe":         `\u202egpj.exe`,
	"\u2066x\u2069":         `\u2066x\u2069`,
	"a\u200bb\u2028c\ufeff": `a\u200bb\u2028c\ufeff`,
	"\x7f\x00\b":            `\x7f\x00\b`,
	"cut \xe2\x82":          `cut \xe2\x82`,
	"\U000e0041":            `\U000e0041`,
	"Ünïcödé ● → … “x” 日本 \\n": "Ünïcödé ● → … “x” 日本 \\n",
	"\ufffd": "\ufffd",
	"":       "",
}

func TestLine(t *testing.T) {
	for in, want := range hostile {
		if got := Line(in); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
		}
	}
	if got := Text("a\tb\nc\x1b[m"); got != "a\tb\nc\\x1b[m" {
		t.Errorf("Text keeps lines and tabs: %q", got)
	}
}

func FuzzLine(f *testing.F) {
	for in := range hostile {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out := Line(in)
		if !utf8.ValidString(out) {
			t.Errorf("%q: no UTF-8: %q", in, out)
		}
		for _, r := range out {
			if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
				t.Errorf("%q: %U is left in %q", in, r, out)
			}
		}
		var b strings.Builder
		w := Writer(&b)
		for _, c := range []byte(in) {
			if n, err := w.Write([]byte{c}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		if whole := Text(in); !strings.HasPrefix(whole, b.String()) || len(whole)-len(b.String()) > 4*(utf8.UTFMax-1) {
			t.Errorf("%q: byte for byte %q, as a whole %q", in, b.String(), whole)
		}
		text, err := JSON(in)
		var back string
		if err != nil || json.Unmarshal(text, &back) != nil || back != strings.ToValidUTF8(in, "\ufffd") && utf8.ValidString(in) {
			t.Errorf("%q: %s, %v", in, text, err)
		}
		if line := strings.TrimSuffix(string(text), "\n"); Line(line) != line {
			t.Errorf("%q: JSON that does more than it says: %q", in, line)
		}
	})
}

func TestFprintf(t *testing.T) {
	var b strings.Builder
	Fprintf(&b, "%s\t%v: %d %q %v\n", "a\nkairos-upgrade: verified", errors.New("x\ty"), 7, "z", []string{"\x1b[m"})
	Fprintln(&b, "a\nb")
	if want := "a\\nkairos-upgrade: verified\tx\\ty: 7 \"z\" [\\x1b[m]\na\\nb\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
