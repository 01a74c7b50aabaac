package layer

import (
	"fmt"
	"slices"
	"testing"
)

// A layer after which programs don't start any more is told of, whatever became
// of the links that they are found by; other links may go.
func TestMergeTelling(t *testing.T) {
	base := []string{"usr/lib/", "usr/bin/", "lib -> usr/lib", "bin -> usr/bin", "usr/sbin -> bin", "vmlinuz -> boot/vmlinuz", "media -> run/media"}
	for name, test := range map[string]struct {
		layers [][]string
		want   []string
	}{
		"nothing":                     {[][]string{{"usr/lib/x"}, {"opt/x"}}, nil},
		"a directory":                 {[][]string{{"lib/"}}, []string{"2 lib a directory"}},
		"a file in it":                {[][]string{{"usr/x"}, {"lib/firmware/x"}}, []string{"3 lib a directory"}},
		"a file":                      {[][]string{{"bin"}}, []string{"2 bin a file"}},
		"taken away":                  {[][]string{{".wh.lib"}}, []string{"2 lib "}},
		"a directory, later":          {[][]string{{".wh.lib"}, {"lib/"}}, []string{"2 lib "}},
		"in usr":                      {[][]string{{"usr/sbin/x"}}, []string{"2 usr/sbin a directory"}},
		"usr all new":                 {[][]string{{"usr/.wh..wh..opq", "usr/sbin/"}}, []string{"2 usr/sbin a directory"}},
		"within the layer":            {[][]string{{"lib64 -> usr/lib64", "lib64/"}}, []string{"2 lib64 a directory"}},
		"within the layer, and back":  {[][]string{{"lib64 -> usr/lib64", "lib64/", "lib64 -> usr/lib"}}, nil},
		"there and back":              {[][]string{{"lib/"}, {"lib -> usr/lib"}}, []string{"2 lib a directory"}},
		"links that nothing needs":    {[][]string{{".wh.vmlinuz", "media/"}}, nil},
		"another link":                {[][]string{{"lib -> /usr/lib"}}, nil},
		"whiteout and link, together": {[][]string{{".wh.lib", "lib -> usr/lib"}}, nil},
	} {
		layers := []*Layer{mustBuild(t, base...)}
		for _, entries := range test.layers {
			layers = append(layers, mustBuild(t, entries...))
		}
		var have []string
		if _, err := MergeTelling(layers, func(i int, name, now string) { have = append(have, fmt.Sprint(i+1, " ", name, " ", now)) }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(have, test.want) {
			t.Errorf("%s: %q, want %q", name, have, test.want)
		}
	}
}
