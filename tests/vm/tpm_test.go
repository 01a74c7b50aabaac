package vm

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/kairos-io/toolkit/tests/workspace"
)

// TestCreateTPM asks a new TPM which kinds of PCR it has (TPM2_GetCapability, TPM_CAP_PCRS).
func TestCreateTPM(t *testing.T) {
	if _, err := os.Stat(workspace.Cache("tools", "usr/bin/swtpm")); err != nil {
		t.Skipf("needs the tools root: %v", err)
	}
	dir, err := os.MkdirTemp("/tmp", "kairos-tpm-") // where programs of the tools root find it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := CreateTPM(dir); err != nil {
		t.Fatal(err)
	}
	var pcrs []byte
	err = withTPM(dir, func(tpm io.ReadWriter) (err error) {
		pcrs, err = ask(tpm, []byte{0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 64})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all, none := []byte{0xff, 0xff, 0xff}, []byte{0, 0, 0}
	for kind, want := range map[byte][]byte{0x04: none, 0x0b: all, 0x0c: none, 0x0d: none} {
		if selection := append([]byte{0, kind, 3}, want...); !bytes.Contains(pcrs, selection) {
			t.Errorf("no %x in %x", selection, pcrs)
		}
	}
	before, err := os.ReadFile(dir + "/tpm2-00.permall")
	if err != nil {
		t.Fatal(err)
	}
	if err := CreateTPM(dir); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(dir + "/tpm2-00.permall"); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the TPM that was there was changed (%v)", err)
	}
}
