package cmd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// programs builds this program and kairos-config and returns their directory.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"kairos-upgrade", "kairos-config"} {
		cmd := exec.Command("go", "build", "-trimpath", "-tags", "containers_image_openpgp exclude_graphdriver_btrfs urfave_cli_no_docs", "-o", dir, ".")
		cmd.Dir, cmd.Env = "../../"+name, append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	return dir
}

// TestRunHook runs a stage in the root of a deployment: what it writes beneath /oem and /usr/local stays, and all
// else goes away and is named. tests/e2e does it on a store with fs-verity.
func TestRunHook(t *testing.T) {
	busybox, err := os.ReadFile("/bin/busybox")
	if os.Geteuid() != 0 || err != nil {
		t.Skip("needs root, and /bin/busybox")
	}
	dir, bin := t.TempDir(), programs(t)
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) {
		t.Helper()
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755))
	}
	run := func(want int, argv ...string) string {
		t.Helper()
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Fatalf("%v: exit status %d, want %d\n%s", argv, got, want, out)
		}
		return string(out)
	}

	write("image/bin/busybox", string(busybox))
	for _, link := range []string{"sh", "mkdir", "touch", "rm", "cat", "cp", "echo", "grep", "chmod", "readlink"} {
		must(t, os.Symlink("busybox", dir+"/image/bin/"+link))
	}
	write("image/etc/os-release", "ID=new\nVERSION_ID=2\nPRETTY_NAME=\"New 2\"\n")
	write("image/etc/gone", strings.Repeat("bytes of the image\n", 100))
	write("image/etc/changed", "before\n")
	write("image/usr/lib/modules/6.6/vmlinuz", "kernel")
	write("image/usr/lib/modules/6.6/initramfs.img", "initrd")
	must(t, os.Symlink("../run/systemd/resolve/stub-resolv.conf", dir+"/image/etc/resolv.conf"))
	write("esp/loader/entries/.keep", "")
	write("local/.keep", "")
	must(t, os.Mkdir(dir+"/store", 0o755))
	write("oem/90.yaml", `#cloud-config
stages:
  after-upgrade-chroot:
  - name: It sees
    commands:
    - grep -q '^ID=new' /etc/os-release
    - test -e /dev/null -a -e /proc/self -a -e /sys/kernel
    - cat /etc/resolv.conf > /oem/resolv.conf
    - readlink /proc/self/ns/mnt > /oem/namespace
  - name: It writes
    files: [{path: /usr/local/kept, content: kept, permissions: 0644}]
    commands:
    - mkdir -p /data/empty && touch /one /two /tmp/three /run/four /etc/five /usr/bin-six
    - rm /etc/gone
    - echo after > /etc/changed
  after-install-chroot:
  - commands: [touch /oem/wrong]
`)
	run(0, "kairos-upgrade", "stage", "--quiet", "--store=store", "--esp=esp", "dir:"+dir+"/image")
	hook := []string{"kairos-upgrade", "run-hook", "--store=" + dir + "/store", "--esp=" + dir + "/esp", "--oem=" + dir + "/oem", "--local=" + dir + "/local", "after-upgrade-chroot"}
	t.Cleanup(func() { os.Remove("/run/kairos/config/after-upgrade-chroot.json") })
	said := run(0, hook...)
	const lost = "thrown away, since an image is what its digest says: /data/empty, /etc/changed, /etc/five, /etc/gone (removed), /one and 2 more"
	if !strings.Contains(said, lost) || strings.Contains(said, "failed") {
		t.Errorf("it says: %s", said)
	}
	read := func(name string) string {
		t.Helper()
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(data))
	}
	if read(dir+"/local/kept") != "kept" || read(dir+"/image/etc/changed") != "before" {
		t.Error("what stays, and what does not, is otherwise")
	}
	if own, _ := os.Readlink("/proc/self/ns/mnt"); read(dir+"/oem/namespace") == own {
		t.Error("the stage ran in the mount namespace of this machine")
	}
	if here, err := os.ReadFile("/etc/resolv.conf"); err == nil && strings.TrimSpace(string(here)) != read(dir+"/oem/resolv.conf") {
		t.Error("the name servers are others")
	}
	if _, err := os.Stat(dir + "/oem/wrong"); err == nil {
		t.Error("another stage ran")
	}
	if record := read("/run/kairos/config/after-upgrade-chroot.json"); !strings.Contains(record, lost) || strings.Contains(record, `"errors":["`) {
		t.Errorf("the record: %s", record)
	}
	mounts := read("/proc/self/mountinfo")
	if strings.Contains(mounts, hookDir) {
		t.Errorf("left mounted: %s", mounts)
	}
	// The store is as before, and no other image is run than that of the digest.
	run(0, "kairos-upgrade", "verify", "--quiet", "--store=store", "--esp=esp")
	images, _ := filepath.Glob(dir + "/store/images/*")
	must(t, os.Rename(images[0], images[0]+".old"))
	write("store/images/"+filepath.Base(images[0]), "another")
	if said := run(1, hook...); !strings.Contains(said, "the stage after-upgrade-chroot is not run: mount the image of") {
		t.Errorf("it says: %s", said)
	}
	must(t, os.Rename(images[0]+".old", images[0]))

	// A link of the image into what is this machine's is not followed.
	must(t, os.Remove(dir+"/image/etc/resolv.conf"))
	must(t, os.Symlink("/oem/stolen", dir+"/image/etc/resolv.conf"))
	run(0, "kairos-upgrade", "stage", "--quiet", "--store=store", "--esp=esp", "dir:"+dir+"/image")
	hook[len(hook)-1] = "after-install-chroot"
	t.Cleanup(func() { os.Remove("/run/kairos/config/after-install-chroot.json") })
	run(0, hook...)
	if _, err := os.Stat(dir + "/oem/wrong"); err != nil {
		t.Error("the stage did not run")
	}
	if _, err := os.Stat(dir + "/oem/stolen"); err == nil {
		t.Error("the name servers were written to a directory of this machine")
	}
}
