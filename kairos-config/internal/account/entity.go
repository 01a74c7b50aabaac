package account

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Entity is a line of an account file in the form of Kairos' entities: a YAML map with
// kind and the fields of the file.
type Entity struct {
	kind   kind
	fields map[string]string
}

// kind is a type of entity: the file's fields by name, in their order.
type kind struct {
	name   string
	fields []string
	preset []string // default values of fields in a new line
	table  func(*Database) *table
}

var kinds = []kind{
	{
		"user", []string{"username", "password", "uid", "gid", "info", "homedir", "shell"}, []string{"", "x", "", "", "", "/", "/bin/sh"},
		func(db *Database) *table { return db.passwd },
	},
	{
		"shadow", []string{"username", "password", "last_changed", "minimum_changed", "maximum_changed", "warn", "inactive", "expire", ""},
		[]string{"", noPassword, "", "0", "99999", "7", "", "", ""},
		func(db *Database) *table { return db.shadow },
	},
	{
		"group", []string{"group_name", "password", "gid", "users"}, []string{"", "x", "", ""},
		func(db *Database) *table { return db.group },
	},
	{
		"gshadow", []string{"name", "password", "administrators", "members"}, []string{"", "!", "", ""},
		func(db *Database) *table { return db.gshadow },
	},
}

// ParseEntity parses an entity. Its errors contain no values, since one may be a
// password.
func ParseEntity(text string) (Entity, error) {
	node, problems := tree.Parse("entity", []byte(text))
	if problems.Failed() || node == nil || node.Kind != tree.Map {
		return Entity{}, errors.New("entity: not a YAML map")
	}
	name := node.Field("kind")
	if name == nil {
		return Entity{}, errors.New("entity without kind: user, shadow, group or gshadow")
	}
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name.Text })
	if i < 0 {
		return Entity{}, fmt.Errorf("entity of unknown kind %q: user, shadow, group or gshadow", name.Text)
	}
	e := Entity{kind: kinds[i], fields: map[string]string{}}
	for _, f := range node.Fields {
		switch {
		case f.Key == "kind":
		case f.Key == "" || !slices.Contains(e.kind.fields, f.Key):
			return e, fmt.Errorf("entity of kind %s: unknown key %q", e.kind.name, f.Key)
		case !f.Value.Scalar() || strings.ContainsAny(f.Value.Text, ":\n\x00"):
			return e, fmt.Errorf("entity of kind %s: %s must be one word without colon", e.kind.name, f.Key)
		default:
			e.fields[f.Key] = f.Value.Text
		}
	}
	if e.name() == "" {
		return e, fmt.Errorf("entity of kind %s without %s", e.kind.name, e.kind.fields[0])
	}
	for _, key := range []string{"uid", "gid"} {
		if value := e.fields[key]; value != "" {
			if id, err := strconv.ParseInt(value, 10, 64); err != nil || id < -1 || id >= 1<<32-1 {
				return e, fmt.Errorf("entity of kind %s: %s is not the number of a user or group", e.kind.name, key)
			}
		}
	}
	return e, nil
}

// Kind returns the file that the line belongs to: user, shadow, group or gshadow.
func (e Entity) Kind() string { return e.kind.name }

// Fields returns the given fields by name.
func (e Entity) Fields() map[string]string { return e.fields }

// Account returns the name of the user or group.
func (e Entity) Account() string {
	if e.kind.name == "user" || e.kind.name == "shadow" {
		return "user " + e.name()
	}
	return "group " + e.name()
}

func (e Entity) name() string { return e.fields[e.kind.fields[0]] }

// EnsureEntity creates or changes a line. Fields that the entity does not have stay. A
// number of -1, or none, means the next free one.
func (db *Database) EnsureEntity(e Entity) error {
	t := e.kind.table(db)
	line := t.find(e.name())
	if line == nil {
		line = slices.Clone(e.kind.preset)
		line[nameField] = e.name()
		if err := db.number(e, line); err != nil {
			return fmt.Errorf("entity %s %s: %w", e.kind.name, e.name(), err)
		}
		line = t.add(line...)
	}
	for i, key := range e.kind.fields {
		value, given := e.fields[key]
		if given && value != "-1" {
			t.set(line, i, value)
		}
	}
	return nil
}

// number assigns a number to a new user or group. A user without a group gets one's own
// number as group, as in Kairos.
func (db *Database) number(e Entity, line []string) error {
	wanted := func(key string) bool { return e.fields[key] != "" && e.fields[key] != "-1" }
	switch e.kind.name {
	case "user":
		if !wanted("uid") {
			uid, ok := free(db.limits.uid, db.passwd.ids())
			if !ok {
				return errors.New("no free uid")
			}
			line[passwdUID] = strconv.Itoa(uid)
		}
		if !wanted("gid") {
			line[passwdGID] = line[passwdUID]
			if wanted("uid") {
				line[passwdGID] = e.fields["uid"]
			}
		}
	case "group":
		if !wanted("gid") {
			gid, ok := free(db.limits.gid, db.group.ids())
			if !ok {
				return errors.New("no free gid")
			}
			line[groupGID] = strconv.Itoa(gid)
		}
	}
	return nil
}

// DeleteEntity removes a line, if it exists.
func (db *Database) DeleteEntity(e Entity) error {
	e.kind.table(db).remove(e.name())
	return nil
}
