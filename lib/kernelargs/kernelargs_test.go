package kernelargs

import (
	"errors"
	"slices"
	"testing"
)

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                                  nil,
		" a  b\t\n":                         {"a", "b"},
		"a\vb\fc":                           {"a", "b", "c"},
		`a="b c" "d e"=f`:                   {"a=b c", "d e=f"},
		`quiet "kairos.store=COS_RECOVERY"`: {"quiet", "kairos.store=COS_RECOVERY"},
		`kairos.sto""re=x`:                  {"kairos.store=x"},
		`"" x`:                              {"", "x"},
		`a="b c`:                            {"a=b c"},
	} {
		if have := slices.Collect(Words(line)); !slices.Equal(have, want) {
			t.Errorf("%q: %q, want %q", line, have, want)
		}
	}
}

func TestCheck(t *testing.T) {
	for text, want := range map[string]error{
		"quiet": nil, `a="b c"`: nil, "a b": nil, "x--": nil,
		"": ErrEmpty, " ": ErrEmpty, `""`: ErrEmpty,
		"a\nb": ErrBytes, "kairos.store\u00a0=x": ErrBytes, "a\x7f": ErrBytes, "\xff": ErrBytes,
		`a="`: ErrQuotes, `"""`: ErrEmpty, "a -- b": ErrForInit, `a "--"`: ErrForInit,
	} {
		if err := Check(text); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(`quiet "a b"=c`, "kairos.image=x")
	f.Fuzz(func(t *testing.T, text, beside string) {
		if Check(text) != nil || Check(beside) != nil {
			return
		}
		// What is accepted changes nothing beside it.
		want := slices.Concat(slices.Collect(Words(text)), slices.Collect(Words(beside)))
		if have := slices.Collect(Words(text + " " + beside)); !slices.Equal(have, want) {
			t.Errorf("%q and %q: %q, want %q", text, beside, have, want)
		}
	})
}
