package composefs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
)

// oracle is a command line of mkcomposefs 1.0.8: the environment variable
// KAIROS_MKCOMPOSEFS, or mkcomposefs in PATH.
type oracle []string

func findOracle(t testing.TB) oracle {
	t.Helper()
	o, ok := lookOracle()
	if !ok {
		t.Skipf("no oracle: %s not found (install Debian's composefs, or set KAIROS_MKCOMPOSEFS to a command line)", o[0])
	}
	return o
}

func lookOracle() (oracle, bool) {
	argv := strings.Fields(os.Getenv("KAIROS_MKCOMPOSEFS"))
	if len(argv) == 0 {
		argv = []string{"mkcomposefs"}
	}
	_, err := exec.LookPath(argv[0])
	return argv, err == nil
}

// exec runs the oracle.
func (o oracle) exec(stdin []byte, args ...string) ([]byte, error) {
	cmd := exec.Command(o[0], append(o[1:len(o):len(o)], args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, &stderr)
	}
	return out, nil
}

// image returns the image of the tree with the given dump.
func (o oracle) image(t testing.TB, dump []byte) []byte {
	t.Helper()
	out, err := o.exec(dump, "--from-file", "-", "-")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// digest returns the digest of the image of the tree with the given dump.
func (o oracle) digest(t testing.TB, dump []byte) string {
	t.Helper()
	out, err := o.exec(dump, "--print-digest-only", "--from-file", "-")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func dump(t testing.TB, root *tree.Inode) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteDump(&b, root); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestOracle holds digests against mkcomposefs, and on a difference shows the
// first byte that differs.
func TestOracle(t *testing.T) {
	o := findOracle(t)
	for _, odd := range oddTrees() {
		t.Run(odd.name, func(t *testing.T) {
			root := grow(t, odd)
			text := dump(t, root)
			want := o.digest(t, text)
			got, err := Write(io.Discard, root)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != want {
				t.Errorf("digest %s, mkcomposefs says %s", got, want)
				o.explain(t, root, text)
			}
		})
	}
}

// explain compares whole images.
func (o oracle) explain(t *testing.T, root *tree.Inode, text []byte) {
	want := o.image(t, text)
	var got bytes.Buffer
	if _, err := Write(&got, root); err != nil {
		t.Fatal(err)
	}
	t.Error(firstDifference(root, got.Bytes(), want))
}

// firstDifference says where two images part, and which inode that belongs to.
func firstDifference(root *tree.Inode, got, want []byte) string {
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	place := "before the inodes"
	p, err := plan(root)
	if err != nil {
		return err.Error()
	}
	for i := range p.inodes {
		n := &p.inodes[i]
		if start := int(n.nid) * slotSize; start <= at && at < int(p.inodesEnd) {
			place = fmt.Sprintf("inode %d + %d: mode %o, nlink %d, xattrs %d, tail %d, blocks %d, compact %v",
				i, at-start, n.mode(), n.nlink, n.xattr, n.tail, n.blocks, n.compact)
		}
	}
	switch {
	case at >= int(p.dataStart):
		place = fmt.Sprintf("whole blocks + %d", at-int(p.dataStart))
	case at >= int(p.inodesEnd):
		place = fmt.Sprintf("shared attributes + %d", at-int(p.inodesEnd))
	}
	window := func(b []byte) []byte { return b[min(len(b), at&^15):min(len(b), at&^15+48)] }
	return fmt.Sprintf("%d bytes, want %d; first difference at %d (%s)\n got %x\nwant %x",
		len(got), len(want), at, place, window(got), window(want))
}
