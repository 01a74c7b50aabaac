// Package testroot creates root file systems for tests: empty ones, and ones with a
// shell.
package testroot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// New returns a root with the directories and the account files of a small
// Debian image, links included.
func New(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"dev", "etc/default", "etc/skel/.config", "etc/kairos", "home", "oem", "proc", "root", "run", "sys", "system/oem", "tmp", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "usr/local/cloud-config", "var"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	must(t, os.Symlink("/run", filepath.Join(dir, "var/run")))
	for _, l := range []string{"bin", "lib", "lib64", "sbin"} {
		must(t, os.Symlink("usr/"+l, filepath.Join(dir, l)))
	}
	for name, content := range files {
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, "shadow") {
			mode = 0o640
		}
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), mode))
	}
	return dir
}

var files = map[string]string{
	"etc/passwd": "root:x:0:0:root:/root:/bin/bash\n" +
		"daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n" +
		"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
	"etc/group":           "root:x:0:\ndaemon:x:1:\nsudo:x:27:\nshadow:x:42:\nusers:x:100:\nnogroup:x:65534:\n",
	"etc/shadow":          "root:*:20000:0:99999:7:::\ndaemon:*:20000:0:99999:7:::\nnobody:*:20000:0:99999:7:::\n",
	"etc/gshadow":         "root:*::\ndaemon:*::\nsudo:*::\nshadow:*::\nusers:*::\nnogroup:*::\n",
	"etc/hosts":           "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
	"etc/login.defs":      "# comment\nUID_MIN\t\t\t 1000\nUID_MAX\t\t\t60000\nGID_MIN 1000\nGID_MAX 60000\nUSERGROUPS_ENAB yes\nUMASK 022\n",
	"etc/default/useradd": "# defaults\nSHELL=/bin/bash\n",
	"etc/skel/.profile":   "# profile\n",
	"etc/skel/.config/rc": "# rc\n",
}

// WithShell copies /bin/sh and some tools with their libraries into a root. It skips
// the test without root, which chroot(2) needs.
func WithShell(t testing.TB, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for chroot")
	}
	for _, name := range []string{"sh", "cat", "id", "ls", "sleep", "touch", "tr"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("needs %s: %v", name, err)
		}
		copyFile(t, path, filepath.Join(dir, "usr/bin", name))
		libraries, _ := exec.Command("ldd", path).Output() // fails for static programs
		for word := range strings.FieldsSeq(string(libraries)) {
			if strings.HasPrefix(word, "/") {
				copyFile(t, word, filepath.Join(dir, word))
			}
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "dev/null"), nil, 0o666))
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(to), 0o755))
	data, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, data, 0o755))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
