package stage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
)

// firstbootSettings are what systemd-firstboot(1) can set, and the files that
// each may end in: Debian has some of its own. Passwords are not among them:
// they would be in argv.
var firstbootSettings = map[string][]string{
	"locale":          {"/etc/locale.conf", "/etc/default/locale"},
	"locale-messages": {"/etc/locale.conf", "/etc/default/locale"},
	"keymap":          {"/etc/vconsole.conf", "/etc/default/keyboard"},
	"timezone":        {"/etc/localtime"},
	"hostname":        {"/etc/hostname"},
	"machine-id":      {"/etc/machine-id"},
	"root-shell":      {"/etc/passwd"},
}

// firstboot hands settings over to systemd-firstboot, which knows the files
// that they go to.
func (r *run) firstboot(ctx context.Context) {
	var args, files []string
	for _, e := range r.step.Spec.SystemdFirstboot {
		name := schema.FirstbootKey(e.Key)
		written, known := firstbootSettings[name]
		switch {
		case name == "force": // always
		case !known:
			r.fail(fmt.Errorf("systemd_firstboot: unknown setting %q", e.Key))
		case strings.ContainsAny(e.Value, "\n\x00"):
			r.fail(fmt.Errorf("systemd_firstboot: %s has a line break", e.Key))
		default:
			args = append(args, "--"+name+"="+e.Value)
			files = append(files, written...)
		}
	}
	if len(args) == 0 {
		return
	}
	slices.Sort(files)
	files = slices.Compact(files)
	before := r.look(files)
	// --force: an image has these files, and a config stands above it.
	argv := append([]string{"systemd-firstboot", "--force"}, args...)
	var err error
	if r.Root.Exists("/usr/bin/systemd-firstboot") { // the initrd has none
		err = r.within(ctx, argv)
	} else {
		err = execute(ctx, argv[0], append(argv[1:], "--root="+r.Root.Path())...)
	}
	if err != nil {
		r.fail(err)
		return
	}
	for i, now := range r.look(files) {
		if now != before[i] {
			r.changed(files[i])
		}
	}
}

// look returns what files are now: the target of a link, or the content.
func (r *run) look(files []string) []string {
	list := make([]string, len(files))
	for i, file := range files {
		if target, err := r.Root.Readlink(file); err == nil {
			list[i] = "-> " + target
		} else if data, err := r.Root.ReadFile(file, maxSmall); err == nil {
			list[i] = string(data)
		}
	}
	return list
}
