// Package differential applies configs by yip, which applies those of Kairos,
// and by kairos-config, to equal roots, and compares the trees.
//
// What it can't prove: what needs a service manager, a network or a disk; those
// keys have tests of their own. The inputs stand in inputs.go.
package differential

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// build builds a program of a module of its own.
func build(t *testing.T, module, tags string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-trimpath", "-tags", tags, "-o", program, ".")
	cmd.Dir, cmd.Env = module, append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", module, err, out)
	}
	return program
}

// shell are the programs of busybox that the roots have.
var shell = strings.Fields("sh cat echo sed grep mkdir touch rm ls chmod test true false cut tr head tail id mv cp awk sort wc env printf")

var etc = map[string]string{
	"passwd":     "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\ndaemon:x:1:1::/:/bin/false\n",
	"group":      "root:x:0:\ndaemon:x:1:\nsudo:x:27:\nusers:x:100:\n",
	"shadow":     "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n",
	"gshadow":    "root:*::\ndaemon:*::\nsudo:*::\nusers:*::\n",
	"hosts":      "127.0.0.1 localhost\n",
	"hostname":   "before\n",
	"machine-id": "0123456789abcdef0123456789abcdef\n",
	"os-release": "PRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"24.04\"\nID=ubuntu\n",
	"present":    "old content\n",
}

// newRoot makes the root that an input is applied to.
func newRoot(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range strings.Fields("bin etc oem proc run tmp usr/bin usr/lib dev sys home root usr/local var opt system/oem") {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	data, err := os.ReadFile("/bin/busybox")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "bin/busybox"), data, 0o755))
	for _, name := range shell {
		must(t, os.Symlink("busybox", filepath.Join(dir, "bin", name)))
	}
	must(t, os.Symlink("../../bin/env", filepath.Join(dir, "usr/bin/env")))
	for name, content := range etc {
		must(t, os.WriteFile(filepath.Join(dir, "etc", name), []byte(content), 0o644))
	}
	must(t, os.WriteFile(filepath.Join(dir, "dev/null"), nil, 0o666))
	must(t, os.WriteFile(filepath.Join(dir, "proc/cmdline"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "oem/90.yaml"), []byte(config), 0o644))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree is what a root holds: of each path its kind, mode, owner and content.
// What a program keeps for itself is no part of it.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	must(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path, _ := filepath.Rel(root, name)
		if path == "run/kairos" || path == "var/lib/kairos" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil || slices.Contains([]string{".", "yip", "var/lib"}, path) || strings.HasSuffix(path, ".lock") || strings.HasSuffix(path, "-") {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		text := fmt.Sprintf("%v %d:%d", info.Mode(), st.Uid, st.Gid)
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(name)
			text += " -> " + target
		case info.Mode().IsRegular():
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			if path == "etc/shadow" { // the day of the change
				data = withoutDays(data)
			}
			text += " " + excerpt(data)
		}
		found[path] = text
		return nil
	}))
	return found
}

func withoutDays(shadow []byte) []byte {
	var out []string
	for line := range strings.Lines(string(shadow)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) > 2 {
			fields = fields[:2]
		}
		out = append(out, strings.Join(fields, ":"))
	}
	return []byte(strings.Join(out, "\n"))
}

func excerpt(data []byte) string {
	if len(data) > 300 {
		return fmt.Sprintf("%x", sha256.Sum256(data))
	}
	return fmt.Sprintf("%q", data)
}

// differences names the paths that two trees have not alike.
func differences(yip, ours map[string]string) []string {
	var list []string
	for path, text := range yip {
		if ours[path] != text {
			list = append(list, fmt.Sprintf("%s: yip %s, kairos-config %s", path, text, ours[path]))
		}
	}
	for path, text := range ours {
		if yip[path] == "" {
			list = append(list, fmt.Sprintf("%s: yip nothing, kairos-config %s", path, text))
		}
	}
	slices.Sort(list)
	return list
}

// TestDifferential: every difference has a reason.
func TestDifferential(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for chroot")
	}
	if _, err := os.Stat("/bin/busybox"); errors.Is(err, fs.ErrNotExist) {
		t.Skip("needs /bin/busybox: package busybox-static")
	}
	yip := build(t, "../peer/stages", "")
	ours := build(t, "../../kairos-config", "nethttpomithttp2 urfave_cli_no_docs")
	all := inputs()
	if testing.Short() {
		all = all[:20]
	} else if len(all) < 150 {
		t.Fatalf("only %d inputs", len(all))
	}
	equal, byDesign, unexplained := 0, map[string]int{}, 0
	for _, in := range all {
		stage := in.stage
		if stage == "" {
			stage = "boot"
		}
		theirRoot, ourRoot := newRoot(t, in.config), newRoot(t, in.config)
		data, err := os.ReadFile(yip)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(theirRoot, "yip"), data, 0o755))
		cmd := exec.Command("/yip", "--stage", stage, "/oem")
		cmd.Dir, cmd.Env = "/", []string{"PATH=/bin:/usr/bin", "HOME=/root"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: theirRoot, Cloneflags: syscall.CLONE_NEWUTS | syscall.CLONE_NEWNS}
		saidYip, _ := cmd.CombinedOutput() // a failing step is no reason not to compare
		saidOurs, _ := exec.Command(ours, "run-stage", "--root", ourRoot, stage).CombinedOutput()
		must(t, os.Remove(filepath.Join(theirRoot, "yip")))
		found := differences(tree(t, theirRoot), tree(t, ourRoot))
		switch {
		case len(found) == 0 && in.differs == "":
			equal++
		case len(found) == 0:
			t.Errorf("%s: equal, though it is to differ: %s", in.name, in.differs)
		case in.differs != "":
			byDesign[in.differs]++
		default:
			unexplained++
			t.Errorf("%s:\n%s\n  %s\nyip: %s\nkairos-config: %s", in.name, in.config, strings.Join(found, "\n  "), last(saidYip), last(saidOurs))
		}
	}
	t.Logf("%d inputs: %d equal, %d unexplained", len(all), equal, unexplained)
	for why, n := range byDesign {
		t.Logf("%d different by design: %s", n, why)
	}
}

func last(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "\n")
}
