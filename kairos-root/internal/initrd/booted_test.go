package initrd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"

	"github.com/kairos-io/toolkit/kairos-root/internal/mounttest"
)

var (
	imageA = "sha256:" + strings.Repeat("a", 64)
	imageB = "sha256:" + strings.Repeat("b", 64)
)

func record(serial uint64, image string) deployment.Record {
	return deployment.Record{ID: deployment.NewID(serial, image), Serial: serial, ImageDigest: image, Version: image[7:8]}
}

func TestIdentify(t *testing.T) {
	// 3 is a rollback to the image of 1.
	records := []deployment.Record{record(1, imageA), record(2, imageB), record(3, imageA)}
	for name, tc := range map[string]struct {
		entry, image, id, version string
		records                   []deployment.Record
	}{
		"entry":               {"kairos-1-aaaaaaaaaaaa", imageA, "1-aaaaaaaaaaaa", "a", records},
		"entry of the newest": {"kairos-3-aaaaaaaaaaaa", imageA, "3-aaaaaaaaaaaa", "a", records},
		"stale entry":         {"kairos-1-aaaaaaaaaaaa", imageB, "2-bbbbbbbbbbbb", "b", records},
		"no entry":            {"", imageA, "3-aaaaaaaaaaaa", "a", records},
		"recovery":            {"kairos-recovery", imageB, "2-bbbbbbbbbbbb", "b", records},
		"no records":          {"kairos-1-aaaaaaaaaaaa", imageA, "1-aaaaaaaaaaaa", "", nil},
		"nothing":             {"other", imageA, "", "", nil},
	} {
		b := deployment.Booted{Entry: tc.entry, ImageDigest: tc.image}
		identify(&b, tc.records)
		if b.ID != tc.id || b.Version != tc.version {
			t.Errorf("%s: id %q, version %q; want %q, %q", name, b.ID, b.Version, tc.id, tc.version)
		}
	}
}

func TestIsPassive(t *testing.T) {
	records := []deployment.Record{record(1, imageA), record(2, imageB)}
	for name, tc := range map[string]struct {
		id      string
		entries []string
		records []deployment.Record
		want    bool
	}{
		"newest":              {"2-bbbbbbbbbbbb", []string{"kairos-2-bbbbbbbbbbbb.conf", "kairos-1-aaaaaaaaaaaa.conf"}, records, false},
		"after a fallback":    {"1-aaaaaaaaaaaa", []string{"kairos-1-aaaaaaaaaaaa.conf", "kairos-2-bbbbbbbbbbbb+0-3.conf"}, records, true},
		"newer systemd-boot":  {"1-aaaaaaaaaaaa", []string{"kairos-1-aaaaaaaaaaaa", "kairos-2-bbbbbbbbbbbb"}, records, true},
		"not in the menu":     {"1-aaaaaaaaaaaa", []string{"kairos-1-aaaaaaaaaaaa.conf", "auto-reboot", "kairos-recovery.conf"}, records, false},
		"no menu, old":        {"1-aaaaaaaaaaaa", nil, records, true},
		"no menu, newest":     {"2-bbbbbbbbbbbb", nil, records, false},
		"unknown deployment":  {"", []string{"kairos-2-bbbbbbbbbbbb.conf"}, records, false},
		"numbers, not string": {"9-aaaaaaaaaaaa", []string{"kairos-10-bbbbbbbbbbbb.conf"}, nil, true},
	} {
		if got := isPassive(tc.id, tc.entries, tc.records); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestDescribe reads a whole machine: the second disk has the same labels.
func TestDescribe(t *testing.T) {
	m := mounttest.NewMachine(t)
	m.Add("vda", "1", "COS_GRUB")
	m.Add("vdb", "1", "COS_GRUB")
	n := &node{t: t, machine: m, run: t.TempDir(), sysroot: t.TempDir()}
	n.args.Image, n.args.Store = imageA[7:], "COS_STATE"
	store, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	mounttest.Write(t, filepath.Join(store.Name(), "deployments/1-aaaaaaaaaaaa.json"), "damaged")
	i := n.initrd()
	part, err := i.Finder.FindOn("vdb", "COS_GRUB")
	if err != nil {
		t.Fatal(err)
	}
	m.Variable("LoaderEntrySelected", "kairos-1-aaaaaaaaaaaa.conf")
	m.Variable("LoaderEntries", "kairos-1-aaaaaaaaaaaa.conf", "kairos-2-bbbbbbbbbbbb+0-3.conf", "auto-reboot")
	b, err := i.describe(store, part)
	if err != nil || b.Mode != deployment.Passive || b.ID != "1-aaaaaaaaaaaa" || b.ESP != mounttest.UUID("vdb1") || b.Disk != "vdb" {
		t.Errorf("booted %+v, %v", b, err)
	}
	if !strings.Contains(n.log.String(), "read deployment records") {
		t.Error("the damaged record is not in the log")
	}
	m.Variable("LoaderDevicePartUUID", strings.ToUpper(mounttest.UUID("vda1")))
	if b, err = i.describe(store, part); err != nil || b.ESP != mounttest.UUID("vda1") {
		t.Errorf("ESP %q, %v", b.ESP, err)
	}
}

func TestUnits(t *testing.T) {
	n := &node{t: t, machine: mounttest.NewMachine(t), run: t.TempDir(), sysroot: t.TempDir()}
	system := filepath.Join(n.run, "systemd/system")
	t.Run("what firmware says is no path", func(t *testing.T) {
		if err := n.initrd().writeUnits("../../etc/passwd"); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(system, "efi.mount")); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
	mounttest.Write(t, n.in(tmpMount), "")
	for range 2 {
		if err := n.initrd().writeUnits(mounttest.UUID("vda1")); err != nil {
			t.Fatal(err)
		}
	}
	for link, want := range map[string]string{"efi.automount": "../efi.automount", "tmp.mount": "/" + tmpMount} {
		if got := mustLink(t, filepath.Join(system, "local-fs.target.wants", link)); got != want {
			t.Errorf("%s: %q", link, got)
		}
	}
}

func TestNodeSettings(t *testing.T) {
	n := &node{t: t, machine: mounttest.NewMachine(t), run: t.TempDir(), sysroot: t.TempDir()}
	if err := n.initrd().writeNodeSettings(); err != nil {
		t.Fatal("an image without them:", err)
	}
	// Those that the toolkit installs.
	if err := os.CopyFS(n.in(nodeSettings), os.DirFS("../../../units/node/systemd")); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	mounttest.Write(t, outside, "from outside")
	if err := os.Symlink(outside, n.in(nodeSettings+"/system.conf.d/60-link.conf")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := n.initrd().writeNodeSettings(); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"system/boot-complete.target.d/50-kairos.conf", "system/emergency.target.d/50-kairos.conf",
		"system/systemd-bless-boot.service.d/50-kairos.conf", "system/systemd-boot-update.service.d/50-kairos.conf",
		"system/systemd-journal-flush.service.d/50-kairos.conf", "system.conf.d/50-kairos.conf"} {
		want := mounttest.Content(t, filepath.Join("../../../units/node/systemd", file))
		if got := mounttest.Content(t, filepath.Join(n.run, "systemd", file)); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
	if _, err := os.Lstat(filepath.Join(n.run, "systemd/system.conf.d/60-link.conf")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a link was followed:", err)
	}
	mounttest.Write(t, n.in(nodeSettings+"/system/huge.conf"), strings.Repeat("#", maxNodeFile+1))
	if err := n.initrd().writeNodeSettings(); err == nil || !strings.Contains(err.Error(), "huge.conf: larger than") {
		t.Error("a huge file:", err)
	}
}

func TestKeepMounted(t *testing.T) {
	n := &node{t: t, machine: mounttest.NewMachine(t), run: t.TempDir(), sysroot: t.TempDir()}
	system := filepath.Join(n.run, "systemd/system")
	if err := os.MkdirAll(system, 0o755); err != nil {
		t.Fatal(err)
	}
	err := n.initrd().keepMounted(Mount{Target: "/var/lib/a-b%", Kind: "bind", Source: ".state/x"}, Mount{Target: "/etc", Kind: "ephemeral"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		`var-lib-a\x2db\x25.mount`: "\n[Mount]\nWhat=/run/kairos/persistent/.state/x\nWhere=/var/lib/a-b%%\n",
		"etc.mount":                "DefaultDependencies=no\n\n[Mount]\nWhat=kairos\nWhere=/etc\n",
	} {
		if got := mounttest.Content(t, filepath.Join(system, name)); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestUnitName(t *testing.T) {
	for path, want := range map[string]string{
		"/var/lib/ca-certificates": `var-lib-ca\x2dcertificates`, "/etc/init.d": "etc-init.d", "/.a/.b c": `\x2ea-.b\x20c`,
		"/": "", "/usr/local/": "usr-local", "/ö": `\xc3\xb6`,
	} {
		if got := unitName(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
		// systemd's own opinion, where it is at hand.
		if out, err := exec.Command("systemd-escape", "--path", path).Output(); err == nil && want != "" && strings.TrimSpace(string(out)) != want {
			t.Errorf("systemd-escape %s: %q, want %q", path, out, want)
		}
	}
}

func TestFailureNote(t *testing.T) {
	run := t.TempDir()
	if text, err := ReadFailure(run); text != "" || err != nil {
		t.Errorf("before: %q, %v", text, err)
	}
	if err := NoteFailure(run, exit.Hint(errors.New("no disk"), "attach it")); err != nil {
		t.Fatal(err)
	}
	if text, err := ReadFailure(run); text != "no disk\nhint: attach it" || err != nil {
		t.Errorf("after: %q, %v", text, err)
	}
	for range 2 {
		if err := ForgetFailure(run); err != nil {
			t.Error(err)
		}
	}
	if text, err := ReadFailure(run); text != "" || err != nil {
		t.Errorf("forgotten: %q, %v", text, err)
	}
}

func TestMachineIDForm(t *testing.T) {
	for s, want := range map[string]bool{
		newMachineID(): true, strings.Repeat("0", 32): false, "uninitialized": false, "": false,
		strings.Repeat("A", 32): false, strings.Repeat("a", 33): false,
	} {
		if isMachineID(s) != want {
			t.Errorf("%q: want %v", s, want)
		}
	}
	if id := newMachineID(); id[12] != '4' || !strings.ContainsRune("89ab", rune(id[16])) {
		t.Errorf("%q is no version 4 UUID", id)
	}
}
