package deploy

import (
	"archive/tar"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// What is missing or damaged is said, wherever it is met.
func TestWhatIsNotThere(t *testing.T) {
	n, dir := node(t, map[string]string{
		"usr/lib/modules/1/vmlinuz":       strings.Repeat("kernel", 1000),
		"usr/lib/modules/1/initramfs.img": strings.Repeat("initrd", 1000),
	})
	nowhere := plainTree{src: source.Source{Path: filepath.Join(dir, "nowhere")}}
	if need, err := nowhere.estimate(t.Context(), n.Store); err == nil {
		t.Errorf("estimated a directory that is not there: %+v", need)
	}
	if d, err := nowhere.digest(t.Context(), nil); err == nil {
		t.Errorf("digest of a directory that is not there: %s", d)
	}
	if _, err := n.Plan(t.Context(), Request{Source: "dir:" + nowhere.src.Path}); err == nil {
		t.Error("planned a directory that is not there")
	}
	if root, err := readImage(n.Store, fsverity.Bytes([]byte("nothing"))); err == nil {
		t.Errorf("read an image that is not there: %+v", root)
	}
	other := stored{store: n.Store, record: deployment.Record{ImageDigest: "none"}}
	if root, err := other.tree(); err == nil {
		t.Errorf("the tree of a record without image: %+v", root)
	}
	if err := other.copyImage(io.Discard); err == nil {
		t.Error("copied the image of a record without image")
	}
	if r, err := n.redeploy(t.Context(), other.record); err == nil {
		t.Errorf("deployed a record without image: %+v", r)
	}
}

// A layer of which nothing is known is estimated by its blob: as it is where it isn't compressed.
func TestEstimateOfLayers(t *testing.T) {
	layer := imagetest.Tar(t, []tar.Header{{Name: "file", Typeflag: tar.TypeReg, Mode: 0o644}}, map[string]string{"file": strings.Repeat("content", 10000)})
	for _, compression := range []string{"", "gzip"} {
		layout := imagetest.Build(t, imagetest.Image{Layers: []imagetest.Layer{{Tar: layer, Compression: compression}}}).Layout(t, "v")
		o, err := openOrigin(t.Context(), "oci:"+layout, source.Options{Root: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		c := o.(*container)
		need, err := c.estimate(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		size := c.Layers[0].Size
		want := size
		if compression != "" {
			want = int64(float64(size) * expansion)
		}
		if need.store -= c.spooled(nil); need.store != want {
			t.Errorf("%q: a blob of %d bytes needs %d, want %d", compression, size, need.store, want)
		}
		o.Close()
	}
}

// Before names what boots instead of the deployment that is next.
func TestBefore(t *testing.T) {
	entry := func(base, title string) *bls.Entry { return &bls.Entry{Name: bls.Name{Base: base}, Title: title} }
	list := deployments(t, "2:good")
	list[0].entry = entry("kairos-2-000000000002", "")
	for name, test := range map[string]struct {
		list  []Deployment
		first *bls.Entry
		want  string
	}{
		"nothing is deployed":       {nil, entry("windows", "Windows"), ""},
		"no entry":                  {list, nil, ""},
		"it is first":               {list, list[0].entry, ""},
		"it is first, on FAT":       {list, entry("KAIROS-2-000000000002", ""), ""},
		"another is":                {list, entry("windows", "Windows"), "Windows (windows.conf)"},
		"another is, without title": {list, entry("windows", ""), "windows.conf"},
	} {
		if have := (Inventory{Deployments: test.list, first: test.first}).Before(); have != test.want {
			t.Errorf("%s: %q, want %q", name, have, test.want)
		}
	}
}
