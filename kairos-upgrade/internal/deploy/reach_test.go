package deploy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// A damaged record or image hides nothing that the others reach; an image that two
// share is read once.
func TestReach(t *testing.T) {
	digest := func(c string) string { return strings.Repeat(c, 64) }
	record := func(image, kernel string) deployment.Record {
		return deployment.Record{ImageDigest: "sha256:" + digest(image), Boot: []deployment.File{{Kind: "linux", Digest: digest(kernel), Size: 5}}}
	}
	records := []deployment.Record{record("a", "1"), {ImageDigest: "none"}, record("a", "2"), record("b", "3"), record("c", "4")}
	var have []string
	errDamaged := errors.New("damaged")
	for r, err := range reach(records, func(image fsverity.Digest) (*tree.Inode, error) {
		have = append(have, "read "+image.String()[:1])
		if strings.HasPrefix(image.String(), "b") {
			return nil, errDamaged
		}
		return nil, nil
	}) {
		what := fmt.Sprintf("%.1s %d %v", r.digest, r.size, r.by)
		switch {
		case err != nil && !r.image:
			what = fmt.Sprintf("no digest %v", r.by)
		case errors.Is(err, errDamaged):
			what += " damaged"
		case r.image:
			what = "image " + what
		}
		have = append(have, what)
	}
	want := []string{"1 5 [0]", "no digest [1]", "2 5 [2]", "3 5 [3]", "4 5 [4]",
		"read a", "image a 0 [0 2]", "read b", "b 0 [3] damaged", "read c", "image c 0 [4]"}
	if !slices.Equal(have, want) {
		t.Errorf("%q\nwant %q", have, want)
	}
}
