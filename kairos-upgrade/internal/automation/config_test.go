package automation

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
)

func write(t *testing.T, root, file, text string) {
	t.Helper()
	imagetest.Write(t, filepath.Join(root, file), []byte(text))
}

func TestLoad(t *testing.T) {
	root := t.TempDir()
	c, err := Load(root)
	if err != nil || c.Mode != Off || c.Follow != FollowTag || c.RebootDelay != time.Minute || len(c.Windows) != 0 ||
		c.Recovery != (Recovery{false, 2}) {
		t.Fatalf("%+v, %v", c, err)
	}
	write(t, root, "etc/kairos/upgrade.conf", "[Recovery]\nRepair=yes\nAttempts=5\n")
	write(t, root, "usr/lib/kairos/upgrade.conf.d/10-image.conf", "[Upgrade]\nMode=check\nReference=quay.io/x/os\nFollow=semver\nRange=>=1.2 <2\nPrerelease=yes\nAllowUnverified=yes\nWindow=01:00..02:00\n")
	write(t, root, "etc/kairos/upgrade.conf.d/20-site.conf", "[Upgrade]\nMode=apply\nWindow=\nWindow=Sat,Sun 02:00..04:00\nWindow=Mon..Wed 23:00..01:00\nRebootDelaySec=0\n")
	c, err = Load(root)
	if err != nil || c.Mode != Apply || c.Reference != "quay.io/x/os" || c.Follow != FollowSemver || !c.Prerelease || !c.AllowUnverified ||
		c.Range == nil || len(c.Windows) != 2 || c.RebootDelay != 0 || c.Recovery != (Recovery{true, 5}) {
		t.Fatalf("%+v, %v", c, err)
	}
}

func TestMistakes(t *testing.T) {
	for line, want := range map[string]string{
		"Mode=yes":                      `Mode: "yes": not one of off, check, stage, apply`,
		"Reference=oci:/nowhere":        "Reference: ",
		"Follow=latest":                 "not one of tag, tag-always, semver",
		"Range=newest":                  "Range: ",
		"Range=>1":                      "need Follow=semver",
		"Prerelease=maybe":              "neither yes nor no",
		"Window=Sunday":                 "not of the form DAYS HH:MM..HH:MM",
		"RebootDelaySec=later":          "RebootDelaySec: time span",
		"Colour=blue":                   "Colour: unknown in section [Upgrade]",
		"[Recovery]\nRepair=perhaps":    "Repair: ",
		"[Recovery]\nAttempts=0":        "not a number from 1 to 255",
		"[Recovery]\nAttempts=256":      "not a number from 1 to 255",
		"[Recovery]\nMode=apply":        "Mode: unknown in section [Recovery]",
		"Mode=stage\n[Other]\nMode=off": "unknown in section [Other]",
	} {
		root := t.TempDir()
		write(t, root, "etc/kairos/upgrade.conf", "[Upgrade]\n"+line+"\n")
		if _, err := Load(root); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

func TestWindow(t *testing.T) {
	// 2026-11-21 is a Saturday.
	for _, test := range []struct{ window, at, next string }{
		{"Sat,Sun 02:00..04:00", "2026-11-21 02:00", "2026-11-22 02:00"},
		{"Sat,Sun 02:00..04:00", "2026-11-21 03:59", "2026-11-22 02:00"},
		{"Sat,Sun 02:00..04:00", "!2026-11-21 04:00", "2026-11-22 02:00"},
		{"Sat,Sun 02:00..04:00", "!2026-11-21 01:59", "2026-11-21 02:00"},
		{"Sat,Sun 02:00..04:00", "!2026-11-20 03:00", "2026-11-21 02:00"},
		{"Sat..Mon 02:00..04:00", "2026-11-23 03:00", "2026-11-28 02:00"},
		{"fri..MONDAY 00:00..24:00", "2026-11-23 23:59", "2026-11-27 00:00"},
		{"Sat 23:00..01:00", "2026-11-22 00:30", "2026-11-28 23:00"},
		{"Sat 23:00..01:00", "!2026-11-21 00:30", "2026-11-21 23:00"},
		{"2:00..03:30", "2026-11-24 03:29", "2026-11-25 02:00"},
		{"Tue 02:00..03:00", "!2026-11-24 03:00", "2026-12-01 02:00"},
	} {
		w, err := ParseWindow(test.window)
		if err != nil {
			t.Error(err)
			continue
		}
		at, err := time.ParseInLocation("2006-01-02 15:04", strings.TrimPrefix(test.at, "!"), time.Local)
		if err != nil {
			t.Fatal(err)
		}
		if w.Contains(at) == strings.HasPrefix(test.at, "!") {
			t.Errorf("%s contains %s: %t", test.window, test.at, w.Contains(at))
		}
		if next := (Windows{w}).Next(at).Format("2006-01-02 15:04"); next != test.next {
			t.Errorf("%s after %s opens %s, want %s", test.window, test.at, next, test.next)
		}
	}
	if !(Windows{}).Contains(time.Now()) {
		t.Error("without windows, it is never time")
	}
	for _, s := range []string{"", "Sat", "02:00", "02:00..", "..02:00", "25:00..26:00", "24:00..25:00", "02:00..02:00", "02:0..03:00",
		"Sa 02:00..03:00", "Sat, 02:00..03:00", "Sat.. 02:00..03:00", "Sat 02:00..03:00 UTC", "02:60..03:00", "-1:00..02:00"} {
		if w, err := ParseWindow(s); err == nil {
			t.Errorf("%q: %+v, want an error", s, w)
		}
	}
}

func FuzzParseWindow(f *testing.F) {
	for _, s := range []string{"Sat,Sun 02:00..04:00", "Mon..Fri 22:00..05:30", "02:00..24:00", "Sun..Sat 0:00..0:01"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		w, err := ParseWindow(s)
		if err != nil {
			return
		}
		next := Windows{w}.Next(now)
		if !next.After(now) || !w.Contains(next) {
			t.Errorf("%q: opens next at %s, which it does not contain", s, next)
		}
	})
}

func tagsOf(releases []Release) string {
	var tags []string
	for _, r := range releases {
		tags = append(tags, r.Tag)
	}
	return strings.Join(tags, " ")
}

func TestReleases(t *testing.T) {
	tags := strings.Fields("latest v1.2.0 1.10.0 v2 v2.0.0 v2.1.0-rc.1 1.9.9 sha-abc 3.0.0")
	if have, want := tagsOf(Sorted(tags)), "3.0.0 v2.1.0-rc.1 v2.0.0 v2 1.10.0 1.9.9 v1.2.0 latest sha-abc"; have != want {
		t.Errorf("%s, want %s", have, want)
	}
	for _, test := range []struct {
		within, than, want string
		pre                bool
	}{
		{"", "1.9.9", "3.0.0 v2.0.0 v2 1.10.0", false},
		{"", "", "3.0.0 v2.0.0 v2 1.10.0 1.9.9 v1.2.0", false},
		{"~1", "v1.2.0", "1.10.0 1.9.9", false},
		{">=2 <3", "1.0.0", "v2.0.0 v2", false},
		{">=2 <3", "1.0.0", "v2.1.0-rc.1 v2.0.0 v2", true},
		{"^2", "2.0.0", "", false},
		{"^2", "2.0.0", "v2.1.0-rc.1", true},
		{"", "3.0.0", "", true},
	} {
		c := Config{Follow: FollowSemver, Prerelease: test.pre}
		if test.within != "" {
			var err error
			if c.Range, err = semver.NewConstraint(test.within); err != nil {
				t.Fatal(err)
			}
		}
		if have := tagsOf(c.Newer(tags, NewRelease(test.than))); have != test.want {
			t.Errorf("%q newer than %s: %s, want %s", test.within, test.than, have, test.want)
		}
	}
}
