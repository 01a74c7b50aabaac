package request

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
)

// node makes an ESP with a deployment and a recovery system.
func node(t *testing.T) ESP {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"loader/entries/kairos-7-0123456789ab+3.conf": "title v7\nsort-key kairos\nversion 7\nlinux /kairos/linux-a\n",
		"loader/entries/kairos-recovery.conf":         "title Recovery\nsort-key kairos-recovery\nversion 1\nlinux /kairos/linux-r\noptions kairos.store=COS_RECOVERY\n",
		"loader/entries/debian.conf":                  "title other\nsort-key debian\nlinux /kairos/linux-a\n",
		"kairos/linux-a":                              "kernel",
		"kairos/linux-r":                              "kernel",
	}
	for name, data := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755),
			os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return ESP{root}
}

func first(t *testing.T, e ESP) bls.Entry {
	t.Helper()
	entries, err := bls.ESP{Root: e.Root}.Entries()
	if err != nil || len(entries) == 0 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	return entries[0]
}

func TestArmedNodeBootsTheResetFirst(t *testing.T) {
	e := node(t)
	before := first(t, e)
	if err := e.Arm(Request{OEM: true, Image: "quay.io/x/y:1"}); err != nil {
		t.Fatal(err)
	}
	now := first(t, e)
	if now.Name.String() != "kairos-reset+3.conf" || now.Options != "kairos.store=COS_RECOVERY kairos.reset" || now.Linux != "/kairos/linux-r" {
		t.Errorf("boots first: %+v", now)
	}
	if r, err := e.Read(); err != nil || r != (Request{OEM: true, Image: "quay.io/x/y:1"}) {
		t.Errorf("%+v, %v", r, err)
	}
	if err := e.Finish(); err != nil {
		t.Fatal(err)
	}
	if now := first(t, e); now.Name != before.Name {
		t.Errorf("after cancelling %s boots first, not %s", now.Name, before.Name)
	}
	if _, err := e.Read(); !errors.Is(err, ErrNone) {
		t.Errorf("after cancelling: %v", err)
	}
	if _, err := e.Root.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after cancelling: %v", err)
	}
}

// A recovery system that does not come up leads back to what was there; one that does is in charge
// until the end.
func TestTries(t *testing.T) {
	e := node(t)
	before := first(t, e)
	if err := e.Arm(Request{}); err != nil {
		t.Fatal(err)
	}
	entries := "loader/entries/"
	for _, name := range []string{"kairos-reset+2-1.conf", "kairos-reset+1-2.conf", "kairos-reset+0-3.conf"} {
		if exhausted, err := e.Exhausted(); exhausted || err != nil || first(t, e).Name.Base != deployment.ResetEntry {
			t.Errorf("before %s: exhausted %v, %v, and %s boots first", name, exhausted, err, first(t, e).Name)
		}
		if err := e.Root.Rename(entries+first(t, e).Name.String(), entries+name); err != nil {
			t.Fatal(err)
		}
	}
	if exhausted, err := e.Exhausted(); !exhausted || err != nil || first(t, e).Name != before.Name {
		t.Errorf("after the last try: exhausted %v, %v, and %s boots first", exhausted, err, first(t, e).Name)
	}
	if err := e.Arm(Request{}); err != nil || first(t, e).Name.String() != "kairos-reset+3.conf" {
		t.Errorf("armed anew, %s boots first, %v", first(t, e).Name, err)
	}
	if err := e.Hold(); err != nil || first(t, e).Name.String() != "kairos-reset.conf" {
		t.Errorf("held, %s boots first, %v", first(t, e).Name, err)
	}
	if err := e.Hold(); err != nil {
		t.Errorf("held again: %v", err)
	}
}

// What was written without being armed is no request: the cut came before the
// entry was published.
func TestRequestWithoutEntryIsNone(t *testing.T) {
	e := node(t)
	if err := e.Write(Request{OEM: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Read(); !errors.Is(err, ErrNone) {
		t.Errorf("%v", err)
	}
}

func TestArmRefuses(t *testing.T) {
	t.Run("begun", func(t *testing.T) {
		e := node(t)
		if err := errors.Join(e.Arm(Request{}), e.Write(Request{Done: Erase})); err != nil {
			t.Fatal(err)
		}
		if err := e.Arm(Request{}); err == nil {
			t.Error("armed anew")
		}
		if r, err := e.Read(); err != nil || r.Done != Erase {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("no recovery", func(t *testing.T) {
		e := node(t)
		if err := (bls.ESP{Root: e.Root}).Remove(recoveryBase); err != nil {
			t.Fatal(err)
		}
		if err := e.Arm(Request{}); err == nil || exit.HintOf(err) == "" {
			t.Errorf("%v", err)
		}
	})
	for name, damage := range map[string]func(e ESP) error{
		"kernel missing": func(e ESP) error { return e.Root.Remove("kairos/linux-r") },
		"kernel empty":   func(e ESP) error { return e.Root.WriteFile("kairos/linux-r", nil, 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			e := node(t)
			if err := damage(e); err != nil {
				t.Fatal(err)
			}
			if err := e.Arm(Request{}); err == nil {
				t.Error("armed with a recovery system that does not boot")
			}
			if first(t, e).Name.Base == deployment.ResetEntry {
				t.Error("the entry was published")
			}
		})
	}
}

func TestPhasesAreOrdered(t *testing.T) {
	r := Request{Done: Format}
	for _, p := range Phases() {
		if want := p == Before || p == Erase || p == Format; r.Has(p) != want {
			t.Errorf("%s done: %v", p, r.Has(p))
		}
	}
	if (Request{}).Has(Before) || (Request{}).Begun() {
		t.Error("a new request has a phase done")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"oem":true,"image":"quay.io/x/y:1","done":"erase"}`))
	f.Add([]byte(`{"image":"--store=/"}`))
	f.Add([]byte(`{"done":"never"}`))
	f.Add([]byte(`{"image":"a b"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err != nil {
			return
		}
		if CheckImage(r.Image) != nil {
			t.Errorf("image %q let through", r.Image)
		}
		if r.Begun() != r.Has(Before) {
			t.Errorf("%+v: begun, or not", r)
		}
	})
}
