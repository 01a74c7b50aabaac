package osrelease

import (
	"maps"
	"testing"
)

func TestParse(t *testing.T) {
	got := Parse([]byte(`# comment=1
NAME="Debian GNU/Linux"
ID=debian
VARIANT='it is "so"'
PRETTY_NAME="say \"x\" for \$5 \\ 'q'"
BUG_REPORT_URL="https://example.org/?a=b"
EMPTY=
ODD="no end
 INDENTED=yes  
no assignment
=nothing
VERSION_ID=13`))
	want := map[string]string{
		"NAME": "Debian GNU/Linux", "ID": "debian", "VARIANT": `it is "so"`, "PRETTY_NAME": `say "x" for $5 \ 'q'`,
		"BUG_REPORT_URL": "https://example.org/?a=b", "EMPTY": "", "ODD": `"no end`, "INDENTED": "yes", "VERSION_ID": "13",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("A='x\nB=\"\\\"\nC=\\"))
	f.Fuzz(func(t *testing.T, data []byte) { Parse(data) })
}
