package cmd

import (
	"fmt"
	"os"
	"path"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/facts"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/stage"
	"github.com/kairos-io/toolkit/kairos-config/internal/template"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/urfave/cli/v2"
)

func validateCommand() *cli.Command {
	return &cli.Command{
		Name: "validate", Usage: "check configs: syntax, keys, values and templates", ArgsUsage: "FILE|DIR...",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "kairos", Usage: "say of each key of a Kairos node's configs, in /oem or DIR, what becomes of it"},
			cmdline.JSONFlag(), cmdline.QuietFlag(),
		},
		Action: validate,
	}
}

func validate(c *cli.Context) error {
	if c.Bool("kairos") {
		return migrate(c)
	}
	names, err := cmdline.Arguments(c, "FILE|DIR...")
	if err != nil {
		return err
	}
	files, err := configsIn(names)
	if err != nil {
		return err
	}
	result := stage.Validation{Valid: true, Problems: []stage.Finding{}}
	for _, name := range files {
		problems := check(name)
		excerpt := newExcerpt(name, problems)
		for _, p := range problems {
			result.Valid = result.Valid && p.Severity != diag.Error
			record := stage.ProblemRecords(diag.List{p})[0]
			result.Problems = append(result.Problems, stage.Finding{ProblemRecord: record, Text: excerpt.line(p.Pos)})
			if !c.Bool("json") && (p.Severity == diag.Error || !c.Bool("quiet")) {
				excerpt.print(c.App.ErrWriter, p)
			}
		}
	}
	if c.Bool("json") {
		if err := cmdline.PrintJSON(c, result); err != nil {
			return err
		}
	}
	if !result.Valid {
		return exit.Silent(exit.Failed)
	}
	return nil
}

// configsIn returns the named files, and the files in named directories.
func configsIn(names []string) ([]string, error) {
	var files []string
	for _, name := range names {
		if st, err := os.Stat(name); err != nil || !st.IsDir() {
			files = append(files, name) // what can't be read is told as a problem
			continue
		}
		dir, err := rootfs.Open(name)
		if err != nil {
			return nil, err
		}
		found, err := dir.Files(".", source.Named)
		dir.Close()
		if err != nil {
			return nil, fmt.Errorf("list configs in %s: %w", name, err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("no configs in %s: their names end in .yaml or .yml", name)
		}
		for _, f := range found {
			files = append(files, path.Join(name, f))
		}
	}
	return files, nil
}

// check validates a config. It renders templates with sample facts and validates the
// results too.
func check(name string) diag.List {
	_, problems := checked(name)
	return problems
}

// checked is check with the configs of the file.
func checked(name string) ([]source.Document, diag.List) {
	var file source.Collection
	file.AddFile(name)
	problems := file.Problems
	for i := range problems {
		problems[i] = problems[i].Judged()
	}
	for _, doc := range file.Documents {
		rendered, found := template.New(facts.Sample).Config(doc.Root)
		problems = append(problems, found...)
		problems = append(problems, schema.Check(rendered)...)
	}
	problems.Sort()
	return file.Documents, problems.Once()
}
