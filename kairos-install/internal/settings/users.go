package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/exit"
)

// whole holds the keys at the top of a config, beside install.
type whole struct {
	GrubOptions    map[string]string            `json:"grub_options"`
	Env            []string                     `json:"env"`
	Users          users                        `json:"users"`
	AuthorizedKeys []any                        `json:"ssh_authorized_keys"`
	Stages         map[string][]json.RawMessage `json:"stages"`
}

// step holds the keys of a step that concern users.
type step struct {
	Users          users            `json:"users"`
	AuthorizedKeys map[string][]any `json:"authorized_keys"`
	Datasource     *json.RawMessage `json:"datasource"`
	Commands       []any            `json:"commands"`
}

// user is a user in a config.
type user struct {
	Name   string `json:"name"`
	Passwd string `json:"passwd"`
	Lock   bool   `json:"lock_passwd"`
	Keys   []any  `json:"ssh_authorized_keys"`
	Groups groups `json:"groups"`
	Group  string `json:"primary_group"`
}

// users is a list of users, or a map of names to users.
type users []user

func (u *users) UnmarshalJSON(data []byte) error {
	var byName map[string]user
	if json.Unmarshal(data, &byName) == nil {
		for name, one := range byName {
			one.Name = name
			*u = append(*u, one)
		}
		return nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil // what is no list of users has none
	}
	for _, item := range list {
		var one user
		if json.Unmarshal(item, &one) == nil {
			*u = append(*u, one)
		}
	}
	return nil
}

// groups is a list of names, or a text with commas.
type groups []string

func (g *groups) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		for name := range strings.SplitSeq(text, ",") {
			*g = append(*g, strings.TrimSpace(name))
		}
		return nil
	}
	var list []string
	_ = json.Unmarshal(data, &list) // what is neither names no group
	*g = list
	return nil
}

// administrators are the groups whose members may become root: images have a rule for
// their own group in sudoers(5), and kairos-config(8) writes one where it is missing.
var administrators = []string{"admin", "sudo", "wheel"}

// administers reports whether a user may log in and become root. keys says that the
// config has login keys for all of its users.
func (u user) administers(keys bool) bool {
	enters := u.Passwd != "" && !u.Lock && strings.Trim(u.Passwd, "!*") != "" || len(u.Keys) > 0 || keys
	return enters && (u.Name == "root" || slices.ContainsFunc(u.Groups, func(g string) bool { return slices.Contains(administrators, g) }) ||
		slices.Contains(administrators, u.Group))
}

// addWhole adds the keys at the top. As in Kairos, it returns an error for a config
// with a key install and without a user who may log in and become root.
func (s *Settings) addWhole(data []byte, installs bool) error {
	var w whole
	if len(data) > 0 {
		if err := json.Unmarshal(data, &w); err != nil {
			var wrong *json.UnmarshalTypeError
			if errors.As(err, &wrong) {
				return fmt.Errorf("%s: a %s where another type is expected", wrong.Field, wrong.Value)
			}
			return err
		}
	}
	for _, k := range words(w.GrubOptions["extra_cmdline"]) {
		if !slices.Contains(s.Kargs, k) {
			s.Kargs = append(s.Kargs, k)
		}
	}
	s.Env = append(w.Env[:len(w.Env):len(w.Env)], s.Env...)
	if installs && !s.NoUsers && !w.admits() {
		return exit.Hint(errors.New("no user could log in to the node and become root"),
			"give a user ssh_authorized_keys or passwd, and groups: [admin]; or set install.nousers: true")
	}
	return nil
}

// admits reports whether a user may log in and become root, or may be created later
// from user data.
func (w whole) admits() bool {
	keys := len(w.AuthorizedKeys) > 0
	admin := func(u user) bool { return u.administers(keys) }
	if slices.ContainsFunc(w.Users, admin) || keys && len(w.Users) == 0 {
		return true
	}
	for _, steps := range w.Stages {
		for _, raw := range steps {
			var st step
			if json.Unmarshal(raw, &st) != nil {
				continue
			}
			withKeys := func(u user) bool { return u.administers(len(st.AuthorizedKeys[u.Name]) > 0) }
			if slices.ContainsFunc(st.Users, withKeys) || len(st.AuthorizedKeys["root"]) > 0 || st.Datasource != nil {
				return true
			}
		}
	}
	return false
}
