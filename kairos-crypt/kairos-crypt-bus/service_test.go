package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
	"github.com/kairos-io/toolkit/kairos-crypt/cmd"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/crypttest"
	"github.com/kairos-io/toolkit/lib/bus/bustest"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/rogpeppe/go-internal/testscript"
)

// The service runs on a bus of the test's own, with the real kairos-crypt,
// cryptsetup and swtpm, on a volume in a file. What the tests cannot prove: the
// sandbox, the system bus' policy, polkit, and mapping a volume.
func TestMain(m *testing.M) {
	crypttest.Enter()
	testscript.Main(m, map[string]func(){
		"kairos-crypt": func() {
			note(strings.Join(os.Args, " "))
			cmdline.Main(cmd.App(machine(os.Getenv("NODE"))))
		},
		"kairos-upgrade":       func() { fmt.Println(`{"booted":"1-aa","staged":"","deployments":[]}`) },
		"systemd-ask-password": func() { note("somebody was asked") },
		"kairos-crypt-bus": func() {
			dir := os.Getenv("NODE")
			cmdline.Main(app(places{filepath.Join(dir, "dev"), filepath.Join(dir, "unlocks"), filepath.Join(dir, "upgrades")}))
		},
	})
}

func machine(dir string) cmd.Machine {
	return cmd.Machine{
		Root: filepath.Join(dir, "root"), Locks: filepath.Join(dir, "locks"), Unlocks: filepath.Join(dir, "unlocks"),
		Disks: disk.System{Sys: filepath.Join(dir, "sys"), Dev: filepath.Join(dir, "dev")},
		Connect: func() (transport.TPMCloser, error) {
			if os.Getenv("TPM") == "" {
				return nil, fs.ErrNotExist
			}
			return linuxudstpm.Open(os.Getenv("TPM"))
		},
	}
}

// note appends a line to what was run.
func note(line string) {
	f, err := os.OpenFile(filepath.Join(os.Getenv("NODE"), "ran"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}

const partition = "vda5"

type busNode struct {
	t       *testing.T
	dir     string
	address string
	conn    *dbus.Conn
	signals chan *dbus.Signal
	service *exec.Cmd
	key     string // the recovery key
	path    dbus.ObjectPath
	told    []string // signals of the service before the last one waited for
}

// newBusNode is a node with one encrypted volume, which opens by its TPM and by a
// recovery key.
func newBusNode(t *testing.T, idle string) *busNode {
	t.Helper()
	crypttest.Programs(t, "cryptsetup", "wipefs")
	t.Setenv("TPM", crypttest.SWTPM(t))
	b := &busNode{t: t, dir: t.TempDir(), address: bustest.Start(t), path: volumePath + partition}
	t.Setenv("NODE", b.dir)
	block := filepath.Join(b.dir, "sys/devices/vda", partition)
	for _, dir := range []string{"root", "dev", "upgrades", "sys/class/block", "sys/devices/vda/" + partition} {
		if err := os.MkdirAll(filepath.Join(b.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.write(filepath.Join(block, "uevent"), "DEVTYPE=partition\nPARTNAME=COS_PERSISTENT\nPARTN=5\n")
	if err := os.Symlink(block, filepath.Join(b.dir, "sys/class/block", partition)); err != nil {
		t.Fatal(err)
	}
	b.write(b.device(), "")
	if err := os.Truncate(b.device(), 32<<20); err != nil {
		t.Fatal(err)
	}
	b.key = strings.TrimSpace(string(b.crypt("format", "--label", "COS_PERSISTENT", b.device())))
	b.conn = bustest.Connect(t, b.address)
	b.signals = make(chan *dbus.Signal, 4096)
	b.conn.Signal(b.signals)
	if err := b.conn.AddMatchSignal(dbus.WithMatchSender(busName)); err != nil {
		t.Fatal(err)
	}
	b.serve(idle)
	return b
}

func (b *busNode) device() string { return filepath.Join(b.dir, "dev", partition) }

func (b *busNode) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// crypt runs kairos-crypt as a person would.
func (b *busNode) crypt(args ...string) []byte {
	b.t.Helper()
	var stderr bytes.Buffer
	command := exec.Command("kairos-crypt", args...)
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		b.t.Fatalf("kairos-crypt %v: %v: %s", args, err, &stderr)
	}
	return out
}

func (b *busNode) serve(idle string) {
	b.t.Helper()
	service := exec.Command("kairos-crypt-bus", "--idle", idle)
	service.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+b.address)
	service.Stderr = b.t.Output()
	if err := service.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { service.Process.Kill(); service.Wait() })
	if err := bustest.WaitOwner(b.t.Context(), b.conn, busName); err != nil {
		b.t.Fatal(err)
	}
	b.service = service
}

func (b *busNode) call(method string, args ...any) *dbus.Call {
	return b.conn.Object(busName, b.path).Call(volumeInterface+"."+method, 0, args...)
}

// do waits for the end of a transaction that a method begins.
func (b *busNode) do(method string, args ...any) (status int32, text string, result options) {
	b.t.Helper()
	var path dbus.ObjectPath
	if err := b.call(method, args...).Store(&path); err != nil {
		b.t.Fatalf("%s%v: %v", method, args, err)
	}
	s := b.signal("Completed")
	if s[0] != path {
		b.t.Fatalf("%v has ended, not %s", s[0], path)
	}
	return s[1].(int32), s[2].(string), s[3].(options)
}

// signal waits for a signal of the service.
func (b *busNode) signal(name string) []any {
	b.t.Helper()
	b.told = nil
	for s := range b.signals {
		if s.Name == busName+"."+name {
			return s.Body
		}
		b.told = append(b.told, strings.TrimPrefix(s.Name, busName+"."))
	}
	b.t.Fatal("the bus has gone")
	return nil
}

func (b *busNode) property(name string) any {
	b.t.Helper()
	v, err := b.conn.Object(busName, b.path).GetProperty(volumeInterface + "." + name)
	if err != nil {
		b.t.Fatal(err)
	}
	return v.Value()
}

// secret is a descriptor that a secret is read from.
func (b *busNode) secret(text string) dbus.Variant {
	b.t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := writer.WriteString(text); err != nil {
		b.t.Fatal(err)
	}
	writer.Close()
	b.t.Cleanup(func() { reader.Close() })
	return dbus.MakeVariant(dbus.UnixFD(reader.Fd()))
}

// sink is a descriptor that a secret is written to.
func (b *busNode) sink() (dbus.Variant, func() string) {
	b.t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { reader.Close() })
	return dbus.MakeVariant(dbus.UnixFD(writer.Fd())), func() string {
		writer.Close()
		text, err := io.ReadAll(reader)
		if err != nil {
			b.t.Fatal(err)
		}
		return strings.TrimSuffix(string(text), "\n")
	}
}

func (b *busNode) ran() string {
	text, _ := os.ReadFile(filepath.Join(b.dir, "ran"))
	return string(text)
}

func errorName(err error) string {
	var e dbus.Error
	if errors.As(err, &e) {
		return strings.TrimPrefix(e.Name, busName+".Error.")
	}
	return fmt.Sprint(err)
}

var none = options{}

func TestProperties(t *testing.T) {
	b := newBusNode(t, "0")
	paths, err := b.conn.Object(busName, busPath).GetProperty(busName + ".Volumes")
	if list, ok := paths.Value().([]dbus.ObjectPath); err != nil || !ok || len(list) != 1 || list[0] != b.path {
		t.Fatalf("volumes %v, %v", paths, err)
	}
	for name, want := range map[string]any{
		"Device": b.device(), "Label": "COS_PERSISTENT", "RecoveryKey": true, "Conversion": false, "UnlocksNow": "yes", "UnlocksAfterReboot": "yes", "Damaged": "",
	} {
		if got := b.property(name); got != want {
			t.Errorf("%s is %v, not %v", name, got, want)
		}
	}
	slots := b.property("Slots").([]options)
	if len(slots) != 2 || slots[0]["kind"].Value() != "recovery-key" || slots[1]["kind"].Value() != "tpm2" || slots[1]["slot"].Value() != int64(1) {
		t.Fatalf("slots %v", slots)
	}
	if policy, ok := slots[1]["policy"].Value().(options); !ok || fmt.Sprint(policy["pcrs"].Value()) != "[7]" || policy["bank"].Value() != "sha256" {
		t.Errorf("policy %v", slots[1]["policy"])
	}
	if last := b.property("LastUnlock").(options); len(last) != 0 {
		t.Errorf("last unlock %v, without any", last)
	}
	out, err := exec.Command("busctl", "--address="+b.address, "--no-pager", "--full", "introspect", busName, string(b.path)).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Log("busctl is not installed")
		return
	}
	for _, want := range []string{".Enroll method sa{sv} o", ".Rotate method sa{sv} o", ".WipeSlot method s o", ".Verify method a{sv} o", ".Slots property aa{sv}", ".UnlocksAfterReboot property s"} {
		if err != nil || !strings.Contains(strings.Join(strings.Fields(string(out)), " "), want) {
			t.Errorf("introspect: %v, no %q:\n%s", err, want, out)
		}
	}
}

// Each kind is enrolled and opens, and no secret is in an argument, on the bus or
// in what is said.
func TestEnroll(t *testing.T) {
	b := newBusNode(t, "0")
	messages := b.eavesdrop()
	for _, test := range []struct {
		kind  string
		given options
		slot  int64
	}{
		{"tpm2", none, 2},
		{"tpm2", options{"pcrs": dbus.MakeVariant(""), "pin": b.secret("12345678\n"), "key": b.secret(b.key)}, 3},
		{"passphrase", options{"new_key": b.secret("correct horse battery\n"), "key": b.secret(b.key + "\n")}, 4},
	} {
		status, text, result := b.do("Enroll", test.kind, test.given)
		if status != 0 || result["slot"].Value() != test.slot || result["kind"].Value() != test.kind {
			t.Errorf("%s: %d, %s, %v", test.kind, status, text, result)
		}
		if !slices.Contains(b.told, "SlotsChanged") { // before the end is told
			t.Errorf("%s: told were %v", test.kind, b.told)
		}
	}
	if len(b.property("Slots").([]options)) != 5 {
		t.Errorf("slots %v", b.property("Slots"))
	}
	file, read := b.sink()
	status, text, result := b.do("Enroll", "recovery-key", options{"recovery_key": file})
	second := read()
	if status != 0 || len(second) != 71 || second == b.key || result["recovery_key"].Value() != nil {
		t.Errorf("recovery key %q: %d, %s, %v", second, status, text, result)
	}
	for key, kind := range map[string]string{second: "recovery-key", b.key: "recovery-key", "correct horse battery": "passphrase"} {
		status, text, result := b.do("Verify", options{"key": b.secret(key)})
		if status != 0 || result["kind"].Value() != kind {
			t.Errorf("verify a %s: %d, %s, %v", kind, status, text, result)
		}
	}
	if status, text, _ := b.do("Verify", options{"key": b.secret("wrong")}); status != 1 || !strings.Contains(text, "no key slot opens with this key") {
		t.Errorf("verify a wrong key: %d, %s", status, text)
	}
	if status, _, result := b.do("Verify", none); status != 0 || result["kind"].Value() != "tpm2" {
		t.Errorf("verify without a key: %d, %v", status, result)
	}
	everything := b.ran() + messages()
	for _, secret := range []string{b.key, second, "12345678", "correct horse battery"} {
		if strings.Contains(everything, secret) {
			t.Errorf("the secret %q is in arguments or on the bus", secret)
		}
	}
	if !strings.Contains(everything, "SlotsChanged") || strings.Contains(b.ran(), "somebody was asked") {
		t.Error("the bus was not listened to, or somebody was asked")
	}
}

// eavesdrop returns what is said on the bus until its result is called.
//
// The connection is not closed while somebody listens: godbus closes the channel
// then, which its reader may be about to send on, and panics.
func (b *busNode) eavesdrop() func() string {
	b.t.Helper()
	conn := bustest.Connect(b.t, b.address)
	heard := make(chan *dbus.Message, 4096)
	if err := conn.BusObject().Call("org.freedesktop.DBus.Monitoring.BecomeMonitor", 0, []string{}, uint(0)).Err; err != nil {
		b.t.Fatal(err)
	}
	conn.Eavesdrop(heard)
	const last = "org.example.Last"
	var all strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m := range heard {
			fmt.Fprintln(&all, m.Headers, m.Body)
			for _, v := range m.Body { // a monitor gets a copy of each descriptor
				given, _ := v.(options)
				for _, o := range given {
					if fd, ok := o.Value().(dbus.UnixFD); ok {
						syscall.Close(int(fd))
					}
				}
			}
			if m.Headers[dbus.FieldInterface].Value() == last {
				return
			}
		}
	}()
	return func() string {
		// The bus keeps the order: what was said before this has been heard before it.
		if err := b.conn.Emit("/", last+".Word"); err != nil {
			b.t.Fatal(err)
		}
		<-done
		conn.Eavesdrop(nil) // from here on, nothing is sent on the channel
		return all.String()
	}
}

// A recovery key that its caller does not take is taken back.
func TestUnseenRecoveryKey(t *testing.T) {
	b := newBusNode(t, "0")
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fd := dbus.MakeVariant(dbus.UnixFD(writer.Fd()))
	reader.Close()
	defer writer.Close()
	if status, text, _ := b.do("Enroll", "recovery-key", options{"recovery_key": fd}); status != 1 || !strings.Contains(text, "broken pipe") {
		t.Errorf("%d, %s", status, text)
	}
	if status, text, _ := b.do("Rotate", "recovery-key", options{"recovery_key": fd}); status != 1 || !strings.Contains(text, "broken pipe") {
		t.Errorf("%d, %s", status, text)
	}
	if slots := b.property("Slots").([]options); len(slots) != 2 {
		t.Errorf("slots %v", slots)
	}
	if status, _, _ := b.do("Verify", options{"key": b.secret(b.key)}); status != 0 {
		t.Error("the old recovery key does not open")
	}
}

func TestRotateAndWipe(t *testing.T) {
	b := newBusNode(t, "0")
	if status, text, result := b.do("Rotate", "tpm2", none); status != 0 || result["slot"].Value() != int64(2) || result["removed"].Value() != int64(1) {
		t.Errorf("rotate tpm2: %d, %s, %v", status, text, result)
	}
	file, read := b.sink()
	if status, text, _ := b.do("Rotate", "0", options{"recovery_key": file, "key": b.secret(b.key)}); status != 0 {
		t.Errorf("rotate the recovery key: %d, %s", status, text)
	}
	fresh := read()
	for key, want := range map[string]int32{b.key: 1, fresh: 0} {
		if status, text, _ := b.do("Verify", options{"key": b.secret(key)}); status != want {
			t.Errorf("verify: %d, not %d: %s", status, want, text)
		}
	}
	if status, text, _ := b.do("WipeSlot", "recovery-key"); status != 4 || !strings.Contains(text, "the last recovery key") {
		t.Errorf("wipe the last recovery key: %d, %s", status, text)
	}
	if status, text, result := b.do("WipeSlot", "2"); status != 0 || fmt.Sprint(result["removed"].Value()) != "[2]" {
		t.Errorf("wipe slot 2: %d, %s, %v", status, text, result)
	}
	if b.property("UnlocksNow") != "no" {
		t.Errorf("without a TPM slot it unlocks: %v", b.property("UnlocksNow"))
	}
}

func TestArguments(t *testing.T) {
	b := newBusNode(t, "0")
	before := b.ran()
	one := dbus.MakeVariant
	for _, test := range []struct {
		method string
		args   []any
		saying string
	}{
		{"Enroll", []any{"--yes", none}, "is none of"},
		{"Enroll", []any{"orphan", none}, "is none of"},
		{"Enroll", []any{"tpm2", options{"pcrs": one("24")}}, "not a number from 0 to 23"},
		{"Enroll", []any{"tpm2", options{"pcrs": one(strings.Repeat("7+", 3000))}}, "more than 4096"},
		{"Enroll", []any{"tpm2", options{"bank": one("--yes")}}, "not sha1"},
		{"Enroll", []any{"tpm2", options{"pin": one("1234")}}, `type "s", not "h"`},
		{"Enroll", []any{"tpm2", options{"key-file": one("/etc/shadow")}}, "unknown option"},
		{"Enroll", []any{"passphrase", none}, "new_key is missing"},
		{"Enroll", []any{"passphrase", options{"new_key": one("secret")}}, `type "s", not "h"`},
		{"Enroll", []any{"recovery-key", none}, "recovery_key is missing"},
		{"Enroll", []any{"tang", options{"url": one("http://a")}}, "thumbprint"},
		{"Enroll", []any{"tang", options{"url": one("http://a"), "thumbprint": one("--yes --yes --yes --yes --yes --yes")}}, "thumbprint"},
		{"Rotate", []any{"32", none}, "neither"},
		{"Rotate", []any{"-1", none}, "neither"},
		{"Rotate", []any{"01", none}, "neither"},
		{"Rotate", []any{"../1", none}, "neither"},
		{"Rotate", []any{"0", none}, "recovery_key is missing"},
		{"Rotate", []any{"recovery-key", options{"recovery_key": one("/tmp/x")}}, `type "s", not "h"`},
		{"WipeSlot", []any{"--force"}, "neither"},
		{"WipeSlot", []any{strings.Repeat("1", 5000)}, "more than 4096"},
		{"Verify", []any{options{"kee": b.secret("x")}}, `did you mean "key"?`},
	} {
		err := b.call(test.method, test.args...).Err
		if errorName(err) != "InvalidArguments" || !strings.Contains(err.Error(), test.saying) {
			t.Errorf("%s%.100v: %s: %.200v", test.method, test.args, errorName(err), err)
		}
	}
	if b.ran() != before {
		t.Errorf("kairos-crypt was run: %s", b.ran())
	}
	// What a caller could not read or write itself, root does not for it.
	path, err := os.OpenFile(b.device(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer path.Close()
	if status, text, _ := b.do("Verify", options{"key": one(dbus.UnixFD(path.Fd()))}); status != 1 || !strings.Contains(text, "bad file descriptor") {
		t.Errorf("a file that may not be read was: %d, %s", status, text)
	}
	if status, text, _ := b.do("Verify", options{"key": b.secret(strings.Repeat("x", 5000))}); status != 1 || !strings.Contains(text, "longer than a key") {
		t.Errorf("a key of 5000 bytes: %d, %s", status, text)
	}
}

// One who may not, changes nothing.
func TestAuthorization(t *testing.T) {
	b := newBusNode(t, "0")
	authority := bustest.StartAuthority(t, b.address)
	object := bustest.ConnectAs(t, b.address, 65534).Object(busName, b.path)
	before := b.ran()
	for method, args := range map[string][]any{"verify": {none}, "enroll": {"tpm2", none}, "rotate": {"1", none}, "wipe-slot": {"1"}} {
		name := map[string]string{"verify": "Verify", "enroll": "Enroll", "rotate": "Rotate", "wipe-slot": "WipeSlot"}[method]
		err := object.Call(volumeInterface+"."+name, 0, args...).Err
		asked := authority.Asked()
		if errorName(err) != "org.freedesktop.DBus.Error.AccessDenied" || len(asked) != 1 || asked[0].Action != action+method {
			t.Errorf("%s: %v; polkit was asked %v", name, err, asked)
		}
	}
	if b.ran() != before {
		t.Errorf("kairos-crypt was run: %s", b.ran())
	}
	authority.Say(bustest.Answer{Authorized: true})
	if err := object.Call(volumeInterface+".WipeSlot", 0, "1").Err; err != nil {
		t.Fatal(err)
	}
	if asked := authority.Asked(); len(asked) != 1 || asked[0].Details["slot"] != "1" {
		t.Errorf("polkit was asked %v", asked)
	}
	b.signal("Completed")
}

// What others do is told.
func TestOthers(t *testing.T) {
	b := newBusNode(t, "0")
	b.crypt("enroll", "recovery-key", "--quiet", b.device())
	if told := b.signal("SlotsChanged"); told[0] != b.path {
		t.Errorf("slots of %v changed", told)
	}
	uuid := b.property("UUID").(string)
	end := report.Unlock{UUID: uuid, Name: "COS_PERSISTENT", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Slot: 1, Kind: "tpm2"}
	if err := end.Write(filepath.Join(b.dir, "unlocks"), b.device()); err != nil {
		t.Fatal(err)
	}
	if told := b.signal("VolumeUnlocked"); told[0] != b.path || told[1] != "COS_PERSISTENT" || told[2] != uint32(1) {
		t.Errorf("unlocked: %v", told)
	}
	if last := b.property("LastUnlock").(options); last["kind"].Value() != "tpm2" || last["time"].Value() != "2026-01-02T03:04:05Z" {
		t.Errorf("last unlock %v", last)
	}
	// A real failure: no device mapper has this volume's key, because nobody gives it.
	command := exec.Command("kairos-crypt", "unlock", "--key-file", os.DevNull, b.device(), "data")
	if out, err := command.CombinedOutput(); err == nil {
		t.Fatalf("it was unlocked: %s", out)
	}
	if told := b.signal("UnlockFailed"); told[0] != b.path || told[1] != "data" || !strings.Contains(told[2].(string), "no key in it") {
		t.Errorf("failed: %v", told)
	}
}

// A caller who does not write what it promised is ended with its transaction, and
// a stop ends what runs.
func TestCancel(t *testing.T) {
	b := newBusNode(t, "100ms")
	if err := b.service.Wait(); err != nil {
		t.Fatalf("an idle service ended with %v", err)
	}
	b.serve("100ms")
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	var path dbus.ObjectPath
	waiting := options{"key": dbus.MakeVariant(dbus.UnixFD(reader.Fd()))}
	if err := b.call("Verify", waiting).Store(&path); err != nil {
		t.Fatal(err)
	}
	if name := errorName(b.call("WipeSlot", "1").Err); name != "Busy" {
		t.Errorf("another one at the same time: %s", name)
	}
	if err := b.conn.Object(busName, path).Call(busName+".Transaction.Cancel", 0).Err; err != nil {
		t.Fatal(err)
	}
	if told := b.signal("Completed"); told[0] != path || told[1] != int32(130) {
		t.Errorf("cancelled: %v", told)
	}
	if err := b.call("Verify", waiting).Store(&path); err != nil {
		t.Fatal(err)
	}
	if err := b.service.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if told := b.signal("Completed"); told[0] != path || told[1] != int32(130) {
		t.Errorf("stopped: %v", told)
	}
	if err := b.service.Wait(); err != nil {
		t.Errorf("a stopped service ended with %v", err)
	}
}

func TestPathOf(t *testing.T) {
	for device, want := range map[string]dbus.ObjectPath{"/dev/vda5": volumePath + "vda5", "/dev/dm-0": volumePath + "dm_2d0", "/dev/0a": volumePath + "_30a"} {
		if got := pathOf(device); got != want || !got.IsValid() {
			t.Errorf("%s: %s, not %s", device, got, want)
		}
	}
}
