package cloudconfig

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/lib/report"
)

func write(t *testing.T, file, content string) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o600)); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestFiles(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no kairos-config
	dir := t.TempDir()
	a := write(t, dir+"/a.yaml", "#cloud-config\nhostname: a\n")
	b := write(t, dir+"/b.yaml", "\n# by hand\n#kairos-config \r\nusers: []\n")
	configs, err := Files(t.Context(), Validator{}, []string{a, b})
	if err != nil || len(configs) != 2 || configs[0].Name != "90_custom.yaml" || configs[1].Name != "91_custom.yaml" ||
		string(configs[1].Data) != "\n# by hand\n#kairos-config \r\nusers: []\n" {
		t.Fatalf("%+v, %v", configs, err)
	}
	for _, test := range []struct{ file, want string }{
		{write(t, dir+"/none", "hostname: a\n"), "none of its first ten lines is #cloud-config"},
		{write(t, dir+"/late", strings.Repeat("#\n", 10)+"#cloud-config\n"), "none of its first ten lines"},
		{write(t, dir+"/near", "#cloud-config-archive\n"), "none of its first ten lines"},
		{write(t, dir+"/large", "#cloud-config\n"+strings.Repeat("#", maxSize)), "larger than 1 MB"},
		{dir + "/absent", "absent: no such file"},
		{dir, "is a directory"},
	} {
		if _, err := Files(t.Context(), Validator{}, []string{test.file}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.file, err, test.want)
		}
	}
}

func TestFilesAsksKairosConfig(t *testing.T) {
	bin := t.TempDir()
	script := write(t, bin+"/kairos-config", "#!/bin/sh\necho '{\"message_type\":\"exit_error\",\"code\":1,\"message\":\"line 2: unknown key\",\"hint\":\"hostname?\"}' >&2\nexit 1\n")
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	file := write(t, t.TempDir()+"/a.yaml", "#cloud-config\nhostnam: a\n")
	if _, err := Files(t.Context(), Validator{}, []string{file}); err == nil || !strings.Contains(err.Error(), "line 2: unknown key") {
		t.Errorf("%v", err)
	}
}

func TestLive(t *testing.T) {
	root := t.TempDir()
	write(t, root+"/run/initramfs/live/cloud.yaml", "medium")
	write(t, root+"/oem/90_custom.yaml", "oem")
	write(t, root+"/oem/sub/10_x.yml", "sub")
	write(t, root+"/oem/.hidden.yaml", "no")
	write(t, root+"/oem/.git/y.yaml", "no")
	write(t, root+"/oem/notes.txt", "no")
	write(t, root+"/oem/large.yaml", strings.Repeat("#", maxSize+1))
	write(t, root+"/etc/kairos/image.yaml", "belongs to the image")
	if err := os.Symlink("90_custom.yaml", root+"/oem/link.yaml"); err != nil {
		t.Fatal(err)
	}
	configs, err := Live(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range configs {
		got = append(got, c.Name+"="+string(c.Data)+" from "+c.From)
	}
	want := "80_cloud.yaml=medium from /run/initramfs/live/cloud.yaml, 82_90_custom.yaml=oem from /oem/90_custom.yaml, 82_sub_10_x.yml=sub from /oem/sub/10_x.yml"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
}

// TestFetched: what the installer has fetched is what the first boot finds.
func TestFetched(t *testing.T) {
	root := t.TempDir()
	now := time.Now()
	write(t, root+"/proc/cmdline", `quiet config_url=https://example.com/old kairos.config_url="https://example.com/a?x=1"`)
	old := write(t, root+report.ConfigCopies+"/aa", "#cloud-config\n")
	if err := os.Chtimes(old, now.Add(-time.Hour), now.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	write(t, root+report.ConfigCopies+"/bb", "#cloud-config\nhostname: b\n")
	write(t, root+report.ConfigCopies+"/.bb.part", "half")
	names := func(since time.Time, live bool) string {
		configs, err := Fetched(root, since, live)
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, c := range configs {
			list = append(list, c.Name)
		}
		return strings.Join(list, " ")
	}
	if got := names(time.Time{}, true); got != "83_config_url.yaml .config-url/aa .config-url/bb" {
		t.Error(got)
	}
	if got := names(now.Add(-time.Minute), false); got != ".config-url/bb" {
		t.Error("a machine's own copies are not the node's: ", got)
	}
	configs, _ := Fetched(root, time.Time{}, true)
	if text := string(configs[0].Data); text != "#cloud-config\nconfig_url: \"https://example.com/a?x=1\"\n" {
		t.Error(text)
	}
	if configs, err := Fetched(t.TempDir(), time.Time{}, true); err != nil || len(configs) != 0 {
		t.Error(configs, err)
	}
}
