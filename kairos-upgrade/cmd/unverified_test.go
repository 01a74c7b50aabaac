package cmd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/bus/bustest"
)

// wasVerified makes the records of a store say that it had fs-verity.
func (n node) wasVerified() {
	n.t.Helper()
	names, err := filepath.Glob(filepath.Join(n.store, "deployments/*.json"))
	if err != nil || len(names) == 0 {
		n.t.Fatalf("records %v, %v", names, err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			n.t.Fatal(err)
		}
		changed := bytes.Replace(data, []byte(`"verity": false`), []byte(`"verity": true`), 1)
		if bytes.Equal(changed, data) {
			n.t.Fatalf("no verity in %s", data)
		}
		if err := os.WriteFile(name, changed, 0o644); err != nil {
			n.t.Fatal(err)
		}
	}
}

// TestLostVerity sees that a store that has lost fs-verity takes an image that
// nobody checks any more only when that is asked for.
func TestLostVerity(t *testing.T) {
	n := newNode(t)
	v1, v2 := secretImage(t).Layout(t, "v1"), bootable(t).Layout(t, "v2")
	n.want(0, "stage", "oci:"+v1)
	n.bless(1)
	n.wasVerified()
	for _, args := range [][]string{{"oci:" + v2}, {"--dry-run", "oci:" + v2}, {"--force", "oci:" + v2}} {
		if out := n.want(4, "stage", args...); !strings.Contains(out, "has lost fs-verity") || !strings.Contains(out, "hint: ") {
			t.Errorf("%v: %s", args, out)
		}
	}
	if entries := n.entries(); len(entries) != 1 {
		t.Errorf("entries %v", entries)
	}
	n.want(0, "stage", "--allow-unverified", "oci:"+v2)
}

// TestVolumesExpected sees that the boot entry names the encrypted volumes of the
// node, in every later deployment and after a rollback too, and that the editor of
// the boot menu is off then.
func TestVolumesExpected(t *testing.T) {
	n := newNode(t)
	const oem = "COS_OEM:01234567-89ab-cdef-0123-456789abcdef"
	v1, v2 := "oci:"+secretImage(t).Layout(t, "v1"), "oci:"+bootable(t).Layout(t, "v2")
	menu := filepath.Join(n.esp, "loader/loader.conf")
	options := func(serial int) string {
		names, err := filepath.Glob(filepath.Join(n.esp, fmt.Sprintf("loader/entries/kairos-%d-*.conf", serial)))
		if err != nil || len(names) != 1 {
			t.Fatalf("entry %d: %v, %v", serial, names, err)
		}
		data, err := os.ReadFile(names[0])
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	n.want(0, "stage", v1)
	n.bless(1)
	if _, err := os.Stat(menu); err == nil || strings.Contains(options(1), "kairos.crypt") {
		t.Errorf("nothing is encrypted: %v, %s", err, options(1))
	}
	n.want(2, "stage", "--crypt", "COS_OEM", v2)
	n.want(1, "stage", "--karg", "kairos.crypt="+oem, v2)
	n.want(0, "stage", "--crypt", oem, v2)
	n.bless(2)
	if data, err := os.ReadFile(menu); err != nil || string(data) != "editor no\n" {
		t.Errorf("loader.conf: %q, %v", data, err)
	}
	n.want(0, "rollback", "1")
	n.want(0, "stage", "--force", v2)
	n.want(0, "stage", "--crypt", "COS_OEM:none", v2)
	for serial, want := range map[int]bool{2: true, 3: true, 4: true, 5: false} {
		if serial == 4 || serial == 3 {
			if names, _ := filepath.Glob(filepath.Join(n.esp, fmt.Sprintf("loader/entries/kairos-%d-*.conf", serial))); len(names) == 0 {
				continue // collected
			}
		}
		if have := strings.Contains(options(serial), " kairos.crypt="+oem); have != want {
			t.Errorf("deployment %d: %s", serial, options(serial))
		}
	}
}

// TestBusUnsigned sees that a caller who is not root can't have staged what no
// signature policy judges, whatever polkit allows them.
func TestBusUnsigned(t *testing.T) {
	b := newBusNode(t, "0", "oci:"+strings.TrimSuffix(secretImage(t).Layout(t, "v1"), ":v1"))
	conn := bustest.Connect(t, b.address)
	if err := conn.Export(everything{}, "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName("org.freedesktop.PolicyKit1", dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	user := bustest.ConnectAs(t, b.address, 65534).Object(busName, busPath)
	for _, source := range []string{"dir:" + t.TempDir(), "store:" + b.store} {
		for _, method := range []string{"Stage", "Check"} {
			err := user.Call(busName+"."+method, 0, source, map[string]dbus.Variant{}).Err
			if err == nil || !strings.Contains(err.Error(), "the signature policy does not apply") {
				t.Errorf("%s %s: %v", method, source, err)
			}
		}
	}
}

// everything is a polkit that allows it.
type everything struct{}

func (everything) CheckAuthorization(bustest.Subject, string, map[string]string, uint32, string) (struct {
	Authorized, Challenge bool
	Details               map[string]string
}, *dbus.Error) {
	return struct {
		Authorized, Challenge bool
		Details               map[string]string
	}{Authorized: true, Details: map[string]string{}}, nil
}
