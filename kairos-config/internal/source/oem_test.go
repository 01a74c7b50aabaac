package source

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/generation"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/testroot"
)

// TestGenerations: the kernel argument says which configs of COS_OEM count.
func TestGenerations(t *testing.T) {
	dir := testroot.New(t)
	for name, who := range map[string]string{"10.yaml": "plain", "90.yaml": "plain", "95.yaml": "late"} {
		if err := os.WriteFile(filepath.Join(dir, "oem", name), []byte("#cloud-config\nwho"+name[:2]+": "+who+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	disk, close, err := generation.OpenDisk(filepath.Join(dir, "oem"))
	if err != nil {
		t.Fatal(err)
	}
	defer close()
	g, err := generation.Write(disk, generation.Change{
		Put:    map[string][]byte{"90.yaml": []byte("#cloud-config\nwho90: staged\n")},
		Remove: []string{"10.yaml"},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	root, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	sources := func(c *Collection) string {
		var list []string
		for _, d := range c.Documents {
			list = append(list, d.Source)
		}
		return strings.Join(list, " ")
	}
	for line, want := range map[string]string{
		"quiet":                                   "/oem/10.yaml /oem/90.yaml /oem/95.yaml",
		generation.Argument + "=" + g.ID:          g.Path("90.yaml") + " /oem/95.yaml",
		generation.Argument + "=7-000000000000":   "/oem/10.yaml /oem/90.yaml /oem/95.yaml",
		generation.Argument + "=../../etc/passwd": "/oem/10.yaml /oem/90.yaml /oem/95.yaml",
	} {
		if err := os.WriteFile(filepath.Join(dir, "proc/cmdline"), []byte(line), 0o644); err != nil {
			t.Fatal(err)
		}
		c := Collect(root)
		if got := sources(c); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", line, got, want)
		}
		if wrong := strings.Contains(line, "0000") || strings.Contains(line, ".."); wrong != c.Problems.Failed() {
			t.Errorf("%s: problems %v", line, c.Problems)
		}
	}
	// A change that isn't written yet.
	c := CollectWith(root, OEM{Generation: g, Put: map[string][]byte{"10.yaml": []byte("#cloud-config\nwho10: next\n"), "50.yaml": []byte("#cloud-config\n")}, Remove: []string{"95.yaml"}})
	if got, want := sources(c), "/oem/10.yaml /oem/50.yaml "+g.Path("90.yaml"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if v := value(t, c, "who10"); v == nil || v.Text != "next" {
		t.Errorf("got %+v", v)
	}
}
