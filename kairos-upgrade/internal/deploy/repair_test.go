package deploy

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// node makes a node of a plain directory with some files, and stages it.
func node(t *testing.T, files map[string]string) (n *Node, dir string) {
	t.Helper()
	dir = t.TempDir()
	root := filepath.Join(dir, "root")
	for name, content := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	n = &Node{Label: "COS_STATE", Log: slog.New(slog.DiscardHandler)}
	var views [2]*view.View
	for i, name := range []string{"store", "esp"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if views[i], err = view.Writable(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if n.Store, err = store.Create(t.Context(), views[0], store.Holder{PID: os.Getpid()}); err != nil {
		t.Fatal(err)
	}
	n.Loader = boot.NewSystemdBoot(views[1], false)
	t.Cleanup(func() { n.Store.Close(); views[1].Close() })
	if _, err := n.Stage(t.Context(), Request{Source: "dir:" + root}); err != nil {
		t.Fatal(err)
	}
	return n, dir
}

func damage(t *testing.T, dir string, d fsverity.Digest) {
	t.Helper()
	name := filepath.Join(dir, "store", store.ObjectPath(d))
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Objects come from another store of the machine, if they are whole there.
func TestRepairFromSpares(t *testing.T) {
	files := map[string]string{
		"usr/lib/modules/1/vmlinuz":       strings.Repeat("kernel", 1000),
		"usr/lib/modules/1/initramfs.img": strings.Repeat("initrd", 1000),
		"usr/bin/tool":                    strings.Repeat("tool", 1000),
		"usr/bin/other":                   strings.Repeat("other", 100_000),
	}
	tool, other := fsverity.Bytes([]byte(files["usr/bin/tool"])), fsverity.Bytes([]byte(files["usr/bin/other"]))
	n, dir := node(t, files)
	first, firstDir := node(t, files)
	second, _ := node(t, files)
	for _, d := range []fsverity.Digest{tool, other} {
		damage(t, dir, d)
	}
	damage(t, firstDir, tool)
	options := RepairOptions{Spares: []Spare{{"the first", first.Store}, {"the second", second.Store}}}

	options.DryRun = true
	plan, err := n.Repair(t.Context(), "", options)
	if err != nil || len(plan.Damaged) != 2 || len(plan.Mended) != 2 {
		t.Fatalf("%+v, %v", plan, err)
	}
	options.DryRun = false
	r, err := n.Repair(t.Context(), "", options)
	if err != nil || len(r.Damaged) != 0 || len(r.Mended) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	from := map[string]string{}
	for _, m := range r.Mended {
		from[m.Name] = m.From
	}
	if from[tool.String()] != "the second" || from[other.String()] != "the first" {
		t.Errorf("%v", from)
	}
	f, err := n.Store.OpenObject(tool)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if have, err := io.ReadAll(f); err != nil || !bytes.Equal(have, []byte(files["usr/bin/tool"])) {
		t.Errorf("%q, %v", have, err)
	}
	if v, err := n.Verify(t.Context(), ""); err != nil || len(v.Damaged) != 0 {
		t.Errorf("%+v, %v", v, err)
	}
}

// What came from a plain directory is in no registry: that is said.
func TestRepairOfWhatIsNowhere(t *testing.T) {
	files := map[string]string{
		"usr/lib/modules/1/vmlinuz":       strings.Repeat("kernel", 1000),
		"usr/lib/modules/1/initramfs.img": strings.Repeat("initrd", 1000),
		"usr/bin/tool":                    strings.Repeat("tool", 1000),
	}
	n, dir := node(t, files)
	damage(t, dir, fsverity.Bytes([]byte(files["usr/bin/tool"])))
	r, err := n.Repair(t.Context(), "", RepairOptions{})
	if err != nil || len(r.Mended) != 0 || len(r.Damaged) != 1 || !strings.Contains(r.Damaged[0].Failure, "its digest is not known") {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestOlder(t *testing.T) {
	for _, test := range []struct {
		version, than string
		want          bool
	}{
		{"1.2", "1.10", true}, {"1.10", "1.2", false}, {"v1.2", "1.3", true}, {"2", "v1.9", false}, {"v2", "v2", false},
		{"1.0~rc1", "1.0", true}, {"", "1", false}, {"1", "", false}, {"13", "12.5", false}, {"v", "1", true},
	} {
		if have := older(test.version, test.than); have != test.want {
			t.Errorf("%q older than %q: %t", test.version, test.than, have)
		}
	}
}

func TestUsage(t *testing.T) {
	boot := map[string]string{
		"usr/lib/modules/1/vmlinuz":       strings.Repeat("kernel", 1000),
		"usr/lib/modules/1/initramfs.img": strings.Repeat("initrd", 1000),
		"usr/bin/shared":                  strings.Repeat("shared", 10_000),
		"usr/bin/old":                     strings.Repeat("old", 10_000),
	}
	n, dir := node(t, boot)
	root := filepath.Join(dir, "root")
	if err := os.Remove(filepath.Join(root, "usr/bin/old")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "usr/bin/new"), []byte(strings.Repeat("new", 20_000)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.Pin("1", true); err != nil { // both are kept
		t.Fatal(err)
	}
	if _, err := n.Stage(t.Context(), Request{Source: "dir:" + root}); err != nil {
		t.Fatal(err)
	}
	have, err := n.Inventory()
	if err != nil || len(have.Deployments) != 2 {
		t.Fatalf("%+v, %v", have.Deployments, err)
	}
	usage, err := n.Usage(have.Deployments)
	if err != nil {
		t.Fatal(err)
	}
	for i, u := range usage.Deployments {
		if u.Disk != u.Shared+u.Exclusive || u.Boot != 12_000 || u.BootOwn != 0 || u.Shared != usage.Deployments[0].Shared {
			t.Errorf("%s: %+v", have.Deployments[i].ID, u)
		}
	}
	if sum := usage.Deployments[0].Exclusive + usage.Deployments[1].Exclusive + usage.Deployments[0].Shared; sum != usage.Bytes || usage.Garbage != 0 {
		t.Errorf("parts are %d bytes, all is %+v", sum, usage.Totals)
	}
	// What a removal frees is what was said.
	if _, _, err := n.Pin("1", false); err != nil {
		t.Fatal(err)
	}
	c, err := n.Collect(false)
	if err != nil || len(c.Deployments) != 1 || c.Swept.Bytes != usage.Deployments[1].Exclusive {
		t.Errorf("collected %+v, said were %d bytes; %v", c, usage.Deployments[1].Exclusive, err)
	}
}
