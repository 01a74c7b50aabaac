// Package provider turns blocks at the top of a config that belong to other programs
// (k3s, k0s, p2p …) into steps: those of K3s and k0s by itself, all others by
// executables of the image.
//
// A provider is an executable in /usr/lib/kairos/providers.d or
// /etc/kairos/providers.d; a file in the second replaces one of the same name in the
// first. It runs beneath the root with the name of a stage as its argument and the
// merged config as JSON on stdin, and prints a config (YAML or JSON) with the key
// stages and nothing else; empty output means no steps. ${credential:NAME} is passed on
// unexpanded, and is expanded in the output. The output is validated like any config.
package provider

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/buildinfo"
	"github.com/kairos-io/toolkit/lib/run"
	"golang.org/x/sys/unix"
)

// Directories are the directories of providers; files in later ones take precedence.
var Directories = []string{buildinfo.LibDir + "/providers.d", "/etc/kairos/providers.d"}

const (
	timeout   = time.Minute
	maxOutput = 1 << 20 // bytes
	// drain is how long output is still read after a provider has ended.
	drain = time.Second
)

// claimed are the blocks that have an effect only with a provider of the image.
var claimed = []string{"kubevip", "p2p"}

// Steps returns the configs that providers derive from a merged config for a stage. A
// failing provider is a problem; the others are still used.
func Steps(ctx context.Context, root *rootfs.Root, stage string, merged *tree.Node) (docs []source.Document, problems diag.List) {
	docs = own(root, stage, merged, &problems)
	if doc := kubernetes(root, stage, merged, &problems); doc != nil {
		docs = append(docs, *doc)
	}
	files := find(root)
	if len(files) == 0 {
		for _, block := range claimed {
			if n := merged.Field(block); stage == "boot" && n != nil && n.Kind != tree.Null {
				problems.Add(diag.Warnf(n.Pos, "no provider in this image reads the block %s", block).WithHint("a provider is an executable in %s", Directories[0]))
			}
		}
		return docs, problems
	}
	input, err := merged.MarshalJSON()
	if err != nil {
		problems.Errorf(diag.Pos{Source: "providers"}, "%v", err)
		return docs, problems
	}
	for _, file := range files {
		pos := diag.Pos{Source: "provider " + path.Base(file)}
		out, err := ask(ctx, root, file, stage, input)
		if err != nil {
			problems.Errorf(pos, "%v", err)
			continue
		}
		if len(bytes.TrimSpace(out)) == 0 {
			continue
		}
		node, found := tree.Parse(pos.Source, out)
		problems = append(problems, found...)
		switch {
		case node == nil:
		case node.Kind != tree.Map || len(node.Fields) != 1 || node.Field("stages") == nil:
			problems.Errorf(pos, "its output is not a map with the key stages")
		default:
			docs = append(docs, source.Document{Source: pos.Source, Root: node})
		}
	}
	return docs, problems
}

// find returns the executables in their order.
func find(root *rootfs.Root) []string {
	byName := map[string]string{}
	for _, dir := range Directories {
		entries, err := root.ReadDir(dir)
		if err != nil {
			continue // it isn't there
		}
		for _, e := range entries {
			file := path.Join(dir, e.Name())
			st, err := root.Stat(file)
			switch {
			case err != nil || e.Name()[0] == '.':
			case st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0:
				byName[e.Name()] = file
			case st.Mode&unix.S_IFMT == unix.S_IFCHR: // a link to /dev/null takes one away
				delete(byName, e.Name())
			}
		}
	}
	var files []string
	for _, file := range byName {
		files = append(files, file)
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
	return files
}

// ask runs a provider.
func ask(ctx context.Context, root *rootfs.Root, file, stage string, input []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := run.Runner{
		Root: root.Path(), Dir: "/", Stdin: input, Group: true, Most: maxOutput, Drain: drain,
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"},
	}.Output(ctx, file, stage)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, fmt.Errorf("stopped after %v", timeout)
	}
	return out, err
}
