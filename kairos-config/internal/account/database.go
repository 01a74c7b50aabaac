// Package account creates and changes users and groups beneath a root by editing
// passwd(5), shadow(5), group(5) and gshadow(5).
//
// The tools of the image would need a chroot with a shell and libraries, take a process
// for each change, and put password hashes into argv (useradd -p); systemd-sysusers
// sets neither passwords nor keys of people's accounts.
package account

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"golang.org/x/sys/unix"
)

const maxTable = 16 << 20

// Numbers of the fields in the lines.
const (
	nameField = 0

	passwdUID   = 2
	passwdGID   = 3
	passwdGECOS = 4
	passwdHome  = 5
	passwdShell = 6

	shadowHash = 1

	groupGID     = 2
	groupMembers = 3

	gshadowMembers = 3
)

// Database holds the accounts beneath a root.
type Database struct {
	root    *rootfs.Root
	passwd  *table
	shadow  *table
	group   *table
	gshadow *table
	limits  limits
	lock    *os.File
}

// Open locks and reads the accounts beneath a root, to change them. It takes the lock
// of lckpwdf(3), so that it excludes useradd and systemd-sysusers.
func Open(root *rootfs.Root) (*Database, error) {
	lock, err := acquire(root)
	if err != nil {
		return nil, fmt.Errorf("lock accounts: %w", err)
	}
	db, err := Read(root)
	if err == nil {
		err = errors.Join(load(root, &db.shadow, "/etc/shadow", 9), load(root, &db.gshadow, "/etc/gshadow", 4))
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	db.lock, db.limits = lock, readLimits(root)
	return db, nil
}

// Read reads the names and numbers of users and groups, without a lock.
func Read(root *rootfs.Root) (*Database, error) {
	db := &Database{root: root}
	return db, errors.Join(load(root, &db.passwd, "/etc/passwd", 7), load(root, &db.group, "/etc/group", 4))
}

func load(root *rootfs.Root, into **table, path string, fields int) error {
	data, err := root.ReadFile(path, maxTable)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read accounts: %w", err)
	}
	*into = parseTable(path, fields, data)
	(*into).absent = err != nil
	return nil
}

// Close releases the lock, without saving.
func (db *Database) Close() error { return db.lock.Close() }

func acquire(root *rootfs.Root) (*os.File, error) {
	f, err := root.OpenLock("/etc/.pwd.lock")
	if err != nil {
		return nil, err
	}
	for {
		err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK})
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Save writes the changed files and returns their paths: groups first, so that a user
// becomes visible last.
func (db *Database) Save() (changed []string, err error) {
	for _, t := range []*table{db.group, db.gshadow, db.shadow, db.passwd} {
		if !t.dirty {
			continue
		}
		if _, err := db.root.WriteFile(t.path, t.encode(), db.attr(t)); err != nil {
			return changed, err
		}
		t.dirty = false
		changed = append(changed, t.path)
	}
	return changed, nil
}

// attr returns the attributes of a file, or those of a new one.
func (db *Database) attr(t *table) rootfs.Attr {
	if !t.absent || t == db.passwd || t == db.group {
		return rootfs.KeepAll
	}
	attr := rootfs.Attr{Mode: 0o600, UID: rootfs.Keep, GID: rootfs.Keep}
	if line := db.group.find("shadow"); line != nil {
		if gid, err := strconv.Atoi(line[groupGID]); err == nil {
			attr.Mode, attr.GID = 0o640, gid
		}
	}
	return attr
}

// Account is a user's line in passwd(5).
type Account struct {
	Name     string
	UID, GID int
	Home     string
}

// Lookup returns a user.
func (db *Database) Lookup(name string) (Account, bool) {
	line := db.passwd.find(name)
	if line == nil {
		return Account{}, false
	}
	uid, err1 := strconv.Atoi(line[passwdUID])
	gid, err2 := strconv.Atoi(line[passwdGID])
	if err1 != nil || err2 != nil {
		return Account{}, false
	}
	return Account{name, uid, gid, line[passwdHome]}, true
}

// GroupID returns the number of a group.
func (db *Database) GroupID(name string) (int, bool) {
	line := db.group.find(name)
	if line == nil {
		return 0, false
	}
	gid, err := strconv.Atoi(line[groupGID])
	return gid, err == nil
}
