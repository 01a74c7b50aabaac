package account

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
)

// noPassword is the hash of new accounts without password: no password matches it and,
// unlike "!", the account isn't locked, so that sshd without PAM accepts keys.
const noPassword = "*"

// EnsureUser creates or changes a user. Fields that the request leaves open stay as
// they are. Save writes the result; EnsureHome creates the home directory.
func (db *Database) EnsureUser(want schema.User) error {
	line := db.passwd.find(want.Name)
	if line == nil {
		if err := db.create(want); err != nil {
			return fmt.Errorf("make user %s: %w", want.Name, err)
		}
	} else if err := db.change(line, want); err != nil {
		return fmt.Errorf("change user %s: %w", want.Name, err)
	}
	if err := db.setPassword(want); err != nil {
		return fmt.Errorf("password of user %s: %w", want.Name, err)
	}
	for _, group := range want.Groups {
		if err := db.EnsureGroup(schema.Group{Name: group, System: true}); err != nil {
			return fmt.Errorf("groups of user %s: %w", want.Name, err)
		}
		db.addMember(group, want.Name)
	}
	return nil
}

func (db *Database) create(want schema.User) error {
	home := want.Homedir
	if home == "" {
		home = strings.TrimRight(db.limits.home, "/") + "/" + want.Name
	}
	uid, err := db.chooseUID(want, home)
	if err != nil {
		return err
	}
	gid, err := db.primaryGroup(want, uid)
	if err != nil {
		return err
	}
	shell := want.Shell
	if shell == "" {
		shell = db.limits.shell
	}
	db.passwd.add(want.Name, "x", strconv.Itoa(uid), strconv.Itoa(gid), want.GECOS, home, shell)
	return nil
}

// chooseUID returns the requested id, or the id that owns the home directory, or a free
// one that owns no other home. Home directories are persistent and /etc is not: without
// this, another user in the image or in the config would shift the ids, and a user
// would own another's files.
func (db *Database) chooseUID(want schema.User, home string) (int, error) {
	if want.UID != "" {
		uid, err := strconv.ParseUint(want.UID, 10, 32)
		if err != nil || uid >= 1<<32-1 {
			return 0, fmt.Errorf("uid %q is not the number of a user", want.UID)
		}
		if other := db.passwd.findBy(passwdUID, strconv.FormatUint(uid, 10)); other != nil {
			return 0, fmt.Errorf("uid %d belongs to user %s", uid, other[nameField])
		}
		return int(uid), nil
	}
	ids, next := db.limits.uid, free
	if want.System {
		ids, next = db.limits.systemUID, freeSystem
	}
	taken := db.passwd.ids()
	if st, err := db.root.Stat(home); err == nil && ids.holds(int(st.Uid)) && !taken[int(st.Uid)] {
		return int(st.Uid), nil
	}
	db.addHomeOwners(taken)
	uid, ok := next(ids, taken)
	if !ok {
		return 0, fmt.Errorf("no free uid from %d to %d", ids.first, ids.last)
	}
	return uid, nil
}

// addHomeOwners adds the ids of the owners of home directories.
func (db *Database) addHomeOwners(taken map[int]bool) {
	entries, err := db.root.ReadDir(db.limits.home)
	if err != nil {
		return // no homes yet
	}
	for _, e := range entries {
		if st, err := db.root.Stat(path.Join(db.limits.home, e.Name())); err == nil {
			taken[int(st.Uid)] = true
		}
	}
}

// primaryGroup returns the id of the requested group, or of the common group, or of the
// user's own, which it creates where it doesn't exist.
func (db *Database) primaryGroup(want schema.User, uid int) (int, error) {
	name := want.PrimaryGroup
	if name == "" && want.NoUserGroup {
		name = db.limits.group
	}
	if gid, err := strconv.Atoi(name); err == nil {
		if db.group.findBy(groupGID, name) == nil {
			return 0, fmt.Errorf("no group has the number %s", name)
		}
		return gid, nil
	}
	group := schema.Group{Name: name, System: want.System}
	if name == "" {
		group.Name = want.Name
		if db.group.findBy(groupGID, strconv.Itoa(uid)) == nil {
			group.GID = strconv.Itoa(uid) // the same number for both, while it is free
		}
	}
	if _, exists := db.GroupID(group.Name); exists {
		group.GID = ""
	}
	if err := db.EnsureGroup(group); err != nil {
		return 0, err
	}
	gid, _ := db.GroupID(group.Name)
	return gid, nil
}

func (db *Database) change(line []string, want schema.User) error {
	if want.UID != "" && want.UID != line[passwdUID] {
		return fmt.Errorf("it has uid %s, not %s, and owns files with that uid", line[passwdUID], want.UID)
	}
	if want.PrimaryGroup != "" {
		gid, err := db.primaryGroup(want, 0)
		if err != nil {
			return err
		}
		db.passwd.set(line, passwdGID, strconv.Itoa(gid))
	}
	for field, value := range map[int]string{passwdGECOS: want.GECOS, passwdHome: want.Homedir, passwdShell: want.Shell} {
		if value != "" {
			db.passwd.set(line, field, value)
		}
	}
	return nil
}

// setPassword writes the hash to shadow(5); it hashes a plain password. The date of the
// last change stays empty: /etc is created again at every boot, so password ageing
// could not work.
func (db *Database) setPassword(want schema.User) error {
	line := db.shadow.find(want.Name)
	if line == nil {
		line = db.shadow.add(want.Name, noPassword, "", "0", "99999", "7", "", "", "")
	}
	password := string(want.Passwd)
	switch {
	case password == "":
		password = line[shadowHash]
	case !hashed(password):
		made, err := hash(password, strings.TrimPrefix(line[shadowHash], "!"))
		if err != nil {
			return err
		}
		password = made
	}
	if want.LockPasswd && !strings.HasPrefix(password, "!") {
		password = "!" + password
	}
	db.shadow.set(line, shadowHash, password)
	return nil
}

// EnsureGroup creates a group and adds members to it.
func (db *Database) EnsureGroup(want schema.Group) error {
	line := db.group.find(want.Name)
	switch {
	case line == nil:
		gid, err := db.chooseGID(want)
		if err != nil {
			return fmt.Errorf("make group %s: %w", want.Name, err)
		}
		db.group.add(want.Name, "x", gid, "")
		if !db.gshadow.absent && db.gshadow.find(want.Name) == nil {
			db.gshadow.add(want.Name, "!", "", "")
		}
	case want.GID != "" && want.GID != line[groupGID]:
		return fmt.Errorf("group %s has gid %s, not %s", want.Name, line[groupGID], want.GID)
	}
	for _, member := range want.Members {
		db.addMember(want.Name, member)
	}
	return nil
}

func (db *Database) chooseGID(want schema.Group) (string, error) {
	if want.GID != "" {
		if gid, err := strconv.ParseUint(want.GID, 10, 32); err != nil || gid >= 1<<32-1 {
			return "", fmt.Errorf("gid %q is not the number of a group", want.GID)
		}
		if other := db.group.findBy(groupGID, want.GID); other != nil {
			return "", fmt.Errorf("gid %s belongs to group %s", want.GID, other[nameField])
		}
		return want.GID, nil
	}
	ids, next := db.limits.gid, free
	if want.System {
		ids, next = db.limits.systemGID, freeSystem
	}
	gid, ok := next(ids, db.group.ids())
	if !ok {
		return "", errors.New("no free gid")
	}
	return strconv.Itoa(gid), nil
}

func (db *Database) addMember(group, user string) {
	if line := db.group.find(group); line != nil {
		db.group.addMember(line, groupMembers, user)
	}
	if line := db.gshadow.find(group); line != nil {
		db.gshadow.addMember(line, gshadowMembers, user)
	}
}
