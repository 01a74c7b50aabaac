package cmd

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/mask"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/stage"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

// words are the verdicts for people.
var words = map[schema.Verdict]string{
	schema.Works: "works", schema.Differs: "works differently", schema.None: "has no effect", schema.Change: "must change",
}

// kairosFiles are files in a Kairos node's /oem that are no configs.
var kairosFiles = []struct{ pattern, text string }{
	{"grub*env", "there is no GRUB: kernel arguments are install.grub_options.extra_cmdline"},
	{"userdata", "the config that was made of it counts, not what the datasource had"},
	{"*.json", "records of Kairos' programs are not read"},
	{"*.sh", "a program that no config names is not run"},
}

// migrate returns a verdict for each key of the configs of a Kairos node.
func migrate(c *cli.Context) error {
	names := c.Args().Slice()
	if len(names) == 0 {
		names = []string{"/oem"}
	}
	files, err := configsIn(names)
	if err != nil {
		return err
	}
	result := stage.Migration{Ready: true, Keys: []stage.MigratedKey{}, Counts: map[schema.Verdict]int{}}
	for _, file := range files {
		for _, k := range judge(file) {
			key := stage.MigratedKey{File: file, Line: k.Pos.Line, Key: k.Key, Verdict: k.Verdict, Text: mask.Text(k.Text)}
			result.Keys = append(result.Keys, key)
			result.Counts[k.Verdict]++
			result.Ready = result.Ready && k.Verdict != schema.Change
		}
	}
	for _, name := range names {
		for _, other := range kairosFiles {
			found, _ := filepath.Glob(filepath.Join(name, other.pattern)) // the patterns are well formed
			for _, file := range found {
				result.Keys = append(result.Keys, stage.MigratedKey{File: file, Verdict: schema.None, Text: other.text})
				result.Counts[schema.None]++
			}
		}
	}
	if c.Bool("json") {
		err = cmdline.PrintJSON(c, result)
	} else {
		printMigration(c, result)
	}
	if err == nil && !result.Ready {
		err = exit.Silent(exit.Failed)
	}
	return err
}

// judge returns verdicts for the keys of a file, or for the whole file if it can't be
// read.
func judge(file string) []schema.Judged {
	documents, problems := checked(file)
	var all []schema.Judged
	for _, doc := range documents {
		var own diag.List
		for _, p := range problems {
			if p.Pos.Source == doc.Source {
				own = append(own, p)
			}
		}
		all = append(all, schema.Migrate(doc.Root, own)...)
	}
	if len(documents) == 0 {
		for _, p := range problems {
			all = append(all, schema.Judged{Pos: p.Pos, Verdict: schema.Change, Text: strings.TrimSuffix(p.Message+": "+p.Hint, ": ")})
		}
	}
	return all
}

func printMigration(c *cli.Context, m stage.Migration) {
	file := ""
	for _, k := range m.Keys {
		if c.Bool("quiet") && k.Verdict == schema.Works {
			continue
		}
		if k.File != file {
			file = k.File
			terminal.Fprintf(c.App.Writer, "%s\n", file)
		}
		line := ""
		if k.Line > 0 {
			line = fmt.Sprintf(" (line %d)", k.Line)
		}
		text := ""
		if k.Text != "" {
			text = ": " + k.Text
		}
		terminal.Fprintf(c.App.Writer, "  %-17s  %s%s%s\n", words[k.Verdict], cmp.Or(k.Key, "the file"), line, text)
	}
	terminal.Fprintf(c.App.Writer, "%d keys: %d work, %d work differently, %d have no effect, %d must change\n", len(m.Keys),
		m.Counts[schema.Works], m.Counts[schema.Differs], m.Counts[schema.None], m.Counts[schema.Change])
}
