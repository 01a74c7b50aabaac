package source

import (
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/kernelargs"
)

// CommandLine is the name of the kernel command line as a source.
const CommandLine = "kernel command line"

// dottedBlocks are the blocks that a dotted key without kairos.config= may set. Dotted
// keys of other names belong to the kernel, systemd or dracut.
var dottedBlocks = []string{
	"install", "upgrade", "reset", "stages", "options", "k3s", "k3s-agent",
	"k0s", "k0s-worker", "kubevip", "p2p", "kcrypt", "providers", "phonehome",
}

// readCommandLine reads the kernel command line:
//
//	kairos.config=KEY=VALUE         sets a dotted key
//	BLOCK.KEY=VALUE                 the same for the blocks that Kairos has
//	config_url=URL, kairos.config_url=URL
//	                                the key config_url
//	cos.setup=URL, cos.setup=PATH   one more config
//
// Later words win. Values are taken as YAML would take them without quotes.
// What cos.setup says is returned beside the tree.
func readCommandLine(line string) (root *tree.Node, setups []*tree.Node, problems diag.List) {
	pos := diag.Pos{Source: CommandLine}
	root = &tree.Node{Kind: tree.Map, Pos: pos}
	for word := range kernelargs.Words(line) {
		name, value, _ := strings.Cut(word, "=")
		if name == "cos.setup" && value != "" {
			setups = append(setups, &tree.Node{Kind: tree.String, Text: value, Pos: pos})
			continue
		}
		key, ok := assignment(word)
		if !ok {
			continue
		}
		if err := set(root, key, pos); err != nil {
			problems.Errorf(pos, "%s: %v", name, err)
		}
	}
	return root, setups, problems
}

// assignment returns KEY=VALUE or KEY if a word of the command line sets a key of the
// config.
func assignment(word string) (string, bool) {
	if ours, ok := strings.CutPrefix(word, "kairos.config="); ok {
		return ours, ours != ""
	}
	key, value, _ := strings.Cut(word, "=")
	if key == "config_url" || key == "kairos.config_url" {
		return "config_url=" + value, value != ""
	}
	block, _, dotted := strings.Cut(key, ".")
	return word, dotted && slices.Contains(dottedBlocks, block)
}

// set puts KEY=VALUE into the tree; KEY alone is true.
func set(root *tree.Node, word string, pos diag.Pos) error {
	key, value, given := strings.Cut(word, "=")
	if !given {
		value = "true"
	}
	path, err := tree.ParsePath(key)
	if err != nil {
		return err
	}
	return root.Set(path, tree.Scalar(strings.Trim(value, `"`), pos))
}
