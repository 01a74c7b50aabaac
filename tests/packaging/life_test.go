package packaging

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/tests/images"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// lifeScript installs, upgrades, removes and purges the packages in /packages/1 and /packages/2, and
// prints what differs at each step from the machine before: files and states of units.
const lifeScript = "export SYSTEMD_OFFLINE=1\n" + lifeFunctions + lifeInstall + lifeEnd

const lifeFunctions = `
mkdir -p /life
exec 2>> /life/errors
state() {
	find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /packages -o -path /life -o -path /var/log \
		-o -path /var/cache -o -path /var/lib/dpkg -o -path /etc/ld.so.cache -o -path /var/lib/systemd -o -path /var/tmp \) -prune -o ! -type d -printf '%p %M %U:%G %s %l\n' -o -printf '%p %M %U:%G\n' | sort > "/life/$1.files"
	systemctl list-unit-files --no-pager --no-legend | awk '{print $1, $2}' | sort > "/life/$1.units"
}
say() { echo "== $1"; }
export DEBIAN_FRONTEND=noninteractive
`

const lifeInstall = `
state before
say install
dpkg -i /packages/1/*.deb > /life/log 2>&1 || { cat /life/log; exit 1; }
kairos-upgrade --version
state installed
say units
diff /life/before.units /life/installed.units | sed -n 's/^[<>] //p' | grep -v kairos || true
systemctl is-enabled kairos-upgrade.timer kairos-boot-assess.service kairos-config@boot.service
say etc
diff /life/before.files /life/installed.files | sed -n 's/^[<>] //p' | grep '^/\(etc\|var\)' | grep -v '^/etc/systemd/system.*\(kairos\|\.wants d\|\.requires d\)' || true
`

const lifeEnd = `
# Who has decided otherwise is asked by no upgrade.
systemctl disable kairos-upgrade.timer > /dev/null
say upgrade
dpkg -i /packages/2/*.deb > /life/log 2>&1 || { cat /life/log; exit 1; }
systemctl is-enabled kairos-upgrade.timer kairos-boot-assess.service || true
dpkg -l 'kairos-*' | awk '/^ii/ {print $2, $3}'
say remove
mkdir -p /var/lib/kairos /etc/kairos
echo state > /var/lib/kairos/state
dpkg -r kairos-doc kairos-dracut kairos-node kairos-tools > /life/log 2>&1 || { cat /life/log; exit 1; }
[ -e /var/lib/kairos/state ] || echo "what the node knew is gone before the purge"
say purge
dpkg -P kairos-doc kairos-dracut kairos-node kairos-tools > /life/log 2>&1 || { cat /life/log; exit 1; }
state after
diff /life/before.files /life/after.files || true
diff /life/before.units /life/after.units || true
dpkg -l 'kairos-*' | awk '/^[a-z]/ && !/^un/'
say end
`

// The packages of "make deb" are installed into a Debian system, upgraded, removed and purged. Nothing of
// the system's own changes at any step, and in the end it is as before.
func TestLifeOfPackages(t *testing.T) {
	debs, _ := filepath.Glob(filepath.Join(workspace.Top(), "build/packages/kairos-*.deb"))
	if os.Getenv("KAIROS_E2E") == "" || len(debs) == 0 {
		t.Skip("KAIROS_E2E=1, and the packages of make deb, are needed")
	}
	ctx := t.Context()
	root, err := images.DebianTree(ctx, workDir(t), func(what string) { t.Log(what) })
	if err != nil {
		t.Fatal(err)
	}
	for _, deb := range debs {
		if err := repack(ctx, root, deb); err != nil {
			t.Fatal(err)
		}
	}
	out, err := images.Enter(ctx, root, lifeScript)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(out)
	step := map[string]string{}
	for _, part := range strings.Split(out, "== ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		step[name] = strings.TrimSpace(text)
	}
	for name, want := range map[string]string{
		"units":  "enabled\nenabled\nenabled",
		"etc":    "",
		"purge":  "",
		"remove": "",
		"end":    "",
	} {
		if step[name] != want {
			t.Errorf("%s: %q, want %q", name, step[name], want)
		}
	}
	if up := step["upgrade"]; !strings.HasPrefix(up, "disabled\nenabled\n") || strings.Count(up, "+again") != 4 {
		t.Errorf("upgrade: %q", up)
	}
}

// repack puts a package into /packages/1 of a tree, and the same with a higher version into /packages/2.
func repack(ctx context.Context, root, deb string) error {
	for _, dir := range []string{"1", "2", "new"} {
		if err := os.MkdirAll(filepath.Join(root, "packages", dir), 0o755); err != nil {
			return err
		}
	}
	name := filepath.Base(deb)
	data, err := os.ReadFile(deb)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "packages/1", name), data, 0o644); err != nil {
		return err
	}
	_, err = images.Enter(ctx, root, fmt.Sprintf(`
cd /packages/new
rm -rf x
dpkg-deb -R ../1/%[1]s x
version=$(sed -n 's/^Version: //p' x/DEBIAN/control)
sed -i "s/$version/$version+again/" x/DEBIAN/control
dpkg-deb -Znone -b x ../2/%[1]s > /dev/null
`, name))
	return err
}

// workDir is a directory for trees, beneath the project: programs of the tools root that enter a tree have a /tmp of
// their own.
func workDir(t *testing.T) string {
	t.Helper()
	if err := os.MkdirAll(workspace.Cache("packaging"), 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(workspace.Cache("packaging"), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
