package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/bus"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/report"

	volumes "github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
)

// volume is one encrypted volume on the bus.
type volume struct {
	service *service
	object  *bus.Object
	device  string
	state   report.Volume // guarded by the service's mu
}

// pathOf returns the object path of a device: its name, in which other characters than
// letters and digits are escaped as _ and two hex digits, as in sd_bus_path_encode(3).
func pathOf(device string) dbus.ObjectPath {
	var label strings.Builder
	for i, c := range []byte(filepath.Base(device)) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if letter || i > 0 && '0' <= c && c <= '9' {
			label.WriteByte(c)
		} else {
			fmt.Fprintf(&label, "_%02x", c)
		}
	}
	return dbus.ObjectPath(volumePath + label.String())
}

func (v *volume) now() report.Volume {
	v.service.mu.Lock()
	defer v.service.mu.Unlock()
	return v.state
}

func (v *volume) describe() bus.Interface {
	get := func(name, kind string, value func(report.Volume) any) bus.Property {
		return bus.Property{Name: name, Type: kind, Get: func() any { return value(v.now()) }}
	}
	return bus.Interface{
		Name: volumeInterface,
		Methods: []bus.Method{
			{Name: "Verify", Action: action + "verify", In: []string{"options"}, Out: []string{"transaction"}, Func: v.verify},
			{Name: "Enroll", Action: action + "enroll", Widens: widensEnroll, In: []string{"kind", "options"}, Out: []string{"transaction"}, Func: v.enroll},
			{Name: "Rotate", Action: action + "rotate", Widens: widensRotate, In: []string{"slot", "options"}, Out: []string{"transaction"}, Func: v.rotate},
			{Name: "WipeSlot", Action: action + "wipe-slot", In: []string{"slot"}, Out: []string{"transaction"}, Func: v.wipeSlot},
		},
		Properties: []bus.Property{
			{Name: "Device", Type: "s", Const: true, Get: func() any { return v.device }},
			get("Label", "s", func(s report.Volume) any { return s.Label }),
			get("UUID", "s", func(s report.Volume) any { return s.UUID }),
			get("Damaged", "s", func(s report.Volume) any { return s.Damaged }),
			get("Conversion", "b", func(s report.Volume) any { return s.Conversion }),
			get("RecoveryKey", "b", func(s report.Volume) any { return s.RecoveryKey }),
			get("UnlocksNow", "s", func(s report.Volume) any { return string(s.Now) }),
			get("UnlocksAfterReboot", "s", func(s report.Volume) any { return string(s.AfterReboot) }),
			get("LastUnlock", "a{sv}", func(s report.Volume) any { return bus.Dict(s.LastUnlock) }),
			get("Slots", "aa{sv}", func(s report.Volume) any { return bus.Dicts(s.Slots) }),
		},
	}
}

// widensEnroll requires further actions where the caller or a server learns the new
// key, and where the caller chooses the policy: with an empty one, any state of the
// machine would open the volume.
func widensEnroll(details map[string]string) (actions []string) {
	if details["kind"] != string(volumes.TPM2) {
		actions = append(actions, action+"add-secret")
	}
	for _, name := range []string{"pcrs", "bank"} {
		if _, given := details[name]; given {
			return append(actions, action+"choose-pcrs")
		}
	}
	return actions
}

// widensRotate requires a further action for kinds whose key the caller learns; for a
// number too, since the slot's kind is unknown.
func widensRotate(details map[string]string) []string {
	if details["slot"] != string(volumes.TPM2) {
		return []string{action + "add-secret"}
	}
	return nil
}

// request returns a request for this volume. kairos-crypt asks no person: the caller
// passes all that it needs.
func (v *volume) request(command ...string) *request {
	r := newRequest(command...)
	r.args = append(r.args, "--no-ask-password", "--json")
	return r
}

// begin starts the transaction of a request; the arguments follow its options.
func (v *volume) begin(c *bus.Call, r *request, result any, arguments ...string) (dbus.ObjectPath, error) {
	r.args = append(append(r.args, "--", v.device), arguments...)
	return v.service.do(c, r, result)
}

func (v *volume) verify(_ context.Context, c *bus.Call, given options) (dbus.ObjectPath, error) {
	r, known := v.request("unlock", "--check"), bus.Options{}
	r.operation = "verify"
	if err := r.decode(given, known, newFiles(known, map[string]string{"key": "key-file"})); err != nil {
		return "", err
	}
	return v.begin(c, r, &report.Opened{})
}

// enrollOptions are the options of each kind: file descriptors, by the options of
// kairos-crypt that they become, and texts, which have the same names there.
var enrollOptions = map[volumes.Kind]struct {
	files map[string]string
	texts []string
}{
	volumes.TPM2:       {map[string]string{"key": "key-file", "pin": "pin-file"}, []string{"pcrs", "bank"}},
	volumes.Recovery:   {map[string]string{"key": "key-file", "recovery_key": "save-recovery-key"}, nil},
	volumes.Passphrase: {map[string]string{"key": "key-file", "new_key": "new-key-file"}, nil},
	volumes.Tang:       {map[string]string{"key": "key-file"}, []string{"url", "thumbprint"}},
}

func (v *volume) enroll(_ context.Context, c *bus.Call, kind string, given options) (dbus.ObjectPath, error) {
	of, ok := enrollOptions[volumes.Kind(kind)]
	if !ok {
		return "", exit.Usagef("%.64q is none of %v", kind, volumes.Kinds)
	}
	r, known, texts := v.request("enroll", kind), bus.Options{}, map[string]*string{}
	for _, name := range of.texts {
		texts[name] = new(string)
		known[name] = texts[name]
	}
	f := newFiles(known, of.files)
	if err := r.decode(given, known, f); err != nil {
		return "", err
	}
	if err := v.complete(r, volumes.Kind(kind), given, f, texts); err != nil {
		r.close()
		return "", err
	}
	return v.begin(c, r, &report.Enrolled{})
}

// complete validates and adds the texts of an enrollment. It returns an error if a
// required option is missing.
func (v *volume) complete(r *request, kind volumes.Kind, given options, f files, texts map[string]*string) error {
	switch kind {
	case volumes.Recovery:
		if *f["save-recovery-key"] == nil {
			return exit.Usagef("option recovery_key is missing: where the key is written to")
		}
	case volumes.Passphrase:
		if *f["new-key-file"] == nil {
			return exit.Usagef("option new_key is missing: where the passphrase is read from")
		}
	case volumes.Tang:
		if !thumbprint.MatchString(*texts["thumbprint"]) {
			return exit.Usagef("option thumbprint: %.100q is not one", *texts["thumbprint"])
		}
		if *texts["url"] == "" {
			return exit.Usagef("option url is missing")
		}
	case volumes.TPM2:
		if err := checkPCRs(*texts["pcrs"]); err != nil {
			return err
		}
		if _, ok := given["pcrs"]; ok && *texts["pcrs"] == "" { // none, which is not the default
			r.args = append(r.args, "--pcrs=")
		}
		if bank := *texts["bank"]; bank != "" && !slices.Contains([]string{"sha1", "sha256", "sha384", "sha512"}, bank) {
			return exit.Usagef("option bank: %.64q is not sha1, sha256, sha384 or sha512", bank)
		}
	}
	for name, text := range texts {
		r.option(name, *text)
	}
	return nil
}

func (v *volume) rotate(_ context.Context, c *bus.Call, slot string, given options) (dbus.ObjectPath, error) {
	if err := checkSlot(slot); err != nil {
		return "", err
	}
	r, mark := v.request("rotate"), ""
	known := bus.Options{"thumbprint": &mark}
	f := newFiles(known, map[string]string{
		"key": "key-file", "new_key": "new-key-file", "pin": "pin-file", "recovery_key": "save-recovery-key",
	})
	if err := r.decode(given, known, f); err != nil {
		return "", err
	}
	if mark != "" && !thumbprint.MatchString(mark) {
		r.close()
		return "", exit.Usagef("option thumbprint: %.100q is not one", mark)
	}
	r.option("thumbprint", mark)
	if *f["save-recovery-key"] == nil && v.recovery(slot) {
		r.close()
		return "", exit.Usagef("option recovery_key is missing: where the key is written to")
	}
	return v.begin(c, r, &report.Enrolled{}, slot)
}

// recovery reports whether a name means a recovery key: kairos-crypt must not print a
// new one, which this service would read.
func (v *volume) recovery(name string) bool {
	return name == string(volumes.Recovery) || slices.ContainsFunc(v.now().Slots, func(s report.Slot) bool {
		return s.Kind == volumes.Recovery && fmt.Sprint(s.Slot) == name
	})
}

// wipeSlot never uses --force: the last way to open a volume can be removed on the
// command line only.
func (v *volume) wipeSlot(_ context.Context, c *bus.Call, slot string) (dbus.ObjectPath, error) {
	if err := checkSlot(slot); err != nil {
		return "", err
	}
	r := newRequest("wipe-slot", "--yes", "--json")
	return v.begin(c, r, &report.Wiped{}, slot)
}
