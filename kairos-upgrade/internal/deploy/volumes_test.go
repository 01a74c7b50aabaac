package deploy

import (
	"maps"
	"testing"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
)

const uuidA, uuidB, uuidC = "aaaaaaaa-0000-4000-8000-000000000000", "bbbbbbbb-0000-4000-8000-000000000000", "cccccccc-0000-4000-8000-000000000000"

// digits follow the UUID in what disk.Volume says.
const digits = ":0123456789abcdef0123456789abcdef"

// What was expected stays, what is open beside it is added, and only a person
// changes it.
func TestVolumes(t *testing.T) {
	expected := "kairos.image=sha256:0 kairos.crypt=COS_OEM:" + uuidA
	for name, test := range map[string]struct {
		label, last string
		unlocked    map[string]string
		asked, want deployment.Volumes
	}{
		"an older node gains it":   {disk.LabelState, "quiet", map[string]string{"COS_OEM": uuidA, "COS_PERSISTENT": uuidB, "data": uuidC}, nil, deployment.Volumes{"COS_OEM": uuidA, "COS_PERSISTENT": uuidB}},
		"an exchanged one doesn't": {disk.LabelState, expected, map[string]string{"COS_OEM": uuidC}, nil, deployment.Volumes{"COS_OEM": uuidA}},
		"closed, it stays":         {disk.LabelState, expected, nil, nil, deployment.Volumes{"COS_OEM": uuidA}},
		"a person says so":         {disk.LabelState, expected, nil, deployment.Volumes{"COS_OEM": uuidC, "DATA": uuidB}, deployment.Volumes{"COS_OEM": uuidC, "DATA": uuidB}},
		"not encrypted any more":   {disk.LabelState, expected, nil, deployment.Volumes{"COS_OEM": NoVolume}, nil},
		"what can't be copied":     {disk.LabelState, expected, map[string]string{"COS_OEM": uuidA + digits}, nil, deployment.Volumes{"COS_OEM": uuidA + digits}},
		"it stays, too":            {disk.LabelState, expected + digits, map[string]string{"COS_OEM": uuidA}, nil, deployment.Volumes{"COS_OEM": uuidA + digits}},
		"only the UUID is copied":  {disk.LabelState, expected + digits, map[string]string{"COS_OEM": uuidA + ":ffffffffffffffffffffffffffffffff"}, nil, deployment.Volumes{"COS_OEM": uuidA + digits}},
		"asked by UUID":            {disk.LabelState, expected + digits, map[string]string{"COS_OEM": uuidC + digits}, deployment.Volumes{"COS_OEM": uuidC}, deployment.Volumes{"COS_OEM": uuidC + digits}},
		"recovery":                 {disk.LabelRecovery, "", map[string]string{"COS_OEM": uuidA, "COS_PERSISTENT": uuidB}, nil, deployment.Volumes{"COS_OEM": uuidA}},
		"live":                     {disk.LabelLive, "", map[string]string{"COS_OEM": uuidA}, nil, nil},
		"no volumes":               {disk.LabelState, "quiet", nil, nil, nil},
	} {
		list := deployments(t, "1:good:booted")
		list[0].Options = test.last
		n := &Node{Label: test.label, Unlocked: test.unlocked}
		if have := n.volumes(list, test.asked); !maps.Equal(have, test.want) {
			t.Errorf("%s: %v, want %v", name, have, test.want)
		}
	}
}

func TestWithVolumes(t *testing.T) {
	v := deployment.Volumes{"COS_OEM": uuidA}
	with := " kairos.crypt=COS_OEM:" + uuidA
	for have, want := range map[string]string{
		"a b": "a b" + with, "a kairos.crypt=x b": "a b" + with, "a kairos.crypt=x": "a" + with, `a="b c"` + with: `a="b c"` + with,
	} {
		if now := withVolumes(have, v); now != want {
			t.Errorf("%q: %q, want %q", have, now, want)
		}
	}
	if now := withVolumes("a"+with+" b", nil); now != "a b" {
		t.Errorf("without: %q", now)
	}
}
