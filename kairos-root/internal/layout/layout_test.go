package layout

import (
	"path"
	"slices"
	"strings"
	"testing"
)

func TestDefault(t *testing.T) {
	l := Default()
	if len(l.Persistent) != 37 || !slices.Contains(l.Persistent, "/etc/ssl/certs") || !slices.Contains(l.Persistent, "/home") {
		t.Errorf("%d persistent paths: %v", len(l.Persistent), l.Persistent)
	}
}

func TestAdd(t *testing.T) {
	l := Default()
	before := len(l.Persistent)
	err := l.Add("cos-layout.env", []byte(`
# written by the rootfs stage
VOLUMES="LABEL=COS_OEM:/oem LABEL=COS_PERSISTENT:/usr/local LABEL=DATA:/data:rw,noatime /dev/vdb1:/srv/x"
OVERLAY=tmpfs:512m
RW_PATHS="/var /etc /srv /scratch/"
PERSISTENT_STATE_TARGET=/usr/local/.kept
PERSISTENT_STATE_PATHS='/etc/ssh /var/lib/docker'
PERSISTENT_STATE_BIND=true
export CUSTOM_BIND_MOUNTS=/var/lib/ceph \
  /var/lib/docker
`))
	if err != nil {
		t.Error(err)
	}
	if got, want := l.Ephemeral, []string{"/etc", "/var", "/srv", "/scratch"}; !slices.Equal(got, want) {
		t.Errorf("ephemeral %v, want %v", got, want)
	}
	if got, want := l.Persistent[before:], []string{"/var/lib/docker", "/var/lib/ceph"}; !slices.Equal(got, want) {
		t.Errorf("persistent %v, want %v", got, want)
	}
	if want := []Volume{{"LABEL=DATA", "/data"}, {"/dev/vdb1", "/srv/x"}}; !slices.Equal(l.Volumes, want) {
		t.Errorf("volumes %v, want %v", l.Volumes, want)
	}
	if l.OverlaySize != "512m" || l.StateDir != ".kept" {
		t.Errorf("overlay %q, state %q", l.OverlaySize, l.StateDir)
	}
}

func TestAddErrors(t *testing.T) {
	for text, want := range map[string]string{
		"nonsense":                               "line 1: want NAME=VALUE",
		"\n1X=y":                                 "line 2: want NAME=VALUE",
		`RW_PATHS="/x`:                           "line 1: RW_PATHS: no closing quote",
		`RW_PATHS="/x" y`:                        "text after the closing quote",
		"RW_PATH=/x":                             "unknown variable",
		"RW_PATHS=/":                             "the root stays read-only",
		"RW_PATHS=/a/..":                         "the root stays read-only",
		"RW_PATHS=var":                           "must be absolute",
		"CUSTOM_BIND_MOUNTS=/usr":                "the image's programs stay read-only",
		"CUSTOM_BIND_MOUNTS=/var/../usr/lib":     "the image's programs stay read-only",
		"CUSTOM_BIND_MOUNTS=/run/x":              "belongs to the system",
		"OVERLAY=LABEL=X":                        "only tmpfs:SIZE is supported",
		"OVERLAY=tmpfs:101%":                     "want tmpfs:25%",
		"OVERLAY=tmpfs:0":                        "want tmpfs:25%",
		"OVERLAY=tmpfs:1,mode=777":               "want tmpfs:25%",
		"VOLUMES=LABEL=X":                        "want SOURCE:PATH",
		"VOLUMES=LABEL=X:/usr/local":             "is where COS_PERSISTENT is",
		"VOLUMES=LABEL=../../sda:/x":             "want LABEL=",
		"VOLUMES=/dev/../etc:/x":                 "want LABEL=",
		"VOLUMES=ID=X:/x":                        "want LABEL=",
		"PERSISTENT_STATE_TARGET=/usr/local/../": "must be beneath /usr/local",
		"PERSISTENT_STATE_TARGET=/var":           "must be beneath /usr/local",
	} {
		l := Default()
		if err := l.Add("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
		if d := Default(); !slices.Equal(l.Ephemeral, d.Ephemeral) || !slices.Equal(l.Persistent, d.Persistent) {
			t.Errorf("%q: changed the lists", text)
		}
	}
}

func FuzzAdd(f *testing.F) {
	f.Add([]byte("RW_PATHS=\"/var /etc\"\nVOLUMES=LABEL=A:/b\nOVERLAY=tmpfs:25%\nPERSISTENT_STATE_TARGET=/usr/local/.s"))
	f.Add([]byte("export CUSTOM_BIND_MOUNTS='/a/../b' \\\n/c\r\n;x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := Default()
		_ = l.Add("f", data)
		for _, p := range slices.Concat(l.Ephemeral, l.Persistent) {
			if !path.IsAbs(p) || path.Clean(p) != p || p == "/" || p == "/usr" {
				t.Errorf("accepted path %q", p)
			}
		}
		for _, v := range l.Volumes {
			if path.Clean(v.Target) != v.Target || strings.Contains(v.Source, "..") && !strings.Contains(v.Source, "=") {
				t.Errorf("accepted volume %q", v)
			}
		}
		if strings.ContainsAny(l.OverlaySize, ", ") || l.StateDir == "" || path.IsAbs(l.StateDir) || strings.HasPrefix(l.StateDir, "..") {
			t.Errorf("accepted overlay %q, state %q", l.OverlaySize, l.StateDir)
		}
	})
}
