package provider

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// programs are where an image may carry K3s.
var programs = []string{"/usr/local/bin/k3s", "/usr/bin/k3s"}

// Files that K3s reads, and that this program owns.
const (
	k3sConfig = "/etc/rancher/k3s/config.yaml.d/90-kairos-config.yaml"
	k3sEnv    = "/etc/rancher/k3s/kairos-config.env"
)

// roles are the blocks, and what each makes a node.
var roles = []struct{ block, command, unit string }{
	{"k3s", "server", "k3s.service"},
	{"k3s-agent", "agent", "k3s-agent.service"},
}

// k3s returns the steps for K3s: its own config and environment, a drop-in
// that leads its unit to them, the unit where the image has none, and that it
// is enabled and started.
func k3s(root *rootfs.Root, stage string, merged *tree.Node, problems *diag.List) *source.Document {
	if stage != "boot" {
		return nil
	}
	for _, role := range roles {
		block := merged.Field(role.block)
		if block == nil || !block.Field("enabled").Truth() {
			continue
		}
		program := slices.IndexFunc(programs, root.Exists)
		if program < 0 {
			problems.Warnf(block.Pos, "%s: this image has no K3s", role.block)
			problems.Hint("it is looked for at %s", strings.Join(programs, " and "))
			return nil
		}
		settings, found := schema.DecodeKubernetes(block)
		*problems = append(*problems, found...)
		config, err := k3sSettings(settings, role.command)
		if err != nil {
			problems.Errorf(block.Pos, "%s: %v", role.block, err)
			return nil
		}
		p := builder{pos: block.Pos}
		step := p.object("name", "K3s "+role.command)
		files := []*tree.Node{p.file(k3sConfig, config, "0600"), p.file(k3sEnv, k3sEnvironment(settings), "0600")}
		if !slices.ContainsFunc([]string{"/usr/lib/systemd/system/", "/etc/systemd/system/"}, func(dir string) bool { return root.Exists(dir + role.unit) }) {
			files = append(files, p.file("/run/systemd/system/"+role.unit, unit(programs[program], role.command), "0644"))
		}
		override := p.object("service", role.unit, "name", "50-kairos-config.conf", "content", "[Service]\nEnvironmentFile=-"+k3sEnv+"\n")
		units := p.list(p.text(role.unit))
		p.set(step, "files", p.list(files...))
		p.set(step, "systemctl", &tree.Node{Kind: tree.Map, Pos: p.pos})
		p.set(step.Field("systemctl"), "overrides", p.list(override))
		p.set(step.Field("systemctl"), "enable", units)
		p.set(step.Field("systemctl"), "start", units)
		stages := &tree.Node{Kind: tree.Map, Pos: p.pos}
		p.set(stages, stage, p.list(step))
		top := &tree.Node{Kind: tree.Map, Pos: p.pos}
		p.set(top, "stages", stages)
		return &source.Document{Source: block.Pos.Source, Root: top}
	}
	return nil
}

// k3sSettings turns arguments into K3s' config file: --name=value is name:
// value, several of a name are a list, --name alone is true.
func k3sSettings(k schema.Kubernetes, command string) (string, error) {
	var names []string
	values := map[string][]string{}
	args := k.Args
	if k.Registry && command == "server" && !k.ReplaceArgs {
		args = append(slices.Clone(args), "--embedded-registry")
	}
	for i := 0; i < len(args); i++ {
		name, value, given := strings.Cut(args[i], "=")
		if !strings.HasPrefix(name, "--") || len(name) < 3 {
			return "", fmt.Errorf("args: %q is no option in the form --name=value", args[i])
		}
		if !given && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
			i++
			value, given = args[i], true
		}
		if !given {
			value = "true"
		}
		name = name[2:]
		if values[name] == nil {
			names = append(names, name)
		}
		values[name] = append(values[name], value)
	}
	text := "# Written by kairos-config(8) from the block k3s of the node's cloud-config.\n"
	for _, name := range names {
		switch list := values[name]; {
		case len(list) > 1:
			text += name + ":\n"
			for _, value := range list {
				text += "- " + quote(value) + "\n"
			}
		case list[0] == "true" || list[0] == "false":
			text += name + ": " + list[0] + "\n"
		default:
			text += name + ": " + quote(list[0]) + "\n"
		}
	}
	return text, nil
}

// quote quotes a text for YAML.
func quote(value string) string { return "'" + strings.ReplaceAll(value, "'", "''") + "'" }

// k3sEnvironment is a file for EnvironmentFile= of systemd.exec(5).
func k3sEnvironment(k schema.Kubernetes) string {
	text := "# Written by kairos-config(8) from the block k3s of the node's cloud-config.\n"
	for _, v := range k.Env {
		text += v.Key + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v.Value) + "\"\n"
	}
	return text
}

// unit is K3s' own unit, for images that carry the program alone.
func unit(program, command string) string {
	return `[Unit]
Description=Lightweight Kubernetes
Documentation=https://k3s.io
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
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

// builder makes values of a config at the place of the block that they are
// made of.
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
