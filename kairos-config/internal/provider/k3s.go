package provider

import (
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Files that the distributions read, and that kairos-config owns.
const (
	k3sConfig = "/etc/rancher/k3s/config.yaml.d/90-kairos-config.yaml"
	k3sEnv    = "/etc/rancher/k3s/kairos-config.env"
	k0sEnv    = "/etc/k0s/kairos-config.env"
)

// role is a block of a config, and the role of the node.
type role struct {
	block, name, program, command, unit string
	env                                 string // file with the variables
	config                              string // file with the arguments, "" where only argv takes them
}

var roles = []role{
	{"k3s", "K3s", "k3s", "server", "k3s.service", k3sEnv, k3sConfig},
	{"k3s-agent", "K3s", "k3s", "agent", "k3s-agent.service", k3sEnv, k3sConfig},
	{"k0s", "k0s", "k0s", "controller", "k0scontroller.service", k0sEnv, ""},
	{"k0s-worker", "k0s", "k0s", "worker", "k0sworker.service", k0sEnv, ""},
}

// kubernetes returns the steps for K3s or k0s: the config and environment files, a
// drop-in that makes the unit use them, the unit where the image has none, and enabling
// and starting it. Two enabled blocks are an error: a node has one role.
func kubernetes(root *rootfs.Root, stage string, merged *tree.Node, problems *diag.List) *source.Document {
	if stage != "boot" {
		return nil
	}
	var enabled []role
	for _, r := range roles {
		if merged.Field(r.block).Field("enabled").Truth() {
			enabled = append(enabled, r)
		}
	}
	if len(enabled) > 1 {
		block := merged.Field(enabled[1].block)
		problems.Errorf(block.Pos, "%s and %s are both enabled: enable one of them", enabled[0].block, enabled[1].block)
		return nil
	}
	if len(enabled) == 0 {
		return nil
	}
	return enabled[0].document(root, stage, merged.Field(enabled[0].block), problems)
}

func (r role) document(root *rootfs.Root, stage string, block *tree.Node, problems *diag.List) *source.Document {
	// Where an image may carry the program.
	places := []string{"/usr/local/bin/" + r.program, "/usr/bin/" + r.program}
	at := slices.IndexFunc(places, root.Exists)
	if at < 0 && r.program == "k0s" && len(find(root)) > 0 {
		return nil // one of the providers may bring it
	}
	if at < 0 {
		problems.Add(diag.Warnf(block.Pos, "%s: this image has no %s", r.block, r.name).WithHint("searched: %s", strings.Join(places, " and ")))
		return nil
	}
	settings, found := schema.DecodeKubernetes(block)
	*problems = append(*problems, found...)
	if settings.Registry && r.command == "server" && !settings.ReplaceArgs {
		settings.Args = append(settings.Args, "--embedded-registry")
	}
	options, err := arguments(settings.Args, r.command)
	if err != nil { // which options are left out
		problems.Errorf(block.Pos, "%s: args: %v", r.block, err)
	}
	p := builder{pos: block.Pos}
	step := p.object("name", r.name+" "+r.command)
	files := []*tree.Node{p.file(r.env, environment(r, settings), "0600")}
	dropin := "[Service]\nEnvironmentFile=-" + r.env + "\n"
	if r.config != "" {
		files = append([]*tree.Node{p.file(r.config, r.heading()+yamlOf(options), "0600")}, files...)
	} else {
		line, err := commandLine(options)
		if err != nil {
			problems.Errorf(block.Pos, "%s: args: %v", r.block, err)
		}
		dropin += "ExecStart=\nExecStart=" + places[at] + " " + r.command + line + "\n"
	}
	if !slices.ContainsFunc([]string{"/usr/lib/systemd/system/", "/etc/systemd/system/"}, func(dir string) bool { return root.Exists(dir + r.unit) }) {
		files = append(files, p.file("/run/systemd/system/"+r.unit, unit(r.name, places[at], r.command), "0644"))
	}
	override := p.object("service", r.unit, "name", "50-kairos-config.conf", "content", dropin)
	units := p.list(p.text(r.unit))
	systemctl := p.object()
	p.set(step, "files", p.list(files...))
	p.set(step, "systemctl", systemctl)
	p.set(systemctl, "overrides", p.list(override))
	p.set(systemctl, "enable", units)
	p.set(systemctl, "start", units)
	doc := document(block.Pos, stage, false, step)
	return &doc
}

func (r role) heading() string {
	return "# Written by kairos-config(8) from the block " + r.block + " of the node's cloud-config.\n"
}

// quote quotes a text for YAML.
func quote(value string) string { return "'" + strings.ReplaceAll(value, "'", "''") + "'" }

// environment is a file for EnvironmentFile= of systemd.exec(5).
func environment(r role, k schema.Kubernetes) string {
	text := r.heading()
	for _, v := range k.Env {
		text += v.Key + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v.Value) + "\"\n"
	}
	return text
}

// unit returns K3s' own unit, for images that have only the program.
func unit(name, program, command string) string {
	kind := "notify"
	if name == "k0s" {
		kind = "exec"
	}
	return `[Unit]
Description=` + name + ` ` + command + `
Wants=network-online.target
After=network-online.target

[Service]
Type=` + kind + `
KillMode=process
Delegate=yes
User=root
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStart=` + program + ` ` + command + `

[Install]
WantedBy=multi-user.target
`
}

// builder creates values of a config at the position of the block that they are derived
// from.
type builder struct{ pos diag.Pos }

func (b builder) text(s string) *tree.Node { return &tree.Node{Kind: tree.String, Text: s, Pos: b.pos} }

func (b builder) list(items ...*tree.Node) *tree.Node {
	return &tree.Node{Kind: tree.List, Items: items, Pos: b.pos}
}

func (b builder) set(n *tree.Node, key string, value *tree.Node) {
	n.Fields = append(n.Fields, tree.Field{Key: key, Pos: b.pos, Value: value})
}

func (b builder) object(pairs ...string) *tree.Node {
	n := &tree.Node{Kind: tree.Map, Pos: b.pos}
	for i := 0; i+1 < len(pairs); i += 2 {
		b.set(n, pairs[i], b.text(pairs[i+1]))
	}
	return n
}

func (b builder) file(path, content, mode string) *tree.Node {
	return b.object("path", path, "content", content, "permissions", mode)
}
