package stage

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/account"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
)

// owners returns the numbers of the user and the group that a file is given
// to, rootfs.Keep for what is left open. A text is "user" or "user:group", in
// ownerstring or, as cloud-init spells it, in owner; a user alone brings the
// group of the account along.
func (r *run) owners(owner, group schema.Owner, text string) (uid, gid int, err error) {
	if text == "" && strings.Contains(owner.Name, ":") {
		text = owner.Name
	}
	ownGroup := false
	if text != "" {
		userName, groupName, both := strings.Cut(text, ":")
		owner, group, ownGroup = ownerOf(userName), ownerOf(groupName), !both
	}
	if owner.Name == "" && group.Name == "" {
		return number(owner), number(group), nil
	}
	db, err := account.Read(r.Root)
	if err != nil {
		return 0, 0, err
	}
	if owner.Name != "" {
		a, ok := db.Lookup(owner.Name)
		if !ok {
			return 0, 0, fmt.Errorf("%w user %q", errNobody, owner.Name)
		}
		owner.ID = a.UID
		if ownGroup {
			group = schema.Owner{Set: true, ID: a.GID}
		}
	}
	if group.Name != "" {
		id, ok := db.GroupID(group.Name)
		if !ok {
			return 0, 0, fmt.Errorf("%w group %q", errNobody, group.Name)
		}
		group.ID = id
	}
	return number(owner), number(group), nil
}

// errNobody is returned for an owner that has no account.
var errNobody = errors.New("there is no")

// toCome reports whether this step makes the accounts that a file is for.
func (r *run) toCome(owner, group schema.Owner, text string) bool {
	if text == "" && strings.Contains(owner.Name, ":") {
		text = owner.Name
	}
	user, grp := owner.Name, group.Name
	if text != "" {
		user, grp, _ = strings.Cut(text, ":")
	}
	spec := r.step.Spec
	made := func(name string) bool {
		return slices.ContainsFunc(spec.Users, func(u schema.User) bool { return u.Name == name })
	}
	madeGroup := func(name string) bool {
		return made(name) || slices.ContainsFunc(spec.Groups, func(g schema.Group) bool { return g.Name == name }) ||
			slices.ContainsFunc(spec.Users, func(u schema.User) bool { return slices.Contains(u.Groups, name) || u.PrimaryGroup == name })
	}
	return made(user) || madeGroup(grp)
}

func ownerOf(name string) schema.Owner {
	if id, err := strconv.ParseUint(name, 10, 31); err == nil {
		return schema.Owner{Set: true, ID: int(id)}
	}
	return schema.Owner{Set: name != "", Name: name}
}

func number(o schema.Owner) int {
	if !o.Set {
		return rootfs.Keep
	}
	return o.ID
}
