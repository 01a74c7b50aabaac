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
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/run"
)

// The partitions of these tests are files with real file systems, made by the
// real mkfs, wipefs and cryptsetup. What they don't prove: mounts, which are
// directories here, and kairos-upgrade, which publishes an entry here as it does
// in the end. The end-to-end test has both.

// errCut is a power cut: nothing is done after it.
var errCut = errors.New("cut")

// machine is a node whose power is cut at the at-th point.
type machine struct {
	t     *testing.T
	dir   string
	esp   request.ESP
	node  *Node
	at    int // the point to cut at, from 1; 0: never
	point int // points passed
	ran   []string

	// Of an encrypted one.
	keys   []string // made so far
	shown  string
	given  string // what the escrow got
	oemKey string // the recovery key of COS_OEM
	noTPM  bool
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	for _, program := range []string{"mkfs.ext4", "wipefs", "dumpe2fs", "cryptsetup"} {
		if !run.Has(program) {
			t.Skipf("no %s here", program)
		}
	}
	m := &machine{t: t, dir: t.TempDir()}
	for name, data := range map[string]string{
		"esp/loader/entries/kairos-7-0123456789ab.conf":   "title v7\nsort-key kairos\nversion 7\nlinux /kairos/linux-a\n",
		"esp/loader/entries/kairos-8-0123456789ac+1.conf": "title v8\nsort-key kairos\nversion 8\nlinux /kairos/linux-a\n",
		"esp/loader/entries/kairos-recovery.conf":         "title Recovery\nsort-key kairos-recovery\nlinux /kairos/linux-a\n",
		"esp/kairos/linux-a":                              "kernel",
		"work/oem/90_custom.yaml":                         "#cloud-config\n",
		"work/oem/lost+found/.keep":                       "",
	} {
		file := filepath.Join(m.dir, name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(data), 0o644))
	}
	root, err := os.OpenRoot(filepath.Join(m.dir, "esp"))
	must(t, err)
	t.Cleanup(func() { root.Close() })
	m.esp = request.ESP{Root: root}
	m.node = &Node{
		ESP: root, ESPPath: root.Name(), Store: "/recovery", Work: filepath.Join(m.dir, "work"), Verity: true, Dev: filepath.Join(m.dir, "dev"),
		Keeper: (*keeper)(m), Run: m.run, Journal: m, Report: m,
	}
	for name, node := range map[string]*string{"state": &m.node.State, "persistent": &m.node.Persistent, "oem-partition": &m.node.OEM} {
		*node = filepath.Join(m.dir, name)
		must(t, os.WriteFile(*node, nil, 0o600))
		must(t, os.Truncate(*node, 32<<20))
	}
	for _, node := range []string{m.node.State, m.node.Persistent} {
		old := filepath.Join(m.dir, "old")
		must(t, os.MkdirAll(old, 0o755))
		must(t, os.WriteFile(filepath.Join(old, "secret"), []byte("old data"), 0o600))
		tool(t, "mkfs.ext4", "-F", "-q", "-L", "OLD", "-d", old, node)
	}
	return m
}

// cut passes a point, or cuts there.
func (m *machine) cut() error {
	m.point++
	if m.at != 0 && m.point >= m.at {
		return errCut
	}
	return nil
}

// run is cut before and after each program.
func (m *machine) run(ctx context.Context, argv ...string) ([]byte, error) {
	if err := m.cut(); err != nil {
		return nil, err
	}
	m.ran = append(m.ran, strings.Join(argv, " "))
	var out []byte
	var err error
	switch argv[0] {
	case "mount", "umount":
	case "kairos-config":
	case "kairos-crypt":
		out, err = m.crypt(nil, argv[1:])
	case "kairos-upgrade":
		if argv[1] == "run-hook" {
			return nil, nil
		}
		err = m.upgrade()
	default:
		out, err = run.Runner{}.Output(ctx, argv...)
	}
	return out, errors.Join(err, m.cut())
}

// upgrade publishes the deployment, and answers as kairos-upgrade does where
// it is published already.
func (m *machine) upgrade() error {
	name := bls.Name{Base: "kairos-1-fedcba987654", Counted: true, Left: 3}
	if _, err := m.esp.Root.Stat("loader/entries/" + name.String()); err == nil {
		return exit.WithCode(&run.Error{Program: "kairos-upgrade", Status: 3, Cause: "boots next already"}, exit.Nothing)
	}
	return bls.ESP{Root: m.esp.Root}.Publish(bls.Entry{Name: name, SortKey: "kairos", Version: "1", Linux: "/kairos/linux-a"})
}

func (m *machine) Hold() error {
	if err := m.cut(); err != nil {
		return err
	}
	return errors.Join(m.esp.Hold(), m.cut())
}

func (m *machine) Write(r request.Request) error {
	if err := m.cut(); err != nil {
		return err
	}
	return errors.Join(m.esp.Write(r), m.cut())
}

func (m *machine) Finish() error {
	if err := m.cut(); err != nil {
		return err
	}
	return errors.Join(m.esp.Finish(), m.cut())
}

func (m *machine) Step(string, string) func() { return func() {} }
func (m *machine) Warn(format string, args ...any) {
	m.t.Logf("warning: "+format, args...)
}

// boot does what the boot loader and kairos-reset-execute.service do.
func (m *machine) boot() error {
	r, err := m.esp.Read()
	if errors.Is(err, request.ErrNone) {
		return nil
	}
	must(m.t, err)
	return m.node.Reset(m.t.Context(), r)
}

// firstEntry is what boots.
func (m *machine) firstEntry() string {
	entries, err := bls.ESP{Root: m.esp.Root}.Entries()
	must(m.t, err)
	return entries[0].Name.String()
}

// judge checks the end that every reset comes to.
func (m *machine) judge(oem bool) {
	t := m.t
	t.Helper()
	entries, err := bls.ESP{Root: m.esp.Root}.Entries()
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name.String())
	}
	if want := []string{"kairos-1-fedcba987654+3.conf", "kairos-recovery.conf"}; !slices.Equal(names, want) {
		t.Errorf("entries %q, want %q", names, want)
	}
	for node, label := range map[string]string{m.node.State: "COS_STATE", m.node.Persistent: "COS_PERSISTENT"} {
		header := tool(t, "dumpe2fs", "-h", node)
		if !strings.Contains(header, "volume name:   "+label+"\n") {
			t.Errorf("%s is not labelled %s:\n%s", node, label, header)
		}
		if verity := strings.Contains(header, " verity"); verity != (label == "COS_STATE") {
			t.Errorf("%s: verity is %v", label, verity)
		}
		tool(t, "e2fsck", "-fn", node)
		if names := tool(t, "debugfs", "-R", "ls -p /", node); strings.Contains(names, "secret") {
			t.Errorf("%s still has the old files:\n%s", label, names)
		}
	}
	_, err = os.Stat(filepath.Join(m.dir, "work/oem/90_custom.yaml"))
	if cleared := errors.Is(err, os.ErrNotExist); cleared != oem {
		t.Errorf("config cleared: %v, want %v", cleared, oem)
	}
	if _, err := os.Stat(filepath.Join(m.dir, "work/oem/lost+found")); err != nil {
		t.Error(err)
	}
}

func TestReset(t *testing.T) {
	m := newMachine(t)
	m.node.Kargs = []string{"console=ttyS0,115200"}
	must(t, m.esp.Arm(request.Request{}))
	must(t, m.boot())
	m.judge(false)
	if ran := m.ran[len(m.ran)-4]; !strings.HasSuffix(ran, " --karg=console=ttyS0,115200 store:/recovery") {
		t.Errorf("ran %q, want the recovery's own image laid down", m.ran)
	}
}

// What is to be kept is kept bit for bit, whenever the reset is cut, and the
// rest is as new.
func TestKeepPersistent(t *testing.T) {
	for at := range 15 {
		m := newMachine(t)
		before, err := os.ReadFile(m.node.Persistent)
		must(t, err)
		must(t, m.esp.Arm(request.Request{KeepPersistent: true}))
		if m.at = at; at > 0 {
			if err := m.boot(); !errors.Is(err, errCut) {
				t.Fatalf("not cut at %d: %v", at, err)
			}
		}
		m.at, m.point = 0, 0
		must(t, m.boot())
		after, err := os.ReadFile(m.node.Persistent)
		must(t, err)
		if !bytes.Equal(before, after) {
			t.Errorf("cut at %d: COS_PERSISTENT was changed", at)
		}
		if header := tool(t, "dumpe2fs", "-h", m.node.State); !strings.Contains(header, "volume name:   COS_STATE\n") {
			t.Errorf("cut at %d: COS_STATE is not new:\n%s", at, header)
		}
		if next := m.firstEntry(); next != "kairos-1-fedcba987654+3.conf" {
			t.Errorf("cut at %d: %s boots next", at, next)
		}
	}
}

// TestCutAtEveryPoint cuts a reset before and after each program and each write
// of the journal. The next boot must lead to the reset or be that of the new
// deployment, and come to the same end.
func TestCutAtEveryPoint(t *testing.T) {
	whole := newMachine(t)
	must(t, whole.esp.Arm(request.Request{OEM: true}))
	must(t, whole.boot())
	whole.judge(true)
	points := whole.point
	if points < 20 {
		t.Fatalf("only %d points", points)
	}
	for at := 1; at <= points; at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			m := newMachine(t)
			must(t, m.esp.Arm(request.Request{OEM: true}))
			m.at = at
			if err := m.boot(); !errors.Is(err, errCut) {
				t.Fatalf("not cut: %v", err)
			}
			m.at, m.point = 0, 0
			if next := m.firstEntry(); at < points && bls.BaseOf(next) != deployment.ResetEntry {
				t.Errorf("%s boots next", next)
			}
			must(t, m.boot())
			m.judge(true)
		})
	}
	t.Logf("%d cuts, the same end", points)
}

// TestEveryBootIsCut cuts each boot one point later than the one before.
func TestEveryBootIsCut(t *testing.T) {
	m := newMachine(t)
	must(t, m.esp.Arm(request.Request{OEM: true}))
	boots := 0
	for at := 1; bls.BaseOf(m.firstEntry()) == deployment.ResetEntry; at++ {
		m.at, m.point = at, 0
		if err := m.boot(); err != nil && !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		boots++
	}
	m.judge(true)
	if boots < 5 {
		t.Errorf("%d boots only", boots)
	}
}

// A failing stage of the config is a warning; an image that can't be laid down
// leaves the node in recovery.
func TestFailures(t *testing.T) {
	m := newMachine(t)
	must(t, m.esp.Arm(request.Request{}))
	broken := "kairos-upgrade"
	m.node.Run = func(ctx context.Context, argv ...string) ([]byte, error) {
		if argv[0] == "kairos-config" || argv[0] == broken {
			return nil, &run.Error{Program: argv[0], Status: 1, Cause: "broken"}
		}
		return m.run(ctx, argv...)
	}
	if err := m.boot(); err == nil || !strings.Contains(err.Error(), "kairos-upgrade: broken") {
		t.Fatalf("%v", err)
	}
	if next := m.firstEntry(); next != "kairos-reset.conf" {
		t.Errorf("%s boots next", next)
	}
	broken = ""
	must(t, m.boot())
	m.judge(false)
}

// TestEraseKeys makes a real LUKS2 header and looks for what is left of it.
func TestEraseKeys(t *testing.T) {
	if !run.Has("cryptsetup") {
		t.Skip("no cryptsetup here")
	}
	node := filepath.Join(t.TempDir(), "volume")
	must(t, os.WriteFile(node, nil, 0o600))
	must(t, os.Truncate(node, 20<<20))
	cmd := exec.Command("cryptsetup", "luksFormat", "--type=luks2", "--batch-mode", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--key-file=-", node)
	cmd.Stdin = strings.NewReader("passphrase")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("luksFormat: %v\n%s", err, out)
	}
	// kairos-crypt itself may fail: overwriting does it.
	failing := func(context.Context, ...string) ([]byte, error) {
		return nil, &run.Error{Program: "kairos-crypt", Status: 1, Cause: "damaged"}
	}
	must(t, EraseKeys(t.Context(), failing, node))
	if err := exec.Command("cryptsetup", "isLuks", node).Run(); err == nil {
		t.Error("it is a LUKS volume still")
	}
	data, err := os.ReadFile(node)
	must(t, err)
	if len(bytes.Trim(data[:luksHeader], "\x00")) > 0 {
		t.Error("something of the header is left")
	}
	// Where the device is none, nothing is touched.
	must(t, os.WriteFile(node, []byte("data"), 0o600))
	must(t, EraseKeys(t.Context(), failing, node))
	if data, _ := os.ReadFile(node); string(data) != "data" {
		t.Errorf("%q", data)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func tool(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", argv, err, out)
	}
	return string(out)
}
