package bus

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/kairos-io/toolkit/lib/bus/bustest"
)

const nobody = 65534

// secret calls what needs an authorization; Object.Call would drop the flag.
func secret(conn *dbus.Conn, flags dbus.Flags) error {
	body := []any{"quay.io/x/y:1", int64(1)}
	msg := &dbus.Message{Type: dbus.TypeMethodCall, Flags: flags, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(testName),
		dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath(testPath)),
		dbus.FieldInterface:   dbus.MakeVariant(testName),
		dbus.FieldMember:      dbus.MakeVariant("Secret"),
		dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(body...)),
	}}
	return (<-conn.Send(msg, make(chan *dbus.Call, 1)).Done).Err
}

func TestAuthorization(t *testing.T) {
	address := bustest.Start(t)
	newCounter(t, address, 0)
	root, user := bustest.Connect(t, address), bustest.ConnectAs(t, address, nobody)
	asUser := found(t, user)

	err := secret(user, 0)
	if nameOf(err) != ErrorAccessDenied || !strings.Contains(fmt.Sprint(err), "polkit is not available") {
		t.Errorf("without polkit: %s: %v", nameOf(err), err)
	}
	if err := secret(root, 0); err != nil {
		t.Errorf("root without polkit: %v", err)
	}
	if err := asUser.Call(testName+".Add", 0, int64(1)).Err; err != nil {
		t.Errorf("what needs no authorization: %v", err)
	}

	authority := bustest.StartAuthority(t, address)
	for _, test := range []struct {
		answer bustest.Answer
		flags  dbus.Flags
		want   string
	}{
		{bustest.Answer{}, 0, ErrorAccessDenied},
		{bustest.Answer{}, dbus.FlagAllowInteractiveAuthorization, ErrorAccessDenied},
		{bustest.Answer{Challenge: true}, 0, ErrorInteractive},
		{bustest.Answer{Challenge: true}, dbus.FlagAllowInteractiveAuthorization, ErrorAccessDenied},
		{bustest.Answer{Authorized: true}, 0, "<nil>"},
	} {
		authority.Say(test.answer)
		if err := secret(user, test.flags); nameOf(err) != test.want {
			t.Errorf("%+v: %s: %v, want %s", test, nameOf(err), err, test.want)
		}
		asked := authority.Asked()
		interactive := uint32(0)
		if test.flags != 0 {
			interactive = 1
		}
		if len(asked) != 1 || asked[0].Action != "io.kairos.test1.secret" || asked[0].Details["reference"] != "quay.io/x/y:1" || asked[0].Flags != interactive {
			t.Errorf("polkit was asked %+v", asked)
		}
	}
	authority.Say(bustest.Answer{})
	if err := secret(root, 0); err != nil || len(authority.Asked()) != 0 {
		t.Errorf("root: %v, or polkit was asked", err)
	}
}

// What widens a request is asked for by an action of its own, and polkit learns
// of every argument and option: an option never as an argument, and none under
// a name that polkit understands itself.
func TestWidenedRequests(t *testing.T) {
	address := bustest.Start(t)
	newCounter(t, address, 0)
	o := found(t, bustest.ConnectAs(t, address, nobody))
	authority := bustest.StartAuthority(t, address)
	const narrow, wide = "io.kairos.test1.narrow", "io.kairos.test1.wide"
	type options = map[string]any
	for _, test := range []struct {
		allowed []string
		options options
		denied  bool
		asked   []string
	}{
		{[]string{narrow}, options{}, false, []string{narrow}},
		{[]string{narrow}, options{"force": false}, false, []string{narrow}},
		{[]string{narrow}, options{"force": true}, true, []string{narrow, wide}},
		{[]string{narrow}, options{"force": true, "reference": "good"}, true, []string{narrow, wide}},
		{[]string{wide}, options{"force": true}, true, []string{narrow}},
		{[]string{narrow, wide}, options{"force": true}, false, []string{narrow, wide}},
	} {
		authority.Allow(test.allowed...)
		err := o.Call(testName+".Widen", 0, "bad", variants(test.options)).Err
		if (nameOf(err) == ErrorAccessDenied) != test.denied || err != nil && !test.denied {
			t.Errorf("%+v: %v", test, err)
		}
		var asked []string
		for _, q := range authority.Asked() {
			asked = append(asked, q.Action)
			if q.Details["reference"] != "bad" || q.Details["method"] != "Widen" {
				t.Errorf("%+v: details %v", test, q.Details)
			}
		}
		if !slices.Equal(asked, test.asked) {
			t.Errorf("%+v: polkit was asked for %v", test, asked)
		}
	}
	authority.Allow()
	o.Call(testName+".Widen", 0, "bad", variants(options{"polkit.message": "x", "karg": []string{"a", "b"}, "Bad": "x", "n": int32(-1)}))
	want := map[string]string{"reference": "bad", "method": "Widen", "karg": "a\nb", "n": "-1"}
	if asked := authority.Asked(); len(asked) != 1 || !maps.Equal(asked[0].Details, want) {
		t.Errorf("polkit was asked %v, want the details %v", asked, want)
	}
}

func variants(values map[string]any) map[string]dbus.Variant {
	v := map[string]dbus.Variant{}
	for name, value := range values {
		v[name] = dbus.MakeVariant(value)
	}
	return v
}
