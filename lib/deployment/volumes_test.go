package deployment

import (
	"maps"
	"testing"
)

func TestVolumes(t *testing.T) {
	const a, b = "01234567-89ab-cdef-0123-456789abcdef", "11111111-2222-3333-4444-555555555555"
	v, err := ParseVolumes("COS_PERSISTENT:" + b + ",COS_OEM:" + a)
	if err != nil || !maps.Equal(v, Volumes{"COS_OEM": a, "COS_PERSISTENT": b}) {
		t.Errorf("%v, %v", v, err)
	}
	if s := v.String(); s != "COS_OEM:"+a+",COS_PERSISTENT:"+b {
		t.Errorf("printed as %s", s)
	}
	if v, err := ParseVolumes(""); err != nil || len(v) != 0 {
		t.Errorf("none: %v, %v", v, err)
	}
	for _, wrong := range []string{
		",", "COS_OEM", "COS_OEM:", ":" + a, "COS_OEM:" + a + ",", "COS_OEM:" + a + ",COS_OEM:" + b,
		"a b:" + a, "COS_OEM:01234567-89AB-cdef-0123-456789abcdef", "COS_OEM:01234567089ab-cdef-0123-456789abcdef",
	} {
		if v, err := ParseVolumes(wrong); err == nil {
			t.Errorf("%q was taken for %v", wrong, v)
		}
	}
}

func FuzzParseVolumes(f *testing.F) {
	f.Add("COS_OEM:01234567-89ab-cdef-0123-456789abcdef")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseVolumes(text)
		if err != nil {
			return
		}
		if again, err := ParseVolumes(v.String()); err != nil || !maps.Equal(again, v) {
			t.Errorf("%q: %v, %v", text, again, err)
		}
	})
}
