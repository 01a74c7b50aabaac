package source

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/testroot"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// collect writes files into a root and collects its configs.
func collect(t testing.TB, files map[string]string) *Collection {
	t.Helper()
	dir := testroot.New(t)
	for name, content := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return Collect(r)
}

func value(t testing.TB, c *Collection, key string) *tree.Node {
	t.Helper()
	merged, _ := c.Merged()
	path, err := tree.ParsePath(key)
	if err != nil {
		t.Fatal(err)
	}
	return merged.Find(path)
}

func TestOrder(t *testing.T) {
	files := map[string]string{"proc/cmdline": "quiet kairos.config=who=cmdline root=x\n"}
	order := []string{"/run/initramfs/live/z.yaml", "/system/oem/z.yaml", "/etc/kairos/z.yaml", "/usr/local/cloud-config/z.yaml", "/oem/a/z.yaml", "/oem/a.yaml", "/oem/b.yml", CommandLine}
	for _, name := range order[:len(order)-1] {
		files[name] = "#cloud-config\nwho: " + name + "\nall: [" + name + "]\n"
	}
	files["/oem/c.txt"], files["/oem/.hidden.yaml"], files["/oem/d.yaml.bak"] = "who: no", "who: no", "who: no"
	c := collect(t, files)
	if len(c.Problems) > 0 {
		t.Error(c.Problems)
	}
	var got []string
	for _, d := range c.Documents {
		got = append(got, d.Source)
	}
	if strings.Join(got, " ") != strings.Join(order, " ") {
		t.Errorf("got %q\nwant %q", got, order)
	}
	if v := value(t, c, "who"); v.Text != "cmdline" || v.Pos.FileLine() != CommandLine {
		t.Errorf("got %+v", v)
	}
	if v := value(t, c, "all.4"); v.Text != "/oem/a/z.yaml" || v.Pos.FileLine() != "/oem/a/z.yaml:3" {
		t.Errorf("got %+v", v)
	}
}

func TestSkipped(t *testing.T) {
	big := "#cloud-config\na: " + strings.Repeat("x", 1<<20) + "\n"
	for _, c := range []struct{ name, content, problem string }{
		{"too big", big, "/oem/x.yaml: warning: skipped: larger than 1 MB"},
		{"no header", "a: 1\n", "/oem/x.yaml:1: warning: skipped: the first lines have no header (write #cloud-config into the first line)"},
		{"header with a space", "# cloud-config\na: 1\n", "has no header"},
		{"header too late", strings.Repeat("#\n", 10) + "#cloud-config\na: 1\n", "no header"},
		{"another language", "#!/bin/sh\necho\n", "no header"},
		{"empty", "", "no header"},
		{"binary", "#cloud-config\n\x00\x01\xff", "not valid YAML"},
		{"broken", "#cloud-config\na: [\n", "/oem/x.yaml:2:4: error: not valid YAML"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := collect(t, map[string]string{"oem/x.yaml": c.content, "oem/y.yaml": "#cloud-config\nb: 1\n"})
			want := strings.TrimPrefix(c.problem, "has ")
			if len(got.Problems) != 1 || !strings.Contains(got.Problems[0].Error(), want) {
				t.Errorf("got %v, want %s", got.Problems, want)
			}
			if v := value(t, got, "b"); v == nil || got.Skipped != 1 {
				t.Errorf("the other file must count: %v, skipped %d", v, got.Skipped)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	for _, content := range []string{
		"#cloud-config\na: 1", "#kairos-config\na: 1", "#node-config\na: 1", "#cloud-config  \r\na: 1",
		"\ufeff#cloud-config\na: 1", "## template: jinja\n#cloud-config\na: 1", "\n\n# my node\n#node-config\na: 1",
		strings.Repeat("#\n", 9) + "#cloud-config\na: 1",
	} {
		if c := collect(t, map[string]string{"oem/x.yaml": content}); value(t, c, "a") == nil {
			t.Errorf("%q: not read: %v", content, c.Problems)
		}
	}
}

// TestStagesWithoutHeader: Kairos runs the stages of such files, but merges
// nothing of them.
func TestStagesWithoutHeader(t *testing.T) {
	c := collect(t, map[string]string{"system/oem/x.yaml": "name: x\nstages: {boot: []}\n"})
	if len(c.Documents) != 1 || c.Documents[0].Header || value(t, c, "name") != nil {
		t.Errorf("got %+v", c)
	}
}

func TestUnreadable(t *testing.T) {
	dir := testroot.New(t)
	if err := os.Symlink("/nowhere", filepath.Join(dir, "oem/x.yaml")); err != nil {
		t.Fatal(err)
	}
	r, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := Collect(r, "/nowhere/y.yaml")
	if len(c.Problems) != 2 || c.Problems[0].Error() != "/oem/x.yaml: error: can't be read: no such file or directory" || c.Problems[1].Pos.Source != "/nowhere/y.yaml" {
		t.Errorf("got %v", c.Problems)
	}
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct{ line, json, problem string }{
		{"BOOT_IMAGE=x root=LABEL=y ro quiet systemd.unit=rescue.target rd.systemd.gpt_auto=0 kairos.image=sha256:0", "{}", ""},
		{"install.auto=true install.device=/dev/vda", `{"install":{"auto":true,"device":"/dev/vda"}}`, ""},
		{"install.auto kairos.config=debug", `{"install":{"auto":true},"debug":true}`, ""},
		{"kairos.config=a.b=1 kairos.config=a.b=2", `{"a":{"b":2}}`, ""},
		{"kairos.config=users.0.name=x kairos.config=users[0].uid=1000", `{"users":[{"name":"x","uid":1000}]}`, ""},
		{`kairos.config="motd=two words" kairos.config=x="y z"`, `{"motd":"two words","x":"y z"}`, ""},
		{"kairos.config=url=https://h/?a=b", `{"url":"https://h/?a=b"}`, ""},
		{`kairos.config=sysctl."net.ipv4.ip_forward"=1`, `{"sysctl":{"net":{"ipv4":{"ip_forward":1}}}}`, ""}, // the kernel's quotes, not ours
		{"kairos.config= kairos.config", "{}", ""},
		{"kairos.config=a[=1", "{}", `kernel command line: error: kairos.config: key "a[": bracket without end`},
		{"kairos.config=a=1 kairos.config=a.b=2", `{"a":1}`, `kernel command line: error: kairos.config: "b" is beneath an integer`},
		{"cos.setup=ftp://x", "{}", `kernel command line: error: cos.setup must be a URL with https:// or http://, not "ftp://x"`},
		{"cos.setup=/nowhere.yaml", "{}", "/nowhere.yaml: error: can't be read: no such file or directory"},
		{"config_url=https://h/x#sha256=" + strings.Repeat("0", 64), `{"config_url":"https://h/x#sha256=` + strings.Repeat("0", 64) + `"}`, ""},
		{"config_url=a kairos.config_url=https://h/y", `{"config_url":"https://h/y"}`, ""},
	} {
		got := collect(t, map[string]string{"proc/cmdline": c.line + "\n"})
		merged, _ := got.Merged()
		if asJSON, _ := merged.MarshalJSON(); string(asJSON) != c.json {
			t.Errorf("%s:\ngot  %s\nwant %s", c.line, asJSON, c.json)
		}
		if (c.problem == "") != (len(got.Problems) == 0) || c.problem != "" && got.Problems[0].Error() != c.problem {
			t.Errorf("%s: got %v, want %s", c.line, got.Problems, c.problem)
		}
	}
}

func FuzzCommandLine(f *testing.F) {
	f.Add(`quiet install.auto=true kairos.config=users.0.name="a b" kairos.config=a."b.c"[1]=x`)
	f.Fuzz(func(t *testing.T, line string) {
		merged, _, _ := readCommandLine(line)
		if _, err := merged.MarshalJSON(); err != nil {
			t.Fatal(err)
		}
	})
}
