package deploy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/store"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/tree"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/fsverity"
)

// deployments reads "5:pending 4:good:booted 3:bad 2:good:pinned 1:incomplete",
// newest first. Entries are in the order of the boot menu: by serial, bad last.
// Every deployment has an image of its own, unless "=N" names another's.
func deployments(t *testing.T, text string) (list []Deployment) {
	t.Helper()
	order := 0
	place := func(d *Deployment) { d.order = order; order++ }
	for word := range strings.FieldsSeq(text) {
		parts := strings.Split(word, ":")
		var d Deployment
		if _, err := fmt.Sscan(parts[0], &d.Serial); err != nil {
			t.Fatal(err)
		}
		image := parts[0]
		d.State, d.order = State(parts[1]), -1
		for _, p := range parts[2:] {
			switch {
			case p == "booted":
				d.Booted = true
			case p == "pinned":
				d.Pinned = true
			case p == "quarantined":
				d.Quarantined = &deployment.Quarantine{Reason: "it failed"}
			case p[0] == '=':
				image = p[1:]
			}
		}
		d.ImageDigest = fmt.Sprintf("sha256:%064s", image)
		d.ID = fmt.Sprintf("%d-%012d", d.Serial, d.Serial)
		list = append(list, d)
	}
	for _, bad := range []bool{false, true} {
		for i := range list {
			if d := &list[i]; d.State != Incomplete && (d.State == Bad) == bad {
				place(d)
			}
		}
	}
	return list
}

func serials(ids []string) string {
	var out []string
	for _, id := range ids {
		serial, _, _ := strings.Cut(id, "-")
		if !slices.Contains(out, serial) {
			out = append(out, serial)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestKeepers(t *testing.T) {
	for _, test := range []struct{ have, keep string }{
		{"", ""},
		{"1:pending", "1"},
		{"2:pending 1:good:booted", "1 2"},
		{"3:good:booted 2:good 1:good", "2 3"},
		{"4:pending 3:good:booted 2:good 1:good", "2 3 4"},
		// What was staged and never booted gives way to what was staged later.
		{"5:pending 4:pending 3:good:booted 2:good", "2 3 5"},
		{"3:bad 2:good:booted 1:good", "1 2"},
		// The running one is kept, whatever became of it.
		{"3:bad:booted 2:good 1:good", "1 2 3"},
		{"3:pending:booted 2:good 1:good", "2 3"},
		{"4:good:booted 3:good 2:good:pinned 1:bad:pinned", "1 2 3 4"},
		{"3:incomplete 2:good:booted 1:good", "1 2"},
		// Nothing is known to run from here: two good ones.
		{"3:good 2:good 1:good", "2 3"},
		{"4:pending 3:good 2:good 1:good", "2 3 4"},
		{"3:bad 2:bad 1:bad", ""},
	} {
		if have := serials(keepers(deployments(t, test.have))); have != test.keep {
			t.Errorf("%s: kept %q, want %q", test.have, have, test.keep)
		}
	}
}

func TestRoles(t *testing.T) {
	for _, test := range []struct{ have, booted, staged, previous string }{
		{"", "", "", ""},
		{"2:good:booted 1:good", "2", "", "1"},
		{"3:pending 2:good:booted 1:good", "2", "3", "1"},
		{"3:bad 2:good:booted 1:good", "2", "", "1"},
		// By hand from the menu: the newer one boots again.
		{"2:good 1:good:booted", "1", "2", ""},
		{"3:pending:booted 2:good", "3", "", "2"},
	} {
		r := RolesOf(deployments(t, test.have))
		name := func(d *Deployment) string {
			if d == nil {
				return ""
			}
			return fmt.Sprint(d.Serial)
		}
		if name(r.Booted) != test.booted || name(r.Staged) != test.staged || name(r.Previous) != test.previous {
			t.Errorf("%s: booted %s, staged %s, previous %s", test.have, name(r.Booted), name(r.Staged), name(r.Previous))
		}
	}
}

func TestRollbackTarget(t *testing.T) {
	for _, test := range []struct {
		have, id string
		force    bool
		want     string
		err      error
	}{
		{"2:good:booted 1:good", "", false, "1", nil},
		{"3:pending 2:good:booted 1:good", "", false, "2", nil},
		{"3:bad 2:good:booted 1:good", "", false, "1", nil},
		{"3:good:booted:=1 2:good 1:good", "", false, "2", nil},
		{"2:good:booted:=1 1:good", "", false, "", ErrNoWayBack},
		{"1:good:booted", "", false, "", ErrNoWayBack},
		{"3:good:booted 2:good:quarantined 1:good", "", false, "1", nil},
		{"3:good:booted 2:bad 1:good", "2", false, "", ErrNoTries},
		{"3:good:booted 2:bad 1:good", "2", true, "2", nil},
		{"3:good:booted 2:good:quarantined", "2-", false, "", ErrQuarantined},
		{"3:good:booted 2:good", "3", false, "", ErrUpToDate},
		{"3:good:booted 2:good", "7", false, "", ErrNoDeployment},
	} {
		d, err := RollbackTarget(deployments(t, test.have), test.id, test.force)
		if !errors.Is(err, test.err) {
			t.Errorf("%s to %q: %v", test.have, test.id, err)
		} else if err == nil && fmt.Sprint(d.Serial) != test.want {
			t.Errorf("%s to %q: %s", test.have, test.id, d.ID)
		}
	}
}

func TestFindByPrefix(t *testing.T) {
	list := deployments(t, "12:good 11:good 1:good")
	for id, want := range map[string]uint64{"12": 12, "1": 1, "11-0": 11, "12-000000000012": 12} {
		if d, err := Find(list, id); err != nil || d.Serial != want {
			t.Errorf("%s: %v, %v", id, d, err)
		}
	}
	if _, err := Find(list, "3"); !errors.Is(err, ErrNoDeployment) {
		t.Error(err)
	}
}

func TestNodeKargs(t *testing.T) {
	for _, test := range []struct {
		last, add, remove, want string
		fails                   bool
	}{
		{"a b", "", "", "a b", false},
		{"a", "b a", "", "a b", false},
		{"a b", "c", "a", "b c", false},
		{"a", "", "b", "", true},
		{"", "kairos.store=X", "", "", true},
	} {
		have, err := nodeKargs(strings.Fields(test.last), strings.Fields(test.add), strings.Fields(test.remove))
		if (err != nil) != test.fails || err == nil && strings.Join(have, " ") != test.want {
			t.Errorf("%+v: %q, %v", test, have, err)
		}
	}
}

func TestOptions(t *testing.T) {
	d := fsverity.Digest{0xab}
	zeros := strings.Repeat("0", 62)
	for verity, want := range map[bool]string{
		true:  "kairos.image=sha256:ab" + zeros + " kairos.store=COS_STATE rd.systemd.gpt_auto=0 panic=30 quiet ro",
		false: "kairos.image=?sha256:ab" + zeros + " kairos.store=COS_STATE rd.systemd.gpt_auto=0 panic=30 quiet ro",
	} {
		if have := options("COS_STATE", verity, d, []string{"quiet"}, []string{"ro"}); have != want {
			t.Errorf("%q, want %q", have, want)
		}
	}
}

// A tree is not deployed if anything is missing that it names.
func TestAssembleIncomplete(t *testing.T) {
	v, err := view.Writable(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Create(t.Context(), v, store.Holder{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	root, usr, boot := tree.NewDir(0o755), tree.NewDir(0o755), tree.NewDir(0o755)
	for _, e := range []struct {
		dir  *tree.Inode
		name string
		node *tree.Inode
	}{
		{root, "usr", usr}, {root, "boot", boot},
		{boot, "vmlinuz-1", tree.NewInline(0o644, []byte("kernel"))}, {boot, "initrd-1", tree.NewInline(0o644, []byte("initrd"))},
		{usr, "gone", tree.NewFile(0o644, 1000, fsverity.Bytes(make([]byte, 1000)))},
	} {
		if err := e.dir.Insert(e.name, e.node); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := assemble(t.Context(), s, root); err == nil || !strings.Contains(err.Error(), "missing after everything was fetched") {
		t.Errorf("%v", err)
	}
}
