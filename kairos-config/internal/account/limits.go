package account

import (
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
)

// span is a range of ids, both ends included.
type span struct{ first, last int }

func (s span) holds(id int) bool { return s.first <= id && id <= s.last }

// limits are the settings of login.defs(5) and /etc/default/useradd for new accounts.
type limits struct {
	uid, systemUID span
	gid, systemGID span
	shell, home    string
	group          string // group of users without a group of their own
}

// readLimits reads both files; missing settings have the defaults of shadow-utils.
func readLimits(root *rootfs.Root) limits {
	l := limits{
		uid: span{1000, 60000}, systemUID: span{101, 999},
		gid: span{1000, 60000}, systemGID: span{101, 999},
		shell: "/bin/sh", home: "/home", group: "users",
	}
	numbers := map[string]*int{
		"UID_MIN": &l.uid.first, "UID_MAX": &l.uid.last,
		"SYS_UID_MIN": &l.systemUID.first, "SYS_UID_MAX": &l.systemUID.last,
		"GID_MIN": &l.gid.first, "GID_MAX": &l.gid.last,
		"SYS_GID_MIN": &l.systemGID.first, "SYS_GID_MAX": &l.systemGID.last,
	}
	settings(root, "/etc/login.defs", " \t", func(key, value string) {
		if into := numbers[key]; into != nil {
			if n, err := strconv.Atoi(value); err == nil {
				*into = n
			}
		}
	})
	words := map[string]*string{"SHELL": &l.shell, "HOME": &l.home, "GROUP": &l.group}
	settings(root, "/etc/default/useradd", "=", func(key, value string) {
		if into := words[key]; into != nil && value != "" {
			*into = strings.Trim(value, `"'`)
		}
	})
	return l
}

func settings(root *rootfs.Root, path, separators string, each func(key, value string)) {
	data, err := root.ReadFile(path, 1<<20)
	if err != nil {
		return // the defaults hold
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if i := strings.IndexAny(line, separators); i > 0 && line[0] != '#' {
			each(line[:i], strings.TrimSpace(line[i+1:]))
		}
	}
}

// free returns the next free id of a range: one above the highest used one, as useradd
// does, or the highest free one.
func free(s span, taken map[int]bool) (int, bool) {
	next := s.first
	for id := range taken {
		if s.holds(id) {
			next = max(next, id+1)
		}
	}
	if s.holds(next) {
		return next, true
	}
	return freeSystem(s, taken)
}

// freeSystem returns the highest free id of a range: system accounts are assigned
// downwards, away from the ids that distributions assign statically.
func freeSystem(s span, taken map[int]bool) (int, bool) {
	for id := s.last; id >= s.first; id-- {
		if !taken[id] {
			return id, true
		}
	}
	return 0, false
}

// ids returns the ids in a table: passwdUID is groupGID.
func (t *table) ids() map[int]bool {
	taken := map[int]bool{}
	for _, line := range t.lines {
		if len(line) == t.fields {
			if id, err := strconv.Atoi(line[passwdUID]); err == nil {
				taken[id] = true
			}
		}
	}
	return taken
}
