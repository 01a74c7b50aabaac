package schema

import (
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Mounts are paths that a node can write to.
type Mounts struct {
	Bind      []string `key:"bind_mounts" is:"path"`
	Ephemeral []string `key:"ephemeral_mounts" is:"path"`
}

// DecodeMounts reads them from the key install. What can't be used is left out:
// the installation has told.
func DecodeMounts(install *tree.Node) Mounts {
	var m Mounts
	if install != nil && install.Kind == tree.Map {
		var ignored diag.List
		decode(pick(install, []string{"bind_mounts", "ephemeral_mounts"}), &m, "install", &ignored)
	}
	return m
}

// Bundles are those of a node.
type Bundles struct {
	Bundles []Bundle `key:"bundles"`
	Fail    bool     `key:"fail_on_bundles_errors"`
}

// DecodeBundles reads the bundles at the top and in install.
func DecodeBundles(merged *tree.Node) (Bundles, diag.List) {
	var b, more Bundles
	var problems diag.List
	decode(pick(merged, []string{"bundles", "fail_on_bundles_errors"}), &b, "the config", &problems)
	if install := merged.Field("install"); install != nil && install.Kind == tree.Map {
		decode(pick(install, []string{"bundles"}), &more, "install", &problems)
	}
	b.Bundles = append(b.Bundles, more.Bundles...)
	return b, problems
}

// Environ returns the variables for the commands of a stage: env at the top, and
// in the stages of an installation install.env behind it.
func Environ(merged *tree.Node, stage string) []string {
	type variables struct {
		Env []string `key:"env" is:"assignment"`
	}
	var list []string
	blocks := []*tree.Node{merged}
	if strings.HasPrefix(stage, "kairos-install") || strings.HasSuffix(stage, "-install") || strings.HasSuffix(stage, "-install-chroot") {
		blocks = append(blocks, merged.Field("install"))
	}
	for _, block := range blocks {
		if block == nil || block.Kind != tree.Map {
			continue
		}
		var v variables
		var ignored diag.List
		decode(pick(block, []string{"env"}), &v, "", &ignored)
		list = append(list, v.Env...)
	}
	return list
}
