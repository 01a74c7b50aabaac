package deploy

import (
	"archive/tar"
	"errors"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
)

// Between a decision and its staging a tag may come to name another image:
// that one is not staged.
func TestMovedImageIsNotStaged(t *testing.T) {
	n, _ := node(t, map[string]string{
		"usr/lib/modules/1/vmlinuz":       strings.Repeat("kernel", 1000),
		"usr/lib/modules/1/initramfs.img": strings.Repeat("initrd", 1000),
	})
	image := func(version string) string {
		layer := imagetest.Tar(t, []tar.Header{
			{Name: "usr/lib/modules/2/vmlinuz", Typeflag: tar.TypeReg, Mode: 0o644},
			{Name: "usr/lib/modules/2/initramfs.img", Typeflag: tar.TypeReg, Mode: 0o644},
		}, map[string]string{"usr/lib/modules/2/vmlinuz": version, "usr/lib/modules/2/initramfs.img": "initrd"})
		return "oci:" + imagetest.Build(t, imagetest.Image{
			Layers: []imagetest.Layer{{Tar: layer}}, Labels: map[string]string{"org.opencontainers.image.version": version},
		}).Layout(t, "v")
	}
	o := source.Options{Root: t.TempDir()}
	offer, err := n.Look(t.Context(), image("2"), o, true)
	if err != nil || offer.Version != "2" || offer.Downgrade || offer.Deployed != nil || offer.LayersKnown != 0 || offer.BytesToFetch == 0 {
		t.Fatalf("%+v, %v", offer, err)
	}
	request := Request{Source: image("3"), Options: o, ManifestDigest: offer.ManifestDigest}
	if _, err := n.Stage(t.Context(), request); !errors.Is(err, ErrMoved) {
		t.Errorf("staged, or failed otherwise: %v", err)
	}
	request.Source = image("2")
	if s, err := n.Stage(t.Context(), request); err != nil || s.ManifestDigest != offer.ManifestDigest {
		t.Errorf("%+v, %v", s, err)
	}
}
