package cmd

import (
	"bytes"
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
		if out := n.want(4, "stage", args...); !strings.Contains(out, "no fs-verity any more") || !strings.Contains(out, "hint: ") {
			t.Errorf("%v: %s", args, out)
		}
	}
	if entries := n.entries(); len(entries) != 1 {
		t.Errorf("entries %v", entries)
	}
	n.want(0, "stage", "--allow-unverified", "oci:"+v2)
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
			if err == nil || !strings.Contains(err.Error(), "no signature policy judges") {
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
