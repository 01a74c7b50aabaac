package boot

import (
	"os"
	"path"
	"testing"
)

func TestForbidEditor(t *testing.T) {
	for have, want := range map[string]string{
		"":                             "editor no\n",
		"timeout 3":                    "timeout 3\neditor no\n",
		"# c\ntimeout 3\n#editor no\n": "# c\ntimeout 3\n#editor no\neditor no\n",
		"editor yes\ntimeout 3\n":      "timeout 3\neditor no\n",
		"editor no\ntimeout 3\n":       "",
		"\teditor\t0\n":                "",
		"editor no\neditor 1\n":        "editor no\neditor no\n",
		"editor\n":                     "editor no\n",
		"editor-x no\n":                "editor-x no\neditor no\n",
	} {
		l, dir := newESP(t, false)
		file := path.Join(dir, "loader/loader.conf")
		if have != "" {
			if err := os.MkdirAll(path.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(have), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if changed, err := l.ForbidEditor(); err != nil || changed != (want != "") {
			t.Errorf("%q: changed %v, %v", have, changed, err)
		}
		if want == "" {
			want = have
		}
		if now, err := os.ReadFile(file); err != nil || string(now) != want {
			t.Errorf("%q became %q, %v, want %q", have, now, err, want)
		}
		if changed, err := l.ForbidEditor(); err != nil || changed {
			t.Errorf("%q: changed again %v, %v", have, changed, err)
		}
	}
}
