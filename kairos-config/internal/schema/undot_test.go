package schema

import (
	"strings"
	"testing"
)

// TestUndot: keys with dots in the blocks of Kairos, and keys with other dashes.
func TestUndot(t *testing.T) {
	n := Undot(parse(t, "hostname: a.b\ninstall:\n  partitions.oem.size: 60\n  partitions.oem.fs: ext4\n  partitions: {oem: {fs: ext2}}\n  recovery-system.source: oci:quay.io/a/b:1\n  grub_options: {a.b: c}\n"+
		"upgrade: {system.source: x}\nreset: {system.uri: y}\nmine: {a.b: 1}\n"))
	if problems := Check(n); len(problems) != 1 || !strings.Contains(problems[0].Message, "mine") {
		t.Error(problems)
	}
	for path, want := range map[string]string{
		"install/partitions/oem/size": "60", "install/partitions/oem/fs": "ext2", "install/recovery-system/source": "oci:quay.io/a/b:1",
		"install/grub_options/a.b": "c", "upgrade/system/source": "x", "reset/system/uri": "y", "mine/a.b": "1", "hostname": "a.b",
	} {
		at := n
		for key := range strings.SplitSeq(path, "/") {
			at = at.Field(key)
		}
		if at == nil || at.Text != want {
			t.Errorf("%s: %+v", path, at)
		}
	}
	step, problems := DecodeStep(parse(t, "files: [{path: /a, owner_string: 'a:b'}]\nusers: {a: {no-create-home: true, primary-group: users, ssh-authorized-keys: [x]}}"))
	if problems.Failed() || len(problems) != 4 || step.Files[0].OwnerString != "a:b" || !step.Users[0].NoCreateHome || len(step.Users[0].SSHAuthorizedKeys) != 1 {
		t.Errorf("%+v, %v", step, problems)
	}
}
