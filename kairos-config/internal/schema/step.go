// Package schema holds the types of the cloud-config format: what keys there
// are, what values they take, and which of them are left to later versions of
// this program. One set of types decodes, checks and explains.
package schema

import (
	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Step is one item of a stage.
type Step struct {
	Pos diag.Pos

	Name    string  `key:"name"`
	If      string  `key:"if"`       // shell: the step runs when it ends with 0
	IfFiles IfFiles `key:"if_files"` // the step runs when these files exist

	Directories     []Directory       `key:"directories"`
	Files           []File            `key:"files"`
	Commands        []Command         `key:"commands"`
	Hostname        string            `key:"hostname"`
	Users           Users             `key:"users"`
	AuthorizedKeys  Entries[[]string] `key:"authorized_keys"`
	Groups          Groups            `key:"groups"`
	Systemctl       Systemctl         `key:"systemctl"`
	Environment     Entries[string]   `key:"environment"`
	EnvironmentFile string            `key:"environment_file"`

	After              Later `key:"after"`
	DNS                Later `key:"dns"`
	Downloads          Later `key:"downloads"`
	Git                Later `key:"git"`
	EnsureEntities     Later `key:"ensure_entities"`
	DeleteEntities     Later `key:"delete_entities"`
	Sysctl             Later `key:"sysctl"`
	Modules            Later `key:"modules"`
	Timesyncd          Later `key:"timesyncd"`
	SystemdFirstboot   Later `key:"systemd_firstboot"`
	Datasource         Later `key:"datasource"`
	Layout             Later `key:"layout"`
	Packages           Later `key:"packages"`
	PackagePins        Later `key:"package_pins"`
	UnpackImages       Later `key:"unpack_images"`
	Node               Later `key:"node"`
	OnlyOS             Later `key:"only_os"`
	OnlyOSVersion      Later `key:"only_os_version"`
	OnlyArch           Later `key:"only_arch"`
	OnlyServiceManager Later `key:"only_service_manager"`
}

// IfFiles is a condition on files: all must exist, any of them, or none.
type IfFiles struct {
	All  []string `key:"all"`
	Any  []string `key:"any"`
	None []string `key:"none"`
}

// Directory is a directory to make.
type Directory struct {
	Pos         diag.Pos
	Path        string `key:"path"`
	Permissions Mode   `key:"permissions"`
	Owner       Owner  `key:"owner"`
	Group       Owner  `key:"group"`
}

// File is a file to write.
type File struct {
	Pos         diag.Pos
	Path        string `key:"path"`
	Permissions Mode   `key:"permissions"`
	Owner       Owner  `key:"owner"`
	Group       Owner  `key:"group"`
	OwnerString string `key:"ownerstring"` // user or user:group
	Content     string `key:"content"`
	Encoding    string `key:"encoding"`
}

// Systemctl is what to do with units.
type Systemctl struct {
	Enable    []string `key:"enable"`
	Disable   []string `key:"disable"`
	Mask      []string `key:"mask"`
	Start     []string `key:"start"`
	Overrides Later    `key:"overrides"`
}

// Group is a group to make sure of.
type Group struct {
	Pos     diag.Pos
	Name    string `key:"name"`
	GID     string `key:"gid"`
	System  bool   `key:"system"`
	Members Names  `key:"members"`
}

// User is an account to make or to change.
type User struct {
	Pos               diag.Pos
	Name              string   `key:"name"`
	Passwd            Secret   `key:"passwd"` // crypt(5) hash
	SSHAuthorizedKeys []string `key:"ssh_authorized_keys"`
	GECOS             string   `key:"gecos"`
	Homedir           string   `key:"homedir"`
	NoCreateHome      bool     `key:"no_create_home"`
	PrimaryGroup      string   `key:"primary_group"`
	Groups            Names    `key:"groups"`
	NoUserGroup       bool     `key:"no_user_group"`
	System            bool     `key:"system"`
	NoLogInit         bool     `key:"no_log_init"` // there is no log to initialise: accepted
	Shell             string   `key:"shell"`
	LockPasswd        bool     `key:"lock_passwd"`
	UID               string   `key:"uid"`
}

// DecodeStep reads one item of a stage.
func DecodeStep(n *tree.Node) (Step, diag.List) {
	var step Step
	var problems diag.List
	decode(n, &step, "the step", &problems)
	step.Pos = n.Pos
	step.check(&problems)
	return step, problems
}
