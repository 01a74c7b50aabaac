package factory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-reset/internal/request"
	"github.com/kairos-io/toolkit/lib/recoverykey"
	"github.com/kairos-io/toolkit/lib/run"
)

// In these tests the volumes have real LUKS2 headers, which cryptsetup makes and
// opens; kairos-crypt is played by it. What is mapped is a file beside the volume,
// since nothing can be mapped without dm-crypt.

// keeper is the machine as the keeper of keys: the first is "key 1".
type keeper machine

func (k *keeper) New(context.Context) error {
	if err := (*machine)(k).cut(); err != nil {
		return err
	}
	k.keys = append(k.keys, fmt.Sprintf("key %d", len(k.keys)+1))
	return nil
}

func (k *keeper) Run(_ context.Context, argv ...string) ([]byte, error) {
	m := (*machine)(k)
	if err := m.cut(); err != nil {
		return nil, err
	}
	m.ran = append(m.ran, strings.Join(argv, " "))
	out, err := m.crypt([]byte(k.keys[len(k.keys)-1]), argv[1:])
	return out, errors.Join(err, m.cut())
}

func (k *keeper) Escrow(_ context.Context, volumes []recoverykey.Volume) error {
	m := (*machine)(k)
	if err := m.cut(); err != nil {
		return err
	}
	// The escrow is in the node's config.
	if _, err := os.Stat(filepath.Join(m.dir, "work/oem/90_custom.yaml")); err != nil {
		return fmt.Errorf("no config: %w", err)
	}
	k.given = fmt.Sprintf("%s %v", k.keys[len(k.keys)-1], volumes)
	return m.cut()
}

func (k *keeper) Show(context.Context) error {
	if err := (*machine)(k).cut(); err != nil {
		return err
	}
	k.shown = k.keys[len(k.keys)-1]
	return (*machine)(k).cut()
}

// crypt plays kairos-crypt.
func (m *machine) crypt(key []byte, argv []string) ([]byte, error) {
	last := argv[len(argv)-1]
	switch argv[0] {
	case "status":
		if _, err := cryptsetup(nil, "isLuks", last); err != nil {
			return nil, &run.Error{Program: "kairos-crypt", Status: 1, Cause: "not a volume"}
		}
		return []byte(`{"volumes":[{"uuid":"uuid-of-` + filepath.Base(last) + `","unlocks_now":"yes","slots":[{"kind":"recovery-key"},{"kind":"tpm2"}]}]}`), nil
	case "wipe":
		return cryptsetup(nil, "erase", "--batch-mode", last)
	case "format":
		if m.noTPM && slices.Contains(argv, "--enroll=tpm2") {
			return nil, &run.Error{Program: "kairos-crypt", Status: 1, Cause: "this machine has no TPM 2.0"}
		}
		_, err := cryptsetup(key, "luksFormat", "--type=luks2", "--batch-mode", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--key-file=-", last)
		return []byte(`{"uuid":"new"}`), err
	case "rotate":
		m.oemKey = string(key)
		return nil, nil
	case "unlock":
		if _, err := cryptsetup(key, "open", "--test-passphrase", "--key-file=-", argv[len(argv)-2]); err != nil {
			return nil, err
		}
		mapped := m.node.mapped(last)
		if _, err := os.Stat(mapped); err == nil {
			return nil, fmt.Errorf("%s is mapped already", last)
		}
		return nil, errors.Join(os.MkdirAll(filepath.Dir(mapped), 0o755), os.WriteFile(mapped, nil, 0o600), os.Truncate(mapped, 16<<20))
	case "close":
		return nil, os.Rename(m.node.mapped(last), filepath.Join(m.dir, "plain"))
	}
	return nil, fmt.Errorf("kairos-crypt %s: unexpected", argv)
}

func cryptsetup(key []byte, argv ...string) ([]byte, error) {
	command := exec.Command("cryptsetup", argv...)
	command.Stdin = bytes.NewReader(key)
	out, err := command.CombinedOutput()
	if err != nil {
		return nil, &run.Error{Program: "cryptsetup", Status: command.ProcessState.ExitCode(), Cause: string(out)}
	}
	return nil, nil
}

// encrypt makes COS_PERSISTENT and COS_OEM of a machine encrypted volumes, the
// second of them unlocked.
func (m *machine) encrypt() {
	t := m.t
	t.Helper()
	for _, node := range []string{m.node.Persistent, m.node.OEM} {
		_, err := m.crypt([]byte("old key"), []string{"format", node})
		must(t, err)
	}
	must(t, os.MkdirAll(filepath.Join(m.dir, "dev/mapper"), 0o755))
	must(t, os.WriteFile(m.node.mapped("COS_OEM"), nil, 0o600))
}

// powerUp forgets what a cut takes: mappings.
func (m *machine) powerUp() {
	must(m.t, os.RemoveAll(m.node.mapped(mapping)))
	m.at, m.point = 0, 0
}

func (m *machine) judgeEncrypted() {
	t := m.t
	t.Helper()
	last := m.keys[len(m.keys)-1]
	if _, err := cryptsetup([]byte(last), "open", "--test-passphrase", "--key-file=-", m.node.Persistent); err != nil {
		t.Errorf("the last key does not open the new volume: %v", err)
	}
	if _, err := cryptsetup([]byte("old key"), "open", "--test-passphrase", "--key-file=-", m.node.Persistent); err == nil {
		t.Error("the old key opens the new volume")
	}
	if m.shown != last || m.oemKey != last {
		t.Errorf("the key is %q, shown was %q, and COS_OEM has %q", last, m.shown, m.oemKey)
	}
	if want := last + " [{COS_PERSISTENT new} {COS_OEM uuid-of-oem-partition}]"; m.given != want {
		t.Errorf("the escrow has %q, want %q", m.given, want)
	}
	if header := tool(t, "dumpe2fs", "-h", filepath.Join(m.dir, "plain")); !strings.Contains(header, "volume name:   COS_PERSISTENT\n") {
		t.Errorf("no file system in the volume:\n%s", header)
	}
	if _, err := os.Stat(filepath.Join(m.dir, "work/oem/90_custom.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the config is not cleared: %v", err)
	}
	if next := m.firstEntry(); next != "kairos-1-fedcba987654+3.conf" {
		t.Errorf("%s boots next", next)
	}
}

// TestEncryptedCutAtEveryPoint cuts the reset of an encrypted node before and after
// each step. In the end the volume opens with the key that was shown last, which
// the escrow has too.
func TestEncryptedCutAtEveryPoint(t *testing.T) {
	whole := newMachine(t)
	whole.encrypt()
	must(t, whole.esp.Arm(request.Request{OEM: true}))
	must(t, whole.boot())
	whole.judgeEncrypted()
	if !slices.ContainsFunc(whole.ran, func(argv string) bool {
		return strings.HasPrefix(argv, "mount ") && strings.Contains(argv, "/dev/mapper/COS_OEM ")
	}) {
		t.Errorf("ran %q, want the unlocked COS_OEM mounted", whole.ran)
	}
	points := whole.point
	for at := 1; at <= points; at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			m := newMachine(t)
			m.encrypt()
			must(t, m.esp.Arm(request.Request{OEM: true}))
			m.at = at
			if err := m.boot(); !errors.Is(err, errCut) {
				t.Fatalf("not cut: %v", err)
			}
			m.powerUp()
			must(t, m.boot())
			m.judgeEncrypted()
		})
	}
	t.Logf("%d cuts, the same end", points)
}

// A phase that fails is tried again in the same boot: what it had opened is closed
// first. Without a TPM the recovery key alone opens.
func TestEncryptedFailures(t *testing.T) {
	m := newMachine(t)
	m.encrypt()
	m.noTPM = true
	must(t, m.esp.Arm(request.Request{OEM: true}))
	failed := false
	m.node.Run = func(ctx context.Context, argv ...string) ([]byte, error) {
		if argv[0] == "mkfs.ext4" && argv[len(argv)-1] == m.node.mapped(mapping) && !failed {
			failed = true
			must(t, os.WriteFile(m.node.mapped(mapping)+".kept", nil, 0o600))
			return nil, &run.Error{Program: "mkfs.ext4", Status: 1, Cause: "broken"}
		}
		return m.run(ctx, argv...)
	}
	if err := m.boot(); err == nil || !strings.Contains(err.Error(), "mkfs.ext4: broken") {
		t.Fatalf("%v", err)
	}
	must(t, os.Rename(m.node.mapped(mapping)+".kept", m.node.mapped(mapping))) // as if closing had failed
	must(t, m.boot())
	m.judgeEncrypted()
	if !slices.ContainsFunc(m.ran, func(argv string) bool { return strings.Contains(argv, "--enroll=none") }) {
		t.Errorf("ran %q", m.ran)
	}
}
