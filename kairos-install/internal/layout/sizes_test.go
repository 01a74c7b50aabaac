package layout

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-install/internal/bytesize"
)

const (
	mib = bytesize.MiB
	gib = bytesize.GiB
)

func TestFor(t *testing.T) {
	for _, test := range []struct {
		name  string
		image Image
		want  Bounds
	}{
		{"nearly nothing", Image{1 * mib, 10 * mib}, Bounds{1 * gib, 288 * mib, 544 * mib, 544 * mib, 8 * gib}},
		{"Debian minimal", Image{400 * mib, 60 * mib}, Bounds{1 * gib, 800 * mib, 1568 * mib, 1728 * mib, 8 * gib}},
		{"a desktop with a large UKI", Image{3 * gib, 400 * mib}, Bounds{2080 * mib, 4256 * mib, 8512 * mib, 9728 * mib, 24 * gib}},
	} {
		if got := For(test.image); got != test.want {
			t.Errorf("%s: %+v\nwant %+v", test.name, got, test.want)
		}
	}
}

// TestForHolds checks the promises for any size of an image.
func TestForHolds(t *testing.T) {
	for size := int64(1); size < 100*gib; size = size*3/2 + 7 {
		b := For(Image{size, size / 5})
		switch {
		case b.RecoveryMin < size+size*3/10+recoverySlack, b.RecoveryMax < 2*size+recoverySlack:
			t.Errorf("%d bytes: recovery %+v", size, b)
		case b.StateMin < 3*size+stateSlack, b.StateMax < b.StateMin:
			t.Errorf("%d bytes: state %+v", size, b)
		case b.ESP < gib, b.ESP < 5*(size/5)+espSlack:
			t.Errorf("%d bytes: ESP %+v", size, b)
		}
	}
}

func TestOverridesCheck(t *testing.T) {
	for _, test := range []struct {
		name string
		o    Overrides
		want string // "" when it is fine
	}{
		{"nothing", Overrides{}, ""},
		{"sizes", Overrides{OEM: Override{128 * mib, "ext4"}, State: Override{10 * gib, "btrfs"}}, ""},
		{"no verity", Overrides{State: Override{0, "xfs"}}, "a store needs fs-verity"},
		{"negative", Overrides{Persistent: Override{-1, ""}}, "size -1"},
		{"a line of its own", Overrides{OEM: Override{0, "ext4\nType=esp"}}, "not a name"},
		{"extra", Overrides{Extra: []Extra{{Name: "DATA", Size: gib, Format: "xfs"}}}, ""},
		{"extra, escaping", Overrides{Extra: []Extra{{Name: "../x", Size: gib, Format: "xfs"}}}, "not a label"},
		{"extra, no size", Overrides{Extra: []Extra{{Name: "DATA", Size: 0, Format: "xfs"}}}, "needs a size"},
	} {
		err := test.o.Check()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestWriteDropins(t *testing.T) {
	dir := t.TempDir()
	o := Overrides{Persistent: Override{Format: "btrfs"}, Extra: []Extra{{Name: "DATA", Size: 10*mib + 1, Format: "xfs"}}}
	if err := WriteDropins(dir, Bounds{ESP: gib, RecoveryMin: mib, RecoveryMax: 2 * mib, StateMin: 3 * mib, StateMax: gib}, o); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"30-recovery.conf.d/50-image.conf":    "[Partition]\nSizeMinBytes=1048576\nSizeMaxBytes=2097152\n",
		"40-state.conf.d/50-image.conf":       "[Partition]\nSizeMinBytes=3145728\nSizeMaxBytes=1073741824\n",
		"50-persistent.conf.d/60-config.conf": "[Partition]\nFormat=btrfs\n",
		"45-extra-00-DATA.conf":               "[Partition]\nSizeMinBytes=10489856\nSizeMaxBytes=10489856\nFormat=xfs\nType=linux-generic\nLabel=DATA\n",
	} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v\nwant %q", name, got, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "10-esp.conf.d")); err == nil {
		t.Error("a drop-in for the ESP, which is as large as the definition says")
	}
}

func TestTableCheck(t *testing.T) {
	good := func() Table {
		return Table{Partitions: []Partition{
			{Label: "COS_GRUB", Type: "esp", Size: gib}, {Label: "COS_OEM", Size: 64 * mib}, {Label: "COS_RECOVERY", Size: gib},
			{Label: "COS_STATE", Size: 2 * gib}, {Label: "COS_PERSISTENT", Size: gib},
		}}
	}
	bounds := Bounds{ESP: gib, RecoveryMin: gib, StateMin: 2 * gib}
	if err := good().Check(bounds); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		spoil func(*Table)
		want  string
	}{
		{"missing", func(t *Table) { t.Partitions = t.Partitions[1:] }, "no partition is labelled COS_GRUB"},
		{"twice", func(t *Table) { t.Partitions[1].Label = "COS_STATE" }, "no partition is labelled COS_OEM; 2 partitions are labelled COS_STATE"},
		{"small", func(t *Table) { t.Partitions[3].Size-- }, "COS_STATE would have 2.0 GiB, this image needs 2 GiB"},
		{"no ESP", func(t *Table) { t.Partitions[0].Type = "linux-generic" }, "the firmware would not find it"},
	} {
		table := good()
		test.spoil(&table)
		if err := table.Check(bounds); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`[{"type":"esp","label":"COS_GRUB","partno":0,"node":"/dev/vda1","raw_size":1073741824}]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := parse(data)
		if err == nil {
			_ = table.Check(Bounds{})
			_ = table.Sum()
		}
	})
}
