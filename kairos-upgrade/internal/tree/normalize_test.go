package tree

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNormalize(t *testing.T) {
	for _, c := range []struct {
		name    string
		options NormalizeOptions
		labels  int
	}{
		{"default", NormalizeOptions{}, 0},
		{"selinux", NormalizeOptions{SELinux: true}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := NewDir(0o700)
			root.UID, root.Mtime = 5, 99
			root.SetXattr("user.root", "x")
			usr := put(t, root, "usr", NewDir(0o755))
			usr.GID, usr.Mtime = 7, 1700000000
			usr.SetXattr("security.selinux", "usr_t")
			usr.SetXattr("user.usr", "x")
			run := put(t, root, "run", NewDir(0o711))
			run.UID, run.Mtime = 9, 5
			put(t, run, "lock", NewInline(0o644, nil))
			put(t, root, "boot", NewSymlink("usr/boot"))
			ping := put(t, usr, "ping", NewFile(0o755, 1000, [32]byte{1}))
			ping.SetXattr("security.capability", "cap")
			ping.SetXattr("trusted.overlay.opaque", "y")
			ping.Mtime = 3

			if err := Normalize(root, c.options); err != nil {
				t.Fatal(err)
			}
			if root.Mode != unix.S_IFDIR|0o755 || root.UID != 0 || root.GID != 7 || root.Mtime != usr.Mtime {
				t.Errorf("root %+v is not like /usr", root)
			}
			if len(root.Xattrs) != c.labels || len(usr.Xattrs) != c.labels || len(run.Xattrs) != 0 {
				t.Errorf("attributes %v, %v", root.Xattrs, usr.Xattrs)
			}
			if run.Len() != 0 || run.Mtime != usr.Mtime || run.UID != 9 || run.Mode != unix.S_IFDIR|0o711 {
				t.Errorf("/run %+v", run)
			}
			if boot := root.Lookup("boot"); !boot.IsSymlink() || boot.Mtime != 0 {
				t.Errorf("/boot, a symbolic link, became %+v", boot)
			}
			if len(ping.Xattrs) != 1 || ping.Xattrs[0].Name != "security.capability" || ping.Mtime != 3 {
				t.Errorf("ping %+v", ping)
			}
			if root.Lookup("sysroot") != nil {
				t.Error("/sysroot was invented")
			}
		})
	}
}

func TestNormalizeWithoutUsr(t *testing.T) {
	root := NewDir(0o755)
	if err := Normalize(root, NormalizeOptions{}); !errors.Is(err, ErrNoUsr) {
		t.Errorf("error %v", err)
	}
	put(t, root, "usr", NewSymlink("elsewhere"))
	if err := Normalize(root, NormalizeOptions{}); !errors.Is(err, ErrNoUsr) {
		t.Errorf("error %v", err)
	}
}

func TestHasSELinuxPolicy(t *testing.T) {
	root := NewDir(0o755)
	selinux := put(t, put(t, root, "etc", NewDir(0o755)), "selinux", NewDir(0o755))
	put(t, selinux, "config", NewInline(0o644, nil))
	policy := put(t, put(t, selinux, "targeted", NewDir(0o755)), "policy", NewDir(0o755))
	if HasSELinuxPolicy(root) {
		t.Error("no policy yet")
	}
	put(t, policy, "policy.33", NewFile(0o644, 1000, [32]byte{1}))
	if !HasSELinuxPolicy(root) {
		t.Error("policy.33 not seen")
	}
}
