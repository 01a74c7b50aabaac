package settings

import (
	"slices"
	"testing"

	"github.com/kairos-io/toolkit/kairos-reset/internal/request"
)

func TestParse(t *testing.T) {
	for data, want := range map[string]request.Request{
		"":     {},
		"null": {},
		"{}":   {},
		`{"reset-persistent":true,"reset-oem":false,"reboot":true}`:                             {},
		`{"reset-persistent":false,"reset-oem":true,"poweroff":true}`:                           {KeepPersistent: true, OEM: true, PowerOff: true},
		`{"reboot":true,"poweroff":true}`:                                                       {},
		`{"system":{"uri":"oci:quay.io/x/y:1","size":4096}}`:                                    {Image: "oci:quay.io/x/y:1"},
		`{"system":{"source":"oci:quay.io/x/y:2","uri":"old"}}`:                                 {Image: "oci:quay.io/x/y:2"},
		`{"system":{"uri":"ocifile:///oem/image.tar"}}`:                                         {Image: "file:/oem/image.tar"},
		`{"reset-persistent":null,"system":null,"grub-entry-name":"X","extra-dirs-rootfs":[1]}`: {},
	} {
		got, ignored, err := Parse([]byte(data))
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", data, got, err, want)
		}
		if want := []string{"reset.extra-dirs-rootfs"}; len(ignored) > 0 && !slices.Equal(ignored, want) {
			t.Errorf("%s: ignored %v", data, ignored)
		}
	}
	for _, data := range []string{
		"[]", "{", `{"reset-oem":"yes"}`, `{"system":"quay.io/x/y"}`,
		`{"system":{"uri":"--store=/"}}`, `{"system":{"uri":"a b"}}`,
	} {
		if got, _, err := Parse([]byte(data)); err == nil {
			t.Errorf("%s: %+v, want an error", data, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"reset-persistent":false,"reset-oem":true,"poweroff":true,"system":{"uri":"quay.io/x/y:1"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, _, err := Parse(data); err == nil && request.CheckImage(r.Image) != nil {
			t.Errorf("image %q", r.Image)
		}
	})
}
