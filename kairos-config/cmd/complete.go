package cmd

import (
	"cmp"
	"path"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/generation"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/staging"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/argv"
)

// completions returns completions for the command line, from files of the node: it
// fetches and writes nothing.
func completions() argv.Values {
	return argv.Values{"STAGE": completeStage, "KEY": completeKey, "GENERATION": completeGeneration, "NAME": completeName}
}

// reading passes the root that the command line names.
func reading(a argv.Asked, look func(*rootfs.Root)) {
	root, err := rootfs.Open(cmp.Or(a.Options["root"], "/"))
	if err != nil {
		return
	}
	defer root.Close()
	look(root)
}

// config returns the node's config, as far as it can be read.
func config(a argv.Asked) (merged *tree.Node) {
	reading(a, func(root *rootfs.Root) { merged, _ = source.Collect(root).Merged() })
	return merged
}

func completeStage(a argv.Asked) (list []argv.Candidate) {
	for _, name := range schema.StageNames {
		list = append(list, argv.Candidate{Word: name})
	}
	if merged := config(a); merged != nil {
		if stages := merged.Field("stages"); stages != nil {
			for _, f := range stages.Fields {
				if !schema.KnownStage(f.Key) {
					list = append(list, argv.Candidate{Word: f.Key, Usage: "of the node's config"})
				}
			}
		}
	}
	return list
}

func completeKey(a argv.Asked) (list []argv.Candidate) {
	var walk func(*tree.Node, string, int)
	walk = func(n *tree.Node, prefix string, depth int) {
		if n == nil || depth == 0 {
			return
		}
		for _, f := range n.Fields {
			if strings.Contains(f.Key, ".") {
				continue // it would need quotes
			}
			list = append(list, argv.Candidate{Word: prefix + f.Key})
			walk(f.Value, prefix+f.Key+".", depth-1)
		}
	}
	walk(config(a), "", 3)
	return list
}

func completeGeneration(a argv.Asked) (list []argv.Candidate) {
	list = []argv.Candidate{{Word: staging.Plain, Usage: "the plain configs without a generation"}}
	reading(a, func(root *rootfs.Root) {
		all, _ := generation.All(root)
		for _, g := range all {
			list = append(list, argv.Candidate{Word: g.ID, Usage: g.Created.UTC().Format("2006-01-02 15:04") + " UTC"})
		}
	})
	return list
}

func completeName(a argv.Asked) (list []argv.Candidate) {
	reading(a, func(root *rootfs.Root) {
		entries, _ := root.ReadDir(generation.OEM)
		for _, e := range entries {
			if ext := path.Ext(e.Name()); !strings.HasPrefix(e.Name(), ".") && (ext == ".yaml" || ext == ".yml") {
				list = append(list, argv.Candidate{Word: e.Name()})
			}
		}
	})
	return list
}
