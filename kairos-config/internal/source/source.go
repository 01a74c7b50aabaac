// Package source finds and reads the node's configs: files in several directories and
// the kernel command line, in order of precedence.
package source

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/generation"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/bounded"
)

// Directories are the directories of configs; later ones take precedence. Their
// subdirectories are read as well, files in lexicographic order.
var Directories = []string{
	"/run/initramfs/live",     // the live medium
	"/system/oem",             // the image: its distributor
	"/etc/kairos",             // the image: its owner
	"/usr/local/cloud-config", // COS_PERSISTENT
	"/oem",                    // COS_OEM
}

// MaxSize is the maximum size of a config file, in bytes, as in Kairos.
const MaxSize = 1 << 20

// Headers are the lines of which a config must have one among its first ten.
var Headers = []string{"#cloud-config", "#kairos-config", "#node-config"}

// Document is a config: a file, or the kernel command line.
type Document struct {
	Source string
	Header bool // the file has the header of a config
	Broken bool // parts of it are left out
	Root   *tree.Node
}

// Collection holds all configs of a node.
type Collection struct {
	Documents []Document
	Skipped   int       // unused files
	Remotes   []Remote  // configs to fetch
	Missing   []Remote  // configs to fetch without a copy
	Problems  diag.List // of reading and parsing
}

// Collect reads all configs beneath a root: its directories, then files that the caller
// names by their path in the running system, then copies of fetched configs, then the
// kernel command line. What can't be read becomes a problem, and the rest is returned.
//
// The booted generation selects the configs of COS_OEM.
func Collect(root *rootfs.Root, files ...string) *Collection {
	booted, err := generation.Booted(root)
	c := CollectWith(root, OEM{Generation: booted}, files...)
	if err != nil {
		c.Problems.Errorf(diag.Pos{Source: generation.Dir}, "%v", err)
	}
	return c
}

// CollectWith is Collect with other configs on COS_OEM.
func CollectWith(root *rootfs.Root, oem OEM, files ...string) *Collection {
	c := &Collection{}
	for _, dir := range Directories {
		names, err := root.Files(dir, Named)
		if err != nil {
			c.Problems.Errorf(diag.Pos{Source: dir}, "can't list configs: %v", err)
		}
		if dir == generation.OEM {
			names = oem.names(names)
		}
		for _, name := range names {
			if data, put := oem.Put[path.Base(name)]; put && path.Dir(name) == generation.OEM {
				c.Add(name, data)
			} else {
				c.read(root, name, name)
			}
		}
	}
	for _, name := range files {
		c.AddFile(name)
	}
	c.addRest(root)
	return c
}

// addRest adds the sources after the files: fetched configs, and the kernel command
// line.
func (c *Collection) addRest(root *rootfs.Root) {
	text, err := root.ReadFile("/proc/cmdline", MaxSize)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.Problems.Errorf(diag.Pos{Source: CommandLine}, "%v", err)
	}
	line, setups, problems := readCommandLine(string(text))
	c.Problems = append(c.Problems, problems...)
	local := func(n *tree.Node) bool { return strings.HasPrefix(n.Text, "/") }
	for _, n := range setups {
		if local(n) {
			c.read(root, n.Text, n.Text)
		}
	}
	for _, r := range c.remotes(line, slices.DeleteFunc(setups, local)) {
		c.follow(root, r)
	}
	if len(line.Fields) > 0 {
		c.Documents = append(c.Documents, Document{Source: CommandLine, Header: true, Root: line})
	}
}

// AddFile reads one file of the running system as a config.
func (c *Collection) AddFile(name string) {
	pos := diag.Pos{Source: name}
	absolute, err := filepath.Abs(name)
	if err != nil {
		c.Problems.Errorf(pos, "%v", err)
		return
	}
	system, err := rootfs.Open("/")
	if err != nil {
		c.Problems.Errorf(pos, "%v", err)
		return
	}
	defer system.Close()
	c.read(system, absolute, name)
}

// Named reports whether a file has the name of a config.
func Named(name string) bool {
	ext := path.Ext(name)
	return (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(name, ".")
}

func (c *Collection) read(root *rootfs.Root, name, source string) {
	pos := diag.Pos{Source: source}
	data, err := root.ReadFile(name, MaxSize)
	switch {
	case errors.Is(err, bounded.ErrTooLarge):
		c.Skipped++
		c.Problems.Add(diag.Mistakef(pos, "skipped: larger than 1 MB"))
		return
	case err != nil:
		c.Skipped++
		c.Problems.Errorf(pos, "can't be read: %v", unwrapPath(err))
		return
	}
	c.Add(source, data)
}

// Add parses a config and adds it.
func (c *Collection) Add(source string, data []byte) {
	if IsArchive(data) {
		c.addArchive(source, data)
		return
	}
	node, whole, problems := tree.Salvage(source, data)
	node = schema.Undot(node)
	if node != nil && !whole {
		node = withoutConsent(node, &problems)
	}
	doc := Document{Source: source, Header: hasHeader(data), Broken: !whole, Root: node}
	if !doc.Header && node.Field("stages") == nil {
		c.Skipped++
		if problems.Failed() && bytes.Contains(data, []byte("stages:")) { // it would be one
			c.Problems = append(c.Problems, problems...)
			return
		}
		c.Problems.Add(diag.Mistakef(diag.Pos{Source: source, Line: 1}, "skipped: the first lines have no header").WithHint("write #cloud-config into the first line"))
		return
	}
	c.Problems = append(c.Problems, problems...)
	if node == nil {
		c.Skipped++
		return
	}
	c.Documents = append(c.Documents, doc)
}

// withoutConsent takes install.auto and install.force out of a config with a mistake:
// what was to happen before a disk is erased may be what is left out.
func withoutConsent(root *tree.Node, problems *diag.List) *tree.Node {
	config := *root
	config.Fields = slices.Clone(root.Fields)
	for i, f := range config.Fields {
		if f.Key != "install" || f.Value.Kind != tree.Map {
			continue
		}
		install := *f.Value
		install.Fields = nil
		for _, own := range f.Value.Fields {
			if own.Key == "auto" || own.Key == "force" {
				problems.Errorf(own.Pos, "install.%s is left out: a config with a mistake is no consent to erase a disk", own.Key)
				continue
			}
			install.Fields = append(install.Fields, own)
		}
		config.Fields[i].Value = &install
	}
	return &config
}

// IsConfig reports whether a text is a config: by its header, or by its stages.
func IsConfig(data []byte) bool {
	if hasHeader(data) {
		return true
	}
	node, _ := tree.Parse("", data)
	return node.Field("stages") != nil
}

// hasHeader reports whether one of the first ten lines is a header: cloud-init allows
// other comments before it.
func hasHeader(data []byte) bool {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	for range 10 {
		line, rest, more := bytes.Cut(data, []byte("\n"))
		text := string(bytes.TrimRight(line, " \t\r"))
		for _, h := range Headers {
			if text == h {
				return true
			}
		}
		if !more {
			return false
		}
		data = rest
	}
	return false
}

// Merged merges the configs. Files without a header are left out: they may only have
// stages, as in Kairos.
func (c *Collection) Merged() (*tree.Node, diag.List) {
	merged := &tree.Node{Kind: tree.Map}
	var problems diag.List
	for _, doc := range c.Documents {
		if doc.Header {
			merged = tree.Merge(merged, doc.Root, &problems)
		}
	}
	return merged, problems
}

// unwrapPath removes the path from an error that is printed after it.
func unwrapPath(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
