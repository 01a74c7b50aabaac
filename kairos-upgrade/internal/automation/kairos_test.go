package automation

import (
	"slices"
	"strings"
	"testing"
)

// Kairos' own tags are read for what they are, and a node follows those of its
// own flavor only.
func TestKairosTags(t *testing.T) {
	tags := strings.Fields(`24.04-standard-amd64-generic-v3.3.3 24.04-standard-amd64-generic-v3.4.0 24.04-standard-amd64-generic-v3.10.0
		24.04-core-amd64-generic-v3.10.0 24.04-standard-arm64-rpi4-v3.10.0-k3sv1.32.2-k3s1 24.04-standard-arm64-rpi4-v3.10.0-k3sv1.32.2-k3s1-img
		24.04-standard-amd64-generic-v3.10.0-k3sv1.32.2-k3s1 24.04-standard-amd64-generic-v3.10.0-k3sv1.33.0-k3s1
		24.04-core-arm64-nvidia-jetson-agx-orin-v3.4.0 24.04-core-arm64-nvidia-jetson-agx-orin-v3.10.0 22.04-core-arm64-nvidia-jetson-agx-orin-v3.10.0
		24.04-standard-amd64-generic-v3.12.0-k3s-v1.34.0-k3s1 24.04-standard-amd64-generic-v3.12.0-k0s-v1.34.0-k0s.0 24.04-standard-amd64-generic-v3.11.0-rc1 24.04-standard-amd64-generic-v3.10.0-img leap-15.6-core-amd64-generic-v3.10.0 latest`)
	for _, test := range []struct{ runs, want string }{
		{"24.04-standard-amd64-generic-v3.3.3", "24.04-standard-amd64-generic-v3.10.0 24.04-standard-amd64-generic-v3.4.0"},
		{"24.04-standard-amd64-generic-v3.10.0", ""},
		{"24.04-standard-amd64-generic-v3.10.0-k3sv1.32.2-k3s1", "24.04-standard-amd64-generic-v3.12.0-k3s-v1.34.0-k3s1 24.04-standard-amd64-generic-v3.10.0-k3sv1.33.0-k3s1"},
		{"24.04-core-arm64-nvidia-jetson-agx-orin-v3.4.0", "24.04-core-arm64-nvidia-jetson-agx-orin-v3.10.0"},
		{"24.04-standard-arm64-rpi4-v3.4.0-k3sv1.31.0-k3s1", "24.04-standard-arm64-rpi4-v3.10.0-k3sv1.32.2-k3s1"},
		{"leap-15.6-core-amd64-generic-v3.4.0", "leap-15.6-core-amd64-generic-v3.10.0"},
	} {
		runs := NewRelease(test.runs)
		if have := tagsOf(Config{}.Newer(For(tags, runs, "amd64"), runs)); have != test.want {
			t.Errorf("%s: %s", test.runs, have)
		}
	}
	// Not known what runs: the images of this architecture.
	if have := For(tags, Release{}, "arm64"); !slices.Contains(have, tags[4]) || slices.Contains(have, tags[0]) {
		t.Errorf("%s", have)
	}
	if r := NewRelease("24.04-standard-amd64-generic-v3.10.0-img"); r.Version != nil {
		t.Errorf("%+v", r)
	}
}

// Commit ids and dates are no versions beside versions of three parts; where
// they are all that there is, they are.
func TestDigitsAreNoVersions(t *testing.T) {
	for tags, want := range map[string]string{
		"1.2.3 1.10.0 20240115 1234567 v2":                     "v2 1.10.0 1.2.3",
		"20240115 20250101":                                    "20250101 20240115",
		"v1.0.0 20240115.1.0 20240115-abcd":                    "v1.0.0",
		"1.2.3 2024.01.15 2024-01-15 v2024.12.31 2024.01.15-2": "1.2.3",
		"1.2.3 2024.1.5":                                       "2024.1.5 1.2.3",
		"2024.01.15 2024.11.02":                                "2024.11.02 2024.01.15",
	} {
		if have := tagsOf(Config{Prerelease: true}.Newer(strings.Fields(tags), Release{})); have != want {
			t.Errorf("%s: %s", tags, have)
		}
	}
}
