package cmd

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"golang.org/x/sys/unix"
)

// small mounts a file system of size bytes over a directory: ext4 on a loop
// device, or tmpfs.
func small(t *testing.T, dir, kind string, size int) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	source := "tmpfs"
	data := fmt.Sprintf("size=%d", size)
	if kind == "ext4" {
		image := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(image, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, int64(size)); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mkfs.ext4", "-q", "-m0", image).CombinedOutput(); err != nil {
			t.Skipf("mkfs.ext4: %v: %s", err, out)
		}
		loop, err := exec.Command("losetup", "--find", "--show", image).Output()
		if err != nil {
			t.Skipf("no loop device: %v", err)
		}
		source, data = strings.TrimSpace(string(loop)), ""
		t.Cleanup(func() { exec.Command("losetup", "-d", source).Run() })
	}
	if err := unix.Mount(source, dir, kind, 0, data); err != nil {
		t.Skipf("mount %s: %v", kind, err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// fill leaves about free bytes on the file system of a directory.
func fill(t *testing.T, dir string, free int64) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, max(1, int64(st.Bavail)*st.Bsize-free)); err != nil {
		t.Fatal(err)
	}
}

// Too little space is told before anything is fetched, with figures; and when
// the estimate is overruled, the store is as it was afterwards.
func TestNoSpace(t *testing.T) {
	manyProcesses(t)
	images := testImages(t, 100, 100_000)
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			n := newNode(t)
			small(t, n.store, kind, 64<<20)
			n.want(0, "stage", images+":v1")
			n.bless(1)
			before := files(t, n.store, n.esp)
			points := 0
			for free := int64(200 << 10); ; free += 1 << 20 {
				fill(t, n.store, free)
				code, out := n.run("stage", "--force", images+":v3")
				if err := os.Remove(filepath.Join(n.store, "filler")); err != nil {
					t.Fatal(err)
				}
				if code == 0 {
					break
				}
				if code != 5 || !strings.Contains(out, "no space left on device") || !strings.Contains(out, "hint: ") {
					t.Fatalf("%d bytes free: exit status %d:\n%s", free, code, out)
				}
				if now := files(t, n.store, n.esp); now != before {
					t.Fatalf("%d bytes free: the store changed:\n%s\nwas:\n%s", free, now, before)
				}
				n.want(0, "verify")
				points++
			}
			if points < 5 {
				t.Errorf("only %d stagings ran out of space", points)
			}
			n.want(0, "verify")
		})
	}
}

func TestEstimate(t *testing.T) {
	images := testImages(t, 100, 100_000)
	n := newNode(t)
	small(t, n.store, "tmpfs", 64<<20)
	n.want(0, "stage", images+":v1")
	before := files(t, n.store, n.esp)
	fill(t, n.store, 5<<20)
	out := n.want(5, "stage", images+":v2")
	if !regexp.MustCompile(`not enough space on store \S+: 2[0-9]\.[0-9] MiB needed, 5(\.0)? MiB free`).MatchString(out) {
		t.Errorf("message:\n%s", out)
	}
	if now := files(t, n.store, n.esp); now != before {
		t.Errorf("the store changed:\n%s\nwas:\n%s", now, before)
	}
}

// Garbage is collected first when that makes the room.
func TestCollectForSpace(t *testing.T) {
	images := testImages(t, 100, 100_000)
	n := newNode(t)
	small(t, n.store, "tmpfs", 64<<20)
	n.want(0, "stage", images+":v1")
	n.bless(1)
	n.want(0, "stage", images+":v2")
	n.want(0, "pin", "2")
	n.want(0, "stage", "--force", images+":v1")
	n.bless(3)
	n.want(0, "unpin", "2") // garbage from now on, 9.5 MiB of it
	fill(t, n.store, 16<<20)
	out := n.want(0, "stage", "--json", images+":v2")
	if !strings.Contains(out, `"collected":{"deployments":["2-`) {
		t.Errorf("nothing was collected:\n%s", out)
	}
	n.want(0, "verify")
}

// A full ESP: the same promises.
func TestFullESP(t *testing.T) {
	images := testImages(t, 3, 1000)
	n := newNode(t)
	small(t, n.esp, "tmpfs", 2<<20)
	fill(t, n.esp, 300<<10)
	out := n.want(5, "stage", images+":v1")
	if !strings.Contains(out, "not enough space on the EFI system partition: ") || !strings.Contains(out, " free; 1.7 MiB belong to other files: filler\n") {
		t.Errorf("message:\n%s", out)
	}
	if left := files(t, filepath.Join(n.store, "objects"), filepath.Join(n.store, "images"), filepath.Join(n.store, "layers"), n.esp); left != "" {
		t.Errorf("left:\n%s", left)
	}
	if err := os.Remove(filepath.Join(n.esp, "filler")); err != nil {
		t.Fatal(err)
	}
	n.want(0, "stage", images+":v1")
	n.want(0, "verify")
}

// What an image needs on the ESP is found out once, by fetching it; from then on
// it is refused before. With a table of contents it is known at once.
func TestFullESPIsKnown(t *testing.T) {
	registry := osRegistry(t, 20)
	registry.Push("os", "v3", imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{{Tar: kernelLayer(t, "new"), Compression: "gzip"}}}))
	registry.Push("os", "v3-chunked", imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{{Tar: kernelLayer(t, "newer"), Compression: "zstd:chunked"}}}))
	n := newNode(t)
	small(t, n.esp, "tmpfs", 4<<20)
	n.stage(registry.Host + "/os:v1")
	n.bless(1)
	fill(t, n.esp, 300<<10)
	refused := func(fetches bool, args ...string) {
		t.Helper()
		before := registry.Blobs()
		out := n.want(5, "stage", append([]string{"--insecure"}, args...)...)
		if !strings.Contains(out, "not enough space on the EFI system partition: ") || !strings.Contains(out, " belong to other files: filler\n") {
			t.Errorf("%s: message:\n%s", args, out)
		}
		// The configuration is a blob, and so is, in parts, what has a table of contents.
		if now := registry.Blobs() - before; (now > 1) != fetches {
			t.Errorf("%s: %d blobs were fetched", args, now)
		}
	}
	v3 := registry.Host + "/os:v3"
	refused(true, v3)
	refused(false, v3)
	refused(false, "--dry-run", v3)
	n.want(5, "stage", "--insecure", registry.Host+"/os:v3-chunked")
	if needs := strings.Count(read(t, filepath.Join(n.store, "boot-need.json")), "manifest_digest"); needs != 1 {
		t.Errorf("%d images were fetched for nothing, want 1", needs)
	}
	if err := os.Remove(filepath.Join(n.esp, "filler")); err != nil {
		t.Fatal(err)
	}
	n.stage(v3)
	if _, err := os.Stat(filepath.Join(n.store, "boot-need.json")); !os.IsNotExist(err) {
		t.Errorf("it is remembered still: %v", err)
	}
	n.want(0, "verify")
}

// kernelLayer is a system with a kernel of its own.
func kernelLayer(t *testing.T, name string) []byte {
	headers := []tar.Header{}
	bodies := map[string]string{}
	for i, file := range []string{"usr/lib/modules/7/vmlinuz", "usr/lib/modules/7/initramfs.img", "usr/bin/tool"} {
		headers = append(headers, tar.Header{Name: file, Typeflag: tar.TypeReg, Mode: 0o755})
		bodies[file] = noise(len(name)*7+i, 400_000)
	}
	return imagetest.Tar(t, headers, bodies)
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Space that runs out at any file, in a way that no estimate foresees: there are
// no more inodes. Both file systems are as they were afterwards.
func TestNoInodes(t *testing.T) {
	manyProcesses(t)
	images := testImages(t, 10, 1000)
	dir := t.TempDir()
	for _, name := range []string{"vmlinuz", "initramfs.img"} {
		imagetest.Write(t, filepath.Join(dir, "usr/lib/modules/7", name), bytes.Repeat([]byte(name), 50_000))
	}
	for i := range 10 {
		imagetest.Write(t, filepath.Join(dir, "usr/share", fmt.Sprint(i)), bytes.Repeat([]byte{byte(i)}, 1000))
	}
	if _, err := writeImage(strings.TrimPrefix(images, "oci:"), "other", []string{dir}); err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{"store", "ESP"} {
		t.Run(where, func(t *testing.T) {
			n := newNode(t)
			full, least := n.store, 10
			if where == "ESP" {
				full, least = n.esp, 3 // kernel, initrd, entry
			}
			small(t, full, "tmpfs", 16<<20)
			n.want(0, "stage", images+":v1")
			n.bless(1)
			before := files(t, n.store, n.esp)
			for points := 0; ; points++ {
				var st unix.Statfs_t
				if err := unix.Statfs(full, &st); err != nil {
					t.Fatal(err)
				}
				limit := func(inodes uint64) {
					if err := unix.Mount("", full, "", unix.MS_REMOUNT, fmt.Sprintf("nr_inodes=%d", inodes)); err != nil {
						t.Fatal(err)
					}
				}
				limit(st.Files - st.Ffree + uint64(points))
				code, out := n.run("stage", images+":other")
				limit(st.Files)
				if code == 0 {
					if points < least {
						t.Errorf("it ran out of space %d times only", points)
					}
					break
				}
				if code != 5 || !strings.Contains(out, "no space left on device") {
					t.Fatalf("%d files more: exit status %d:\n%s", points, code, out)
				}
				if now := files(t, n.store, n.esp); now != before {
					t.Fatalf("%d files more: files changed:\n%s\nwere:\n%s", points, now, before)
				}
				n.want(0, "verify")
			}
			n.want(0, "verify")
		})
	}
}

// Boot files of what is not kept make room on the ESP; what has been fetched
// meanwhile is not taken for garbage.
func TestCollectForESP(t *testing.T) {
	images := testImages(t, 3, 1000)
	n := newNode(t)
	small(t, n.esp, "tmpfs", 8<<20)
	n.want(0, "stage", images+":v1")
	n.bless(1)
	for _, tag := range []string{"other", "another"} {
		dir := t.TempDir()
		blob := filepath.Join(dir, "usr/lib/modules/7")
		if err := os.MkdirAll(blob, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"vmlinuz", "initramfs.img"} {
			if err := os.WriteFile(filepath.Join(blob, name), []byte(strings.Repeat(tag+name, 50_000)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := writeImage(strings.TrimPrefix(images, "oci:"), tag, []string{dir}); err != nil {
			t.Fatal(err)
		}
	}
	n.want(0, "stage", images+":other")
	n.want(0, "pin", "2")
	n.want(0, "stage", "--force", images+":v1")
	n.bless(3)
	n.want(0, "unpin", "2")
	fill(t, n.esp, 900<<10)
	out := n.want(0, "stage", "--json", images+":another")
	if !strings.Contains(out, `"collected":{"deployments":["2-`) {
		t.Errorf("nothing was collected:\n%s", out)
	}
	n.want(0, "verify")
}
