package bls

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseName(t *testing.T) {
	for _, test := range []struct {
		file  string
		want  Name
		state State
	}{
		{"kairos-7-0123456789ab.conf", Name{Base: "kairos-7-0123456789ab"}, Good},
		{"a+3.conf", Name{"a", true, 3, 0}, Pending},
		{"a+2-1.conf", Name{"a", true, 2, 1}, Pending},
		{"a+0-3.conf", Name{"a", true, 0, 3}, Bad},
		{"a+0.conf", Name{"a", true, 0, 0}, Bad},
		{"a+b+1.CONF", Name{"a+b", true, 1, 0}, Pending},
		{"a+b.conf", Name{Base: "a+b"}, Good},
		{"a+1-.conf", Name{Base: "a+1-"}, Good},
		{"+3.conf", Name{Base: "+3"}, Good},
	} {
		got, err := ParseName(test.file)
		if err != nil || got != test.want || got.State() != test.state {
			t.Errorf("%s: %+v (%s), %v; want %+v (%s)", test.file, got, got.State(), err, test.want, test.state)
		}
	}
	for _, file := range []string{"", ".conf", "a.efi", "a b.conf", "ä.conf", "a/b.conf", strings.Repeat("a", 256) + ".conf"} {
		if got, err := ParseName(file); err == nil {
			t.Errorf("%q: accepted as %+v", file, got)
		}
	}
}

func TestBaseOf(t *testing.T) {
	for id, want := range map[string]string{
		"kairos-1-aa+2-1.conf": "kairos-1-aa", "kairos-1-aa.conf": "kairos-1-aa", "kairos-1-aa": "kairos-1-aa",
		"kairos-1-aa+3": "kairos-1-aa", "auto-windows": "auto-windows",
	} {
		if got := BaseOf(id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
}

// order returns the file names in the order of the menu.
func order(t *testing.T, entries map[string]string) string {
	t.Helper()
	var list []Entry
	for file, content := range entries {
		name, err := ParseName(file)
		if err != nil {
			t.Fatal(err)
		}
		e, err := Parse(name, []byte(content))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	Sort(list)
	var names []string
	for _, e := range list {
		names = append(names, e.Name.String())
	}
	return strings.Join(names, " ")
}

// The heart of the design: which entry boots follows from names alone.
func TestOrderOfBoots(t *testing.T) {
	deployment := func(serial string) string {
		return "sort-key kairos\nversion " + serial + "\nlinux /kairos/linux-00\n"
	}
	recovery := "sort-key kairos-recovery\nlinux /kairos/linux-00\n"
	for name, test := range map[string]struct {
		entries map[string]string
		want    string
	}{
		"newest first": {map[string]string{
			"kairos-9-aa.conf": deployment("9"), "kairos-10-bb+3.conf": deployment("10"), "kairos-recovery.conf": recovery,
		}, "kairos-10-bb+3.conf kairos-9-aa.conf kairos-recovery.conf"},
		"bad behind recovery": {map[string]string{
			"kairos-9-aa.conf": deployment("9"), "kairos-10-bb+0-3.conf": deployment("10"), "kairos-recovery.conf": recovery,
		}, "kairos-9-aa.conf kairos-recovery.conf kairos-10-bb+0-3.conf"},
		"all bad": {map[string]string{
			"kairos-9-aa+0-3.conf": deployment("9"), "kairos-10-bb+0-3.conf": deployment("10"), "kairos-recovery.conf": recovery,
		}, "kairos-recovery.conf kairos-10-bb+0-3.conf kairos-9-aa+0-3.conf"},
		"foreign without sort-key last": {map[string]string{
			"debian.conf": "linux /x\nversion 99\n", "kairos-1-aa.conf": deployment("1"),
		}, "kairos-1-aa.conf debian.conf"},
	} {
		if got := order(t, test.entries); got != test.want {
			t.Errorf("%s: %s; want %s", name, got, test.want)
		}
	}
}

// systemd's own comparison is the oracle.
func TestCompareVersions(t *testing.T) {
	words := []string{"", "1", "2", "10", "1.0", "1.0.1", "1~rc1", "1-1", "1^post", "a", "b", "1a", "1.a", "01", "122.1", "123~rc1-1", "123", "123-a", "123-a.1", "123^patch", "12_3", "6.12.9", "6.12.10", "6.12.9+deb13-cloud-amd64", "1..2", "..", "~", "~~"}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here to compare with")
	}
	for _, a := range words {
		for _, b := range words {
			out, _ := exec.Command(analyze, "compare-versions", "--", a, b).Output()
			fields := strings.Fields(strings.TrimSpace(string(out)))
			sign := ""
			for _, f := range fields {
				if f == "<" || f == ">" || f == "==" {
					sign = f
				}
			}
			if sign == "" {
				t.Skipf("systemd-analyze compare-versions %q %q: %q", a, b, out)
			}
			want := map[string]int{"<": -1, "==": 0, ">": 1}[sign]
			if got := CompareVersions(a, b); got != want {
				t.Errorf("compare %q with %q: %d, systemd says %d", a, b, got, want)
			}
		}
	}
}

func TestPublishAndRemove(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	esp := ESP{root}
	if entries, err := esp.Entries(); err != nil || len(entries) != 0 {
		t.Fatalf("empty ESP: %v, %v", entries, err)
	}
	e := Entry{
		Name: Name{"kairos-1-0123456789ab", true, 3, 0}, Title: "Debian\nlinux /evil", SortKey: "kairos", Version: "1",
		Linux: "/kairos/linux-aa", Initrd: []string{"/kairos/initrd-bb"}, Options: "quiet",
	}
	if err := esp.Publish(e); err != nil {
		t.Fatal(err)
	}
	entries, err := esp.Entries()
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	got := entries[0]
	if got.Title != "Debian linux /evil" || got.Linux != e.Linux || strings.Join(got.Files(), " ") != "kairos/linux-aa kairos/initrd-bb" {
		t.Errorf("read back %+v", got)
	}
	// The loader counts down meanwhile; removal goes by the base name.
	if err := os.Rename(filepath.Join(dir, EntriesDir, "kairos-1-0123456789ab+3.conf"), filepath.Join(dir, EntriesDir, "kairos-1-0123456789ab+2-1.conf")); err != nil {
		t.Fatal(err)
	}
	if err := esp.Remove("kairos-1-0123456789ab"); err != nil {
		t.Fatal(err)
	}
	if files, _ := os.ReadDir(filepath.Join(dir, EntriesDir)); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
	if err := esp.Publish(Entry{Name: Name{Base: "../evil"}}); err == nil {
		t.Error("published an entry outside of the directory")
	}
}

// Whatever files there are of an entry, one is left, with the counters that were
// asked for and the content that the menu would have shown; other entries stay.
func TestCount(t *testing.T) {
	for name, test := range map[string]struct {
		files []string // the first is the one that the menu shows first
		to    Name
	}{
		"blessed":              {[]string{"x+2-1.conf"}, Name{Base: "x"}},
		"bad":                  {[]string{"x.conf"}, Name{"x", true, 0, 3}},
		"already so":           {[]string{"x+3.conf"}, Name{"x", true, 3, 0}},
		"twice":                {[]string{"x+2-1.conf", "x.conf"}, Name{"x", true, 0, 3}},
		"twice, to the second": {[]string{"x+2-1.conf", "x.conf"}, Name{Base: "x"}},
		"twice, to the first":  {[]string{"x+2-1.conf", "x.conf"}, Name{"x", true, 2, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if err := root.MkdirAll(EntriesDir, 0o755); err != nil {
				t.Fatal(err)
			}
			for _, file := range append([]string{"xx.conf"}, test.files...) {
				if err := root.WriteFile(EntriesDir+"/"+file, []byte("title "+file+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			esp := ESP{root}
			if err := esp.Count(test.to); err != nil {
				t.Fatal(err)
			}
			entries, err := esp.Entries()
			if err != nil || len(entries) != 2 {
				t.Fatalf("%+v, %v", entries, err)
			}
			for _, e := range entries {
				if e.Name.Base == "x" && (e.Name != test.to || e.Title != test.files[0]) {
					t.Errorf("%s with the content of %s", e.Name, e.Title)
				}
			}
			if err := esp.Count(Name{Base: "absent"}); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("absent: %v", err)
			}
		})
	}
}

// A power cut can leave the name of an entry with nothing in it.
func TestCountPassesOverEmptyEntries(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	esp := ESP{root}
	if err := esp.Publish(Entry{Name: Name{"x", true, 2, 1}, Linux: "/linux"}); err != nil {
		t.Fatal(err)
	}
	for _, to := range []Name{{Base: "x"}, {"x", true, 3, 0}} {
		for _, empty := range []Name{{Base: "x"}, {"x", true, 3, 0}, {"x", true, 0, 3}} {
			if err := root.WriteFile(EntriesDir+"/"+empty.String(), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := esp.Publish(Entry{Name: Name{"x", true, 2, 1}, Linux: "/linux"}); err != nil {
				t.Fatal(err)
			}
			if err := esp.Count(to); err != nil {
				t.Fatal(err)
			}
			entries, err := esp.Entries()
			if err != nil || len(entries) != 1 || entries[0].Name != to || entries[0].Linux != "/linux" {
				t.Errorf("to %s, %s is empty: %+v, %v", to, empty, entries, err)
			}
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"a+3.conf", "a+2-1.conf", "a.conf", "+.conf", "a+-1.conf", "a+99999999999.conf"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		if err != nil {
			return
		}
		if n.Left < 0 || n.Done < 0 || n.Base == "" {
			t.Errorf("%q: %+v", s, n)
		}
		if again, err := ParseName(n.String()); err == nil && again.Base != n.Base {
			t.Errorf("%q: %+v, then %+v", s, n, again)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("title x\nlinux /a\ninitrd /b\noptions c\noptions d\n"))
	f.Add([]byte("# comment\n\x00\n\xff title"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Parse(Name{Base: "x"}, data)
		if err != nil {
			return
		}
		again, err := Parse(e.Name, e.Bytes())
		if err == nil && len(again.Initrd) != len(e.Initrd) {
			t.Errorf("%q: %+v, then %+v", data, e, again)
		}
	})
}

func TestRemoveFile(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	esp := ESP{root}
	for _, n := range []Name{{Base: "x"}, {"x", true, 2, 1}, {"x", true, 0, 3}} {
		if err := esp.Publish(Entry{Name: n, Linux: "/linux"}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // gone already is no error
		if err := esp.RemoveFile(Name{"x", true, 2, 1}); err != nil {
			t.Error(err)
		}
	}
	entries, err := esp.Entries()
	if err != nil || len(entries) != 2 || entries[0].Name.Counted || entries[1].Name.Done != 3 {
		t.Errorf("%v, %v", entries, err)
	}
	if err := esp.RemoveFile(Name{Base: "../../x"}); err == nil {
		t.Error("a path is no name")
	}
}

// What another system left and nobody can read hides nothing of ours; an entry
// of ours that can't be read is not taken for one that isn't there.
func TestUnreadableEntries(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	esp := ESP{Root: root}
	if err := esp.Publish(Entry{Name: Name{Base: "kairos-1-aa"}, Linux: "/l"}); err != nil {
		t.Fatal(err)
	}
	// A directory can't be read, nor can what is too large.
	if err := errors.Join(root.Mkdir(EntriesDir+"/other.conf", 0o755), root.WriteFile(EntriesDir+"/large.conf", make([]byte, maxEntry+1), 0o644)); err != nil {
		t.Fatal(err)
	}
	if entries, err := esp.Entries(); err != nil || len(entries) != 1 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if err := root.Mkdir(EntriesDir+"/kairos-2-bb.conf", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := esp.Entries(); err == nil {
		t.Error("an entry of ours was passed over")
	}
}
