package composefs

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testdata/golden.txt has a line "digest name" for every odd tree, and
// testdata/*.image are a few whole images, all made by mkcomposefs 1.0.8: so
// the writer is held against it where it is not installed. After a change of
// the trees:
//
//	go test ./internal/composefs -run Golden -update
var update = flag.Bool("update", false, "rewrite testdata with what mkcomposefs says")

const goldenFile = "testdata/golden.txt"

// goldenImages are the trees whose images are kept whole.
var goldenImages = []string{"empty", "one file", "capabilities", "hard-linked whiteout", "mixed 0"}

func goldenImage(name string) string {
	return filepath.Join("testdata", strings.ReplaceAll(name, " ", "-")+".image")
}

func TestGolden(t *testing.T) {
	if *update {
		updateGolden(t)
	}
	text, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		digest, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		want[name] = digest
	}
	trees := oddTrees()
	if len(want) != len(trees) {
		t.Errorf("%d golden digests for %d trees: run with -update", len(want), len(trees))
	}
	for _, odd := range trees {
		t.Run(odd.name, func(t *testing.T) {
			got, err := Write(io.Discard, grow(t, odd))
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != want[odd.name] {
				t.Errorf("digest %s, mkcomposefs said %s", got, want[odd.name])
			}
		})
	}
}

func TestGoldenImages(t *testing.T) {
	for _, odd := range oddTrees() {
		want, err := os.ReadFile(goldenImage(odd.name))
		if err != nil {
			continue // not one of goldenImages
		}
		t.Run(odd.name, func(t *testing.T) {
			root := grow(t, odd)
			var got bytes.Buffer
			if _, err := Write(&got, root); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Error(firstDifference(root, got.Bytes(), want))
			}
		})
	}
	for _, name := range goldenImages {
		if _, err := os.Stat(goldenImage(name)); err != nil {
			t.Error(err)
		}
	}
}

func updateGolden(t *testing.T) {
	o := findOracle(t)
	var out bytes.Buffer
	for _, odd := range oddTrees() {
		text := dump(t, grow(t, odd))
		fmt.Fprintf(&out, "%s %s\n", o.digest(t, text), odd.name)
		for _, name := range goldenImages {
			if name != odd.name {
				continue
			}
			if err := os.WriteFile(goldenImage(name), o.image(t, text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(goldenFile, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
