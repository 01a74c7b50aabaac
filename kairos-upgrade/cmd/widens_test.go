package cmd

import (
	"encoding/xml"
	"os"
	"slices"
	"testing"
)

// A rule that lets somebody stage the images of one repository gives no more
// than that: io.kairos.Upgrade1(5), "Authorization".
func TestWhatWidensARequest(t *testing.T) {
	type details = map[string]string
	const arguments, local, force = action + "stage-with-arguments", action + "stage-local", action + "force"
	for _, test := range []struct {
		widens     func(map[string]string) []string
		details    details
		repository string
		want       []string
	}{
		{widensStage, details{"reference": "quay.io/x/y:1"}, "quay.io/x/y", nil},
		{widensStage, details{"reference": "docker://quay.io/x/y@sha256:" + sixtyFour}, "quay.io/x/y", nil},
		{widensStage, details{"reference": "docker.io/y:1"}, "docker.io/library/y", nil},
		{widensStage, details{"reference": "localhost:5000/y"}, "localhost:5000/y", nil},
		{widensStage, details{"reference": "quay.io/x/y:1", "force": "false", "karg": "", "delete-karg": ""}, "quay.io/x/y", nil},
		{widensStage, details{"reference": "quay.io/x/y:1", "karg": "systemd.run=/bin/sh"}, "quay.io/x/y", []string{arguments}},
		{widensStage, details{"reference": "quay.io/x/y:1", "delete-karg": "quiet"}, "quay.io/x/y", []string{arguments}},
		{widensStage, details{"reference": "quay.io/x/y:1", "force": "true"}, "quay.io/x/y", []string{force}},
		{widensStage, details{"reference": "dir:/home/a", "force": "true", "karg": "a"}, "", []string{local, arguments, force}},
		{widensStage, details{"reference": "oci:quay.io/x/y:1", "repository": "quay.io/x/y"}, "", []string{local}},
		{widensStage, details{"reference": "store:/home/a"}, "", []string{local}},
		{widensStage, details{"reference": "y:1"}, "", []string{local}},
		{widensStage, details{"reference": "file:///home/a"}, "", []string{local}},
		{widensStage, details{"reference": ""}, "", []string{local}},
		{widensCheck, details{"reference": "quay.io/x/y:1", "force": "true", "karg": "a"}, "quay.io/x/y", nil},
		{widensCheck, details{"reference": "containers-storage:quay.io/x/y"}, "", []string{local}},
		{widensRollback, details{"id": "1", "force": "true"}, "", []string{force}},
		{widensRollback, details{"id": "1"}, "", nil},
	} {
		have := test.widens(test.details)
		if !slices.Equal(have, test.want) || test.details["repository"] != test.repository {
			t.Errorf("%v: %v, want %v of repository %q", test.details, have, test.want, test.repository)
		}
	}
}

const sixtyFour = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// Every action that is asked for is one that polkit knows.
func TestActionsArePolkits(t *testing.T) {
	data, err := os.ReadFile("../../units/polkit/io.kairos.Upgrade1.policy")
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Actions []struct {
			ID string `xml:"id,attr"`
		} `xml:"action"`
	}
	if err := xml.Unmarshal(data, &policy); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, a := range policy.Actions {
		known[a.ID] = true
	}
	asked := widensStage(map[string]string{"reference": "dir:/", "karg": "a", "force": "true"})
	for _, m := range (&service{}).describe().Methods {
		asked = append(asked, m.Action)
	}
	for _, a := range asked {
		if !known[a] {
			t.Errorf("%s is no action of the policy", a)
		}
	}
}
