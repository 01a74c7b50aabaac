package account

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/testroot"
	"golang.org/x/sys/unix"
)

func newRoot(t testing.TB) (*rootfs.Root, string) {
	t.Helper()
	dir := testroot.New(t)
	r, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, dir
}

// ensure applies users beneath a root and returns the files that changed.
func ensure(t testing.TB, r *rootfs.Root, users ...schema.User) []string {
	t.Helper()
	db, err := Open(r)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, u := range users {
		if err := db.EnsureUser(u); err != nil {
			t.Fatal(err)
		}
	}
	changed, err := db.Save()
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// line returns the line of a name in a file, or "".
func line(t testing.TB, dir, file, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(data)) {
		if strings.HasPrefix(l, name+":") {
			return strings.TrimSuffix(l, "\n")
		}
	}
	return ""
}

// TestAgainstUseradd makes the same users with useradd(8) and compares the
// files. Two differences are meant: the date of the last password change is
// left out, and accounts without password get "*" instead of "!".
func TestAgainstUseradd(t *testing.T) {
	useradd, err := exec.LookPath("useradd")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("needs useradd and root")
	}
	const hash = "$6$salt$hash"
	for _, c := range []struct {
		name  string
		setup []string // groupadd first
		args  []string
		user  schema.User
	}{
		{"plain", nil, []string{"alice"}, schema.User{Name: "alice"}},
		{"all fields", nil, []string{"-u", "1234", "-c", "Alice A.", "-d", "/srv/alice", "-s", "/bin/zsh", "-p", hash, "-G", "sudo,users", "alice"},
			schema.User{Name: "alice", UID: "1234", GECOS: "Alice A.", Homedir: "/srv/alice", Shell: "/bin/zsh", Passwd: hash, Groups: schema.Names{"sudo", "users"}}},
		{"primary group", nil, []string{"-g", "users", "alice"}, schema.User{Name: "alice", PrimaryGroup: "users"}},
		{"primary group by number", nil, []string{"-g", "100", "alice"}, schema.User{Name: "alice", PrimaryGroup: "100"}},
		{"common group", nil, []string{"-N", "alice"}, schema.User{Name: "alice", NoUserGroup: true}},
		{"system", nil, []string{"-r", "daemon2"}, schema.User{Name: "daemon2", System: true}},
		{"number taken by a group", []string{"-g", "1000", "other"}, []string{"alice"}, schema.User{Name: "alice"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			theirs := testroot.New(t)
			r, ours := newRoot(t)
			for _, dir := range []string{ours, theirs} {
				if c.setup != nil {
					run(t, "groupadd", append([]string{"--prefix", dir}, c.setup...)...)
				}
			}
			run(t, useradd, append([]string{"--prefix", theirs}, c.args...)...)
			ensure(t, r, c.user)
			for _, file := range []string{"etc/passwd", "etc/group", "etc/gshadow", "etc/shadow"} {
				if got, want := sorted(t, ours, file), sorted(t, theirs, file); got != want {
					t.Errorf("%s:\n%s\nuseradd:\n%s", file, got, want)
				}
			}
		})
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// sorted returns a file without what is meant to differ.
func sorted(t testing.TB, dir, file string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	for i, l := range lines {
		f := strings.Split(l, ":")
		switch {
		case file == "etc/shadow":
			if f[1] == "*" {
				f[1] = "!"
			}
			f[2] = ""
			// useradd -r sets no ageing at all.
			f[3], f[4], f[5] = "", "", ""
		}
		lines[i] = strings.Join(f, ":")
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestPwck has pwck(8) and grpck(8) judge the files.
func TestPwck(t *testing.T) {
	if _, err := exec.LookPath("pwck"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs pwck and root")
	}
	r, dir := newRoot(t)
	testroot.WithShell(t, dir)
	user := schema.User{Name: "alice", Groups: schema.Names{"sudo", "new"}, Passwd: "$6$a$b", Shell: "/bin/sh"}
	ensure(t, r, user, schema.User{Name: "bob", LockPasswd: true, Shell: "/bin/sh"})
	db, err := Read(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob"} {
		a, _ := db.Lookup(name)
		if _, err := EnsureHome(r, a); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range []string{"pwck", "grpck"} {
		out, err := exec.Command(tool, "-r", "-R", dir).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 2) { // 2: it has found something, in accounts of others maybe
			t.Fatalf("%s did not judge: %v: %s", tool, err, out)
		}
		for l := range strings.Lines(string(out)) {
			if strings.Contains(l, "alice") || strings.Contains(l, "bob") || strings.Contains(l, "new") || strings.Contains(l, "invalid") {
				t.Errorf("%s: %s", tool, l)
			}
		}
	}
}

func TestTwiceChangesNothing(t *testing.T) {
	r, _ := newRoot(t)
	users := []schema.User{
		{Name: "alice", Passwd: "$6$a$b", Groups: schema.Names{"sudo", "wheel"}, LockPasswd: true},
		{Name: "svc", System: true, PrimaryGroup: "apps"},
	}
	if changed := ensure(t, r, users...); len(changed) != 4 {
		t.Errorf("first: %v", changed)
	}
	if changed := ensure(t, r, users...); len(changed) != 0 {
		t.Errorf("second: %v", changed)
	}
}

func TestChange(t *testing.T) {
	r, dir := newRoot(t)
	ensure(t, r, schema.User{Name: "root", Passwd: "$6$x$y", Shell: "/bin/sh", GECOS: "boss"})
	if got := line(t, dir, "etc/passwd", "root"); got != "root:x:0:0:boss:/root:/bin/sh" {
		t.Error(got)
	}
	if got := line(t, dir, "etc/shadow", "root"); got != "root:$6$x$y:20000:0:99999:7:::" {
		t.Error(got)
	}
	ensure(t, r, schema.User{Name: "root", LockPasswd: true})
	if got := line(t, dir, "etc/shadow", "root"); got != "root:!$6$x$y:20000:0:99999:7:::" {
		t.Error("locking must keep the hash:", got)
	}
	ensure(t, r, schema.User{Name: "root"})
	if got := line(t, dir, "etc/passwd", "root"); got != "root:x:0:0:boss:/root:/bin/sh" {
		t.Error("what is not asked for must stay:", got)
	}
}

func TestErrors(t *testing.T) {
	r, _ := newRoot(t)
	db, err := Open(r)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for want, u := range map[string]schema.User{
		"make user a: uid 1 belongs to user daemon":                             {Name: "a", UID: "1"},
		`make user b: uid "x" is not the number of a user`:                      {Name: "b", UID: "x"},
		`make user c: uid "4294967295" is not the number of a user`:             {Name: "c", UID: "4294967295"},
		"change user daemon: it has uid 1, not 5, and owns files with that uid": {Name: "daemon", UID: "5"},
		"make user d: no group has the number 4711":                             {Name: "d", PrimaryGroup: "4711"},
	} {
		if err := db.EnsureUser(u); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for want, g := range map[string]schema.Group{
		"make group g: gid 27 belongs to group sudo": {Name: "g", GID: "27"},
		"group sudo has gid 27, not 28":              {Name: "sudo", GID: "28"},
	} {
		if err := db.EnsureGroup(g); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if changed, err := db.Save(); err != nil || len(changed) > 0 {
		t.Errorf("failed requests changed %v, %v", changed, err)
	}
}

// TestHomeKeepsItsOwner: the accounts are made anew at each boot, homes stay.
// Whoever owns a home gets the same number again, in whatever order users come.
func TestHomeKeepsItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for chown")
	}
	r, dir := newRoot(t)
	for name, id := range map[string]int{"alice": 1005, "bob": 1000} {
		home := filepath.Join(dir, "home", name)
		if err := errors.Join(os.Mkdir(home, 0o700), os.Chown(home, id, id)); err != nil {
			t.Fatal(err)
		}
	}
	ensure(t, r, schema.User{Name: "aaron"}, schema.User{Name: "alice"}, schema.User{Name: "bob"})
	for name, want := range map[string]string{"alice": "1005:1005", "bob": "1000:1000", "aaron": "1006:1006"} {
		if got := line(t, dir, "etc/passwd", name); !strings.Contains(got, ":"+want+":") {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestEnsureHome(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for chown")
	}
	r, dir := newRoot(t)
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "etc/skel/link")); err != nil {
		t.Fatal(err)
	}
	a := Account{"alice", 1000, 1001, "/home/deep/alice"}
	for i, want := range []string{a.Home, ""} {
		if made, err := EnsureHome(r, a); made != want || err != nil {
			t.Fatalf("%d: %q, %v", i, made, err)
		}
	}
	for name, mode := range map[string]os.FileMode{"": os.ModeDir | 0o700, ".profile": 0o644, ".config": os.ModeDir | 0o755, ".config/rc": 0o644, "link": os.ModeSymlink | 0o777} {
		checkFile(t, filepath.Join(dir, a.Home, name), mode, 1000, 1001)
	}
	checkFile(t, filepath.Join(dir, "home/deep"), os.ModeDir|0o755, 0, 0)
	if _, err := EnsureHome(r, Account{"bob", 1007, 1007, a.Home}); err == nil || !strings.Contains(err.Error(), "belongs to uid 1000, not 1007") {
		t.Errorf("home of another: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "home/image"), 0o755); err != nil {
		t.Fatal(err)
	}
	if made, err := EnsureHome(r, Account{"image", 1009, 1009, "/home/image"}); made == "" || err != nil {
		t.Errorf("home of the image: %q, %v", made, err)
	}
	checkFile(t, filepath.Join(dir, "home/image"), os.ModeDir|0o755, 1009, 1009)
}

func TestAuthorizeKeys(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for chown")
	}
	r, dir := newRoot(t)
	a := Account{"alice", 1000, 1000, "/home/alice"}
	if _, err := EnsureHome(r, a); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "home/alice/.ssh/authorized_keys")
	for i, c := range []struct {
		keys    []string
		changed bool
		want    string
	}{
		{[]string{"ssh-ed25519 A a", " ssh-ed25519 A a \n", "", "ssh-rsa B\nssh-rsa C\n"}, true, "ssh-ed25519 A a\nssh-rsa B\nssh-rsa C\n"},
		{[]string{"ssh-rsa C"}, false, "ssh-ed25519 A a\nssh-rsa B\nssh-rsa C\n"},
		{[]string{"ssh-rsa D"}, true, "ssh-ed25519 A a\nssh-rsa B\nssh-rsa C\nssh-rsa D\n"},
	} {
		changed, err := AuthorizeKeys(r, a, c.keys)
		if err != nil || (changed != "") != c.changed {
			t.Fatalf("%d: %q, %v", i, changed, err)
		}
		if data, _ := os.ReadFile(file); string(data) != c.want {
			t.Errorf("%d: got %q", i, data)
		}
	}
	checkFile(t, filepath.Dir(file), os.ModeDir|0o700, 1000, 1000)
	checkFile(t, file, 0o600, 1000, 1000)
}

// TestKeysFollowNoLinks: a home belongs to its user, who may put links there
// that point to files of others.
func TestKeysFollowNoLinks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for chown")
	}
	for _, links := range []map[string]string{
		{".ssh": "/etc"}, {".ssh": "../../etc"}, {".ssh/authorized_keys": "/etc/shadow"}, {".ssh/authorized_keys": "../../../etc/shadow"},
	} {
		r, dir := newRoot(t)
		a := Account{"mallory", 1000, 1000, "/home/mallory"}
		home := filepath.Join(dir, a.Home)
		for name, target := range links {
			if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(home, name)), 0o700), os.Symlink(target, filepath.Join(home, name))); err != nil {
				t.Fatal(err)
			}
		}
		before, err := os.ReadFile(filepath.Join(dir, "etc/shadow"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = AuthorizeKeys(r, a, []string{"ssh-rsa evil"})
		t.Log(err)
		if after, _ := os.ReadFile(filepath.Join(dir, "etc/shadow")); string(after) != string(before) {
			t.Errorf("%v: shadow changed", links)
		}
		checkFile(t, filepath.Join(dir, "etc/shadow"), 0o640, 0, 0)
		checkFile(t, filepath.Join(dir, "etc"), os.ModeDir|0o755, 0, 0)
		if _, err := os.Stat(filepath.Join(dir, "etc/authorized_keys")); err == nil {
			t.Errorf("%v: wrote /etc/authorized_keys", links)
		}
	}
}

func checkFile(t testing.TB, path string, mode os.FileMode, uid, gid uint32) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Error(err)
		return
	}
	gotUID, gotGID := owner(info)
	if info.Mode() != mode || gotUID != uid || gotGID != gid {
		t.Errorf("%s: %v %d:%d, want %v %d:%d", path, info.Mode(), gotUID, gotGID, mode, uid, gid)
	}
}

// TestFilesStayAsTheyAre: unknown lines, NIS and a missing newline survive,
// and shadow keeps who may read it.
func TestFilesStayAsTheyAre(t *testing.T) {
	r, dir := newRoot(t)
	passwd := "# comment\nroot:x:0:0::/root:/bin/sh\nbroken:line\n\n+@nis::::::\n+::::::"
	if err := os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Join(dir, "etc/shadow"), 0, 42); err != nil {
			t.Fatal(err)
		}
	}
	ensure(t, r, schema.User{Name: "alice"})
	got, _ := os.ReadFile(filepath.Join(dir, "etc/passwd"))
	want := "# comment\nroot:x:0:0::/root:/bin/sh\nbroken:line\n\nalice:x:1000:1000::/home/alice:/bin/bash\n+@nis::::::\n+::::::\n"
	if string(got) != want {
		t.Errorf("got %q", got)
	}
	if os.Geteuid() == 0 {
		checkFile(t, filepath.Join(dir, "etc/shadow"), 0o640, 0, 42)
	}
}

func TestMissingFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for chown")
	}
	r, dir := newRoot(t)
	for _, f := range []string{"shadow", "gshadow", "login.defs", "default/useradd"} {
		if err := os.Remove(filepath.Join(dir, "etc", f)); err != nil {
			t.Fatal(err)
		}
	}
	changed := ensure(t, r, schema.User{Name: "alice"})
	if got := strings.Join(changed, " "); got != "/etc/group /etc/shadow /etc/passwd" {
		t.Error(got)
	}
	checkFile(t, filepath.Join(dir, "etc/shadow"), 0o640, 0, 42)
}

// TestLock: while the database is open, nobody else gets the lock of
// lckpwdf(3).
func TestLock(t *testing.T) {
	r, dir := newRoot(t)
	db, err := Open(r)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "etc/.pwd.lock"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	try := func() error {
		return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	}
	if err := try(); err != unix.EAGAIN {
		t.Errorf("while open: %v", err)
	}
	db.Close()
	if err := try(); err != nil {
		t.Errorf("after closing: %v", err)
	}
}

// FuzzTables: whatever stands in the files, it stays, and what was added is
// found.
func FuzzTables(f *testing.F) {
	f.Add([]byte("root:x:0:0:root:/root:/bin/sh\n+::::::\n# x\n\n:::"), "alice")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		if strings.ContainsAny(name, ":\n") || name == "" || name[0] == '+' {
			t.Skip()
		}
		table := parseTable("f", 7, data)
		old := string(table.encode())
		if strings.TrimSuffix(old, "\n") != strings.TrimSuffix(string(data), "\n") {
			t.Fatalf("%q became %q", data, old)
		}
		table.add(name, "x", "1", "2", "", "", "")
		again := parseTable("f", 7, table.encode())
		if again.find(name) == nil || len(again.lines) != len(table.lines) {
			t.Fatalf("%q is lost in %q", name, table.encode())
		}
	})
}

func owner(info os.FileInfo) (uid, gid uint32) {
	st := info.Sys().(*syscall.Stat_t)
	return st.Uid, st.Gid
}
