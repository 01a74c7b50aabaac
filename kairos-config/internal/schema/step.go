// Package schema holds the types of the cloud-config format: what keys there
// are, what values they take, and what each of them means. One set of types
// decodes, checks and explains; kairos-cloud-config(5) and the JSON Schema are
// made of it.
//
// Fields carry what is known of their key in tags:
//
//	key   the key
//	doc   what it does, in sentences
//	def   its default in words, where that is not "nothing"
//	eg    an example of its value, as YAML
//	is    what the text must be, of a list or a map each of its texts: see rules
//	keyis what the keys of a map must be
//	enum  the values that it may have, separated by |
//	req   y: it must be there
//	none  why it has no effect here
//	old   why it should not be used any more, and what instead
package schema

import (
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/spell"
)

// Step is one item of a stage. Its parts are applied in the order in which
// Kairos applies them, not in the order in which they are written.
type Step struct {
	Pos diag.Pos
	// Unclear says that a condition is invalid or unknown, so that the step must not
	// run.
	Unclear bool

	Name  string       `key:"name" doc:"What the step is called in the log, in status, and in after of other steps." def:"the stage and a number" eg:"Time servers"`
	After []Dependency `key:"after" doc:"Steps of the same stage that have to run first, by their names." eg:"[{name: Make the bridge}]"`

	// Assess overrides the key assess at the top for this step.
	Assess string `key:"assess" doc:"required: when this step fails, that counts as a failed health check of the boot; wanted: it does not." enum:"required|wanted" def:"that of the config" eg:"required"`

	// Conditions: all must hold.
	If                 string  `key:"if" doc:"A command for the shell: the step runs when it ends with 0." eg:"'[ ! -e /usr/local/.first-boot ]'"`
	IfFiles            IfFiles `key:"if_files" doc:"The step runs when these files exist, or don't."`
	OnlyOS             string  `key:"only_os" doc:"A regular expression: the step runs on distributions whose ID, NAME or PRETTY_NAME in os-release(5) matches." eg:"debian|ubuntu" is:"regexp"`
	OnlyOSVersion      string  `key:"only_os_version" doc:"The same for VERSION_ID and VERSION." eg:"'^13'" is:"regexp"`
	OnlyArch           string  `key:"only_arch" doc:"A regular expression for the architecture, in the words of Go (amd64, arm64) or of uname(1)." eg:"amd64" is:"regexp"`
	OnlyServiceManager string  `key:"only_service_manager" doc:"The step runs where this is the service manager. It is always systemd here: steps for others are skipped." enum:"systemd|openrc" eg:"systemd"`
	Node               string  `key:"node" doc:"A regular expression for the host name." eg:"'^master-'" is:"regexp"`

	DNS              DNS               `key:"dns" doc:"Name servers."`
	Downloads        []Download        `key:"downloads" doc:"Files to fetch."`
	Git              Git               `key:"git" doc:"A repository to clone, or to bring up to date."`
	EnsureEntities   []Entity          `key:"ensure_entities" doc:"Accounts in the words of the entities program: users, groups, shadow entries."`
	Directories      []Directory       `key:"directories" doc:"Directories to make. Those above that are missing are made with mode 0755."`
	Files            []File            `key:"files" doc:"Files to write. Directories above that are missing are made with mode 0755. A symbolic link is followed, beneath the root."`
	Commands         []Command         `key:"commands" doc:"Commands or scripts for /bin/sh, one by one. An item that is itself a list is a command with its arguments, not for the shell to interpret." eg:"[systemctl daemon-reload, [touch, /run/a file]]"`
	DeleteEntities   []Entity          `key:"delete_entities" doc:"Accounts to remove, in the words of ensure_entities."`
	Hostname         string            `key:"hostname" doc:"The name for the kernel, for /etc/hostname, and for the address 127.0.1.1 in /etc/hosts." eg:"node-1" is:"hostname"`
	Sysctl           Entries[string]   `key:"sysctl" doc:"Kernel parameters, as in sysctl.d(5)." eg:"{net.ipv4.ip_forward: 1}" is:"oneline" keyis:"word"`
	Groups           Groups            `key:"groups" doc:"Groups to make sure of: names, maps of a name to its members, or maps with details." eg:"[docker, {admins: [alice]}]"`
	Users            Users             `key:"users" doc:"A map of names to users, or a list of users with names. Users are made, or changed to what is asked for; what a key leaves open stays."`
	AuthorizedKeys   Entries[[]string] `key:"authorized_keys" doc:"A map of users to keys for their ~/.ssh/authorized_keys. Keys are added, never taken away." eg:"{root: [github:octocat]}" is:"oneline" keyis:"account"`
	Modules          []string          `key:"modules" doc:"Kernel modules to load, as in modules-load.d(5), each with its parameters where it has some." eg:"[br_netfilter, nbd max_part=8]" is:"module"`
	Timesyncd        Entries[string]   `key:"timesyncd" doc:"Settings of timesyncd.conf(5)." eg:"{NTP: ntp.example.org}" is:"oneline" keyis:"word"`
	Systemctl        Systemctl         `key:"systemctl" doc:"What to do with units."`
	Environment      Entries[string]   `key:"environment" doc:"Variables to set in a file." eg:"{HTTPS_PROXY: 'http://proxy.example.org:3128'}" is:"oneline" keyis:"variable"`
	EnvironmentFile  string            `key:"environment_file" doc:"The file for environment." def:"/etc/environment" eg:"/etc/default/my-app" is:"path"`
	SystemdFirstboot Entries[string]   `key:"systemd_firstboot" doc:"Options of systemd-firstboot(1), without the dashes: hostname, keymap, locale, locale-messages, machine-id, root-shell, timezone; force is always so." eg:"{timezone: Europe/Berlin, locale: en_GB.UTF-8}" is:"oneline" keyis:"firstboot"`
	Datasource       Datasource        `key:"datasource" doc:"Where to ask for the user data of this machine. It is kept in /oem/95_userdata.yaml and counts from the next stage on."`
	Layout           Layout            `key:"layout" doc:"Partitions to add to a disk, or to grow."`
	PackagePins      Entries[string]   `key:"package_pins" doc:"Packages to hold at a version." eg:"{nginx: 1.26.3-3}" is:"word" keyis:"word"`
	Packages         Packages          `key:"packages" doc:"Packages to install or remove: while an image is built, since the root of a node is read-only."`
	UnpackImages     []UnpackImage     `key:"unpack_images" doc:"Container images to unpack into directories, in the stages of the running system. What is there is known by its digest."`
}

// Dependency names a step that another one waits for. A plain name is allowed.
type Dependency struct {
	Name string `key:"name" doc:"The name of a step." eg:"Make the bridge" req:"y"`
}

// IfFiles is a condition on files: all must exist, any of them, or none.
type IfFiles struct {
	All  []string `key:"all" doc:"All of them exist." eg:"[/dev/kvm, /dev/vhost-net]" is:"path"`
	Any  []string `key:"any" doc:"One of them exists." eg:"[/run/cos/active_mode, /run/cos/passive_mode]" is:"path"`
	None []string `key:"none" doc:"None of them exists." eg:"[/run/cos/recovery_mode]" is:"path"`
}

// Directory is a directory to make.
type Directory struct {
	Pos         diag.Pos
	Path        string `key:"path" doc:"The directory, with an absolute path." eg:"/srv/data" is:"path" req:"y"`
	Permissions Mode   `key:"permissions" doc:"Octal digits, as the permissions of a file." def:"0755" eg:"0750"`
	Owner       Owner  `key:"owner" doc:"A user, by number or name." def:"root" eg:"app"`
	Group       Owner  `key:"group" doc:"A group, by number or name." def:"root" eg:"app"`
}

// File is a file to write.
type File struct {
	Pos         diag.Pos
	Path        string `key:"path" doc:"The file, with an absolute path." eg:"/etc/motd" is:"path" req:"y"`
	Content     string `key:"content" doc:"What the file holds; it may be a template." eg:"'Welcome to {{ .Values.node.hostname }}'"`
	Encoding    string `key:"encoding" doc:"How content is encoded: base64, gzip, or gzip within base64; text/plain is none. At most 64 MiB after decompression." enum:"|b64|base64|gz|gzip|gz+b64|gz+base64|gzip+b64|gzip+base64|text/plain" eg:"gz+b64"`
	Permissions Mode   `key:"permissions" doc:"An octal number with a leading zero, or a string of octal digits." def:"0644 for a new file, else what the file has" eg:"0640"`
	Owner       Owner  `key:"owner" doc:"A user, by number or name, or user:group." def:"root for a new file, else what the file has" eg:"app"`
	Group       Owner  `key:"group" doc:"A group, by number or name." def:"root for a new file, else what the file has" eg:"app"`
	OwnerString string `key:"ownerstring" doc:"user or user:group, instead of both. Without group, the user's own is taken." eg:"app:app"`
	Append      bool   `key:"append" doc:"Add the content to the end of the file, where it is not there yet." def:"false" eg:"true"`
}

// WriteFile is a file to write, in cloud-init's words.
type WriteFile struct {
	File
	Permissions OctalMode `key:"permissions" doc:"Octal digits, with quotes or without." def:"0644 for a new file, else what the file has" eg:"'0640'"`
	Defer       bool      `key:"defer" doc:"Owners are set when the users are there." def:"false" eg:"true" none:"owners are set when the users are there"`
	Source      URI       `key:"source" doc:"Where to fetch the content from, instead of content." `
}

// URI is where a file's content comes from.
type URI struct {
	URI string `key:"uri" doc:"Where to fetch the content from, by https or http." eg:"https://example.org/motd" is:"url" req:"y"`
}

// file returns it in the words of a step.
func (w WriteFile) file() File {
	f := w.File
	f.Permissions = w.Permissions.Mode
	if f.OwnerString == "" && f.Owner.Name != "" { // as in Kairos, with the user's own group
		f.OwnerString = f.Owner.Name
	}
	return f
}

// Download is a file to fetch.
type Download struct {
	Pos         diag.Pos
	Path        string `key:"path" doc:"Where the file goes, with an absolute path. A directory that exists takes the name from the URL." eg:"/usr/local/bin/tool" is:"path" req:"y"`
	URL         string `key:"url" doc:"Where to fetch the file from, by https or http." eg:"https://example.org/tool" is:"url" req:"y"`
	SHA256      string `key:"sha256" doc:"The digest that the file must have. One that has it already is not fetched again." eg:"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" is:"sha256"`
	Permissions Mode   `key:"permissions" doc:"Octal digits, as the permissions of a file." def:"0644" eg:"0755"`
	Owner       Owner  `key:"owner" doc:"A user, by number or name." def:"root" eg:"app"`
	Group       Owner  `key:"group" doc:"A group, by number or name." def:"root" eg:"app"`
	OwnerString string `key:"ownerstring" doc:"user or user:group, instead of both." eg:"app:app"`
	Timeout     int    `key:"timeout" doc:"How long the download may take, in seconds." def:"600" eg:"60"`
}

// Git is a repository to clone, or to bring up to date.
type Git struct {
	Pos        diag.Pos
	URL        string  `key:"url" doc:"The repository." eg:"https://example.org/configs.git" req:"y"`
	Path       string  `key:"path" doc:"The directory for it." eg:"/usr/local/configs" is:"path" req:"y"`
	Branch     string  `key:"branch" doc:"The branch to check out." def:"that of the repository" eg:"main" is:"word"`
	BranchOnly bool    `key:"branch_only" doc:"Fetch no other branches." def:"false" eg:"true"`
	Auth       GitAuth `key:"auth" doc:"How to log in."`
}

// GitAuth is how to log in to a repository.
type GitAuth struct {
	Username   string `key:"username" doc:"The name to log in with." eg:"deploy"`
	Password   Secret `key:"password" doc:"The password or token for it." eg:"${credential:git-token}"`
	PrivateKey Secret `key:"private_key" doc:"An SSH key in PEM form." eg:"${credential:git-key}"`
	PublicKey  string `key:"public_key" doc:"The host key of the server, as in known_hosts." eg:"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample"`
	Insecure   bool   `key:"insecure" doc:"Take any host key." def:"false" eg:"false"`
}

// Entity is an account in the words of the entities program: a YAML text with
// kind user, group, shadow or gshadow.
type Entity struct {
	Pos    diag.Pos
	Path   string `key:"path" doc:"The file that has it." def:"that of its kind" eg:"/etc/passwd" is:"path"`
	Entity string `key:"entity" doc:"A YAML text with kind (user, group, shadow, gshadow) and the fields of the entry." eg:"\"kind: group\\ngroup_name: app\\ngid: 950\\n\"" req:"y"`
}

// Systemctl is what to do with units.
type Systemctl struct {
	Enable    []string   `key:"enable" doc:"Units to enable." eg:"[my-app.service]" is:"word"`
	Disable   []string   `key:"disable" doc:"Units to disable." eg:"[apt-daily.timer]" is:"word"`
	Mask      []string   `key:"mask" doc:"Units to mask." eg:"[ctrl-alt-del.target]" is:"word"`
	Start     []string   `key:"start" doc:"Units to start, in the stages fs, boot and network. Nothing waits for them to be up." eg:"[my-app.service]" is:"word"`
	Overrides []Override `key:"overrides" doc:"Drop-ins for units."`
}

// Override is a drop-in for a unit.
type Override struct {
	Pos     diag.Pos
	Service string `key:"service" doc:"The unit; .service is added where there is no type." eg:"ssh.service" is:"word" req:"y"`
	Name    string `key:"name" doc:"The name of the drop-in; .conf is added where it is missing." def:"override-kairos.conf" eg:"10-limits.conf" is:"filename"`
	Content string `key:"content" doc:"Its text; without one, the drop-in is empty, which takes away one of the image." eg:"\"[Service]\\nLimitNOFILE=65536\\n\""`
}

// Group is a group to make sure of.
type Group struct {
	Pos     diag.Pos
	Name    string `key:"name" doc:"The name of the group." eg:"app" is:"account" req:"y"`
	GID     string `key:"gid" doc:"The number of the group." def:"the next free one" eg:"950" is:"id"`
	System  bool   `key:"system" doc:"Take the number from the range of system groups." def:"false" eg:"true"`
	Members Names  `key:"members" doc:"Users that belong to it." eg:"[alice]" is:"account"`
}

// User is an account to make or to change.
type User struct {
	Pos               diag.Pos
	Name              string   `key:"name" doc:"Its name, in a list of users." eg:"alice" is:"account"`
	Passwd            Secret   `key:"passwd" doc:"The password: a hash in the form of crypt(5), or plain text, of which only a yescrypt hash is stored. Without one no password fits, but keys do." eg:"$y$j9T$saltsaltsaltsalt$5hashhashhashhashhashhashhashhashhashhashhash"`
	LockPasswd        bool     `key:"lock_passwd" doc:"Lock the password." def:"false" eg:"true"`
	SSHAuthorizedKeys []string `key:"ssh_authorized_keys" doc:"Keys for ~/.ssh/authorized_keys; github:NAME, gitlab:NAME and https URLs are fetched in the stage network." eg:"[github:octocat]" is:"oneline" keyis:"account"`
	UID               string   `key:"uid" doc:"Its number. Homes outlive the accounts, which are made at every boot." def:"the owner of the home directory, else the next free one" eg:"1000" is:"id"`
	PrimaryGroup      string   `key:"primary_group" doc:"A name or a number." def:"a group with the name of the user" eg:"users" is:"accountid"`
	NoUserGroup       bool     `key:"no_user_group" doc:"Take the common group instead: users, or what /etc/default/useradd says." def:"false" eg:"true"`
	Groups            Names    `key:"groups" doc:"Other groups: a list, or one string with commas. Missing ones are made as system groups." eg:"[admin, docker]" is:"account"`
	Shell             string   `key:"shell" doc:"The login shell." def:"that of /etc/default/useradd, else /bin/sh" eg:"/bin/bash" is:"accountpath"`
	Homedir           string   `key:"homedir" doc:"The home directory, made with mode 0700 and the files of /etc/skel." def:"/home/NAME" eg:"/srv/app" is:"accountpath"`
	NoCreateHome      bool     `key:"no_create_home" doc:"Make no home directory." def:"false" eg:"true"`
	System            bool     `key:"system" doc:"A system user, with a number from that range; a home directory is made only where homedir says so." def:"false" eg:"true"`
	GECOS             string   `key:"gecos" doc:"The full name." eg:"Alice Example" is:"gecos"`
	NoLogInit         bool     `key:"no_log_init" doc:"Keep the user out of the logs of logins." def:"false" eg:"true" none:"the logs have no size for each user"`
}

// DecodeStep decodes an item of a stage. It leaves out what can't be used; a step with
// an unclear condition has Unclear set.
func DecodeStep(n *tree.Node) (Step, diag.List) {
	var step Step
	var problems diag.List
	step.Unclear = !decode(n, &step, "the step", &problems)
	step.Pos = n.Pos
	for _, f := range n.Fields {
		if unclear(f) {
			step.Unclear = true
		}
	}
	return step, problems
}

// conditions are the keys with conditions of a step.
var conditions = []string{"if", "if_files", "only_os", "only_os_version", "only_arch", "only_service_manager", "node"}

// conditional matches keys that look like a condition.
var conditional = regexp.MustCompile(`^(?i:only|if|unless|when|except|not|skip)(?:[-_A-Z]|$)`)

// unclear reports whether a key is an unusable condition, or looks like an unknown one.
func unclear(f tree.Field) bool {
	known := keysOf(reflect.TypeFor[Step]())
	key := f.Key
	if i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, key) }); i >= 0 {
		key = known[i]
	} else {
		return conditional.MatchString(key) || slices.Contains(conditions, spell.Closest(key, known))
	}
	if !slices.Contains(conditions, key) {
		return false
	}
	var alone Step
	var problems diag.List
	ok := decode(&tree.Node{Kind: tree.Map, Pos: f.Pos, Fields: []tree.Field{f}}, &alone, "", &problems)
	return !ok || f.Value.Spoiled || problems.Failed()
}
