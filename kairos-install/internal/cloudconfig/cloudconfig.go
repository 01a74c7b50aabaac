// Package cloudconfig collects and validates the configs that an installed node gets on
// COS_OEM.
package cloudconfig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-install/internal/plan"
	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/kernelargs"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/run"
)

// maxSize is the maximum size of a config, in bytes: all readers of the format skip
// larger ones.
const maxSize = 1 << 20

// headers are the lines of which a config must have one among its first ten.
var headers = []string{"#cloud-config", "#kairos-config", "#node-config"}

// LiveDirectories are the directories in which a live system has configs that are not
// part of its image. Later ones take precedence.
var LiveDirectories = []string{"/run/initramfs/live", "/usr/local/cloud-config", "/oem"}

// Files reads the files given with --config: 90_custom.yaml, 91_custom.yaml and so on.
// It validates each with the Validator, if there is one.
func Files(ctx context.Context, v Validator, files []string) ([]plan.Config, error) {
	if len(files) > 10 {
		return nil, fmt.Errorf("%d configs, 10 at most", len(files))
	}
	var configs []plan.Config
	for i, file := range files {
		data, err := read(file)
		if err != nil {
			return nil, fmt.Errorf("read config %s: %w", file, err)
		}
		if !hasHeader(data) {
			return nil, fmt.Errorf("config %s: none of its first ten lines is %s", file, strings.Join(headers, ", "))
		}
		if err := v.Check(ctx, file); err != nil {
			return nil, err
		}
		configs = append(configs, plan.Config{Name: fmt.Sprintf("%d_custom.yaml", 90+i), From: file, Data: data})
	}
	return configs, nil
}

// Live reads the configs of a live system beneath root: the installed node gets the
// configs of the medium. They sort before those of --config: 80_… to 82_…, by
// directory. Files that no reader would use are skipped.
func Live(root string) ([]plan.Config, error) {
	var configs []plan.Config
	for i, dir := range LiveDirectories {
		where := path.Join(root, dir)
		names, err := list(os.DirFS(where))
		if err != nil {
			return nil, fmt.Errorf("list the live system's configs in %s: %w", dir, err)
		}
		for _, name := range names {
			file := path.Join(where, name)
			data, err := read(file)
			if errors.Is(err, errTooLarge) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("read config %s: %w", file, err)
			}
			configs = append(configs, plan.Config{
				Name: fmt.Sprintf("%d_%s", 80+i, strings.ReplaceAll(name, "/", "_")),
				From: path.Join(dir, name),
				Data: data,
			})
		}
	}
	return configs, nil
}

// Fetched returns the configs that this system has fetched since a time, as the cached
// copies that the first boot of the node uses before it has a network. A URL on the
// kernel command line becomes a config that names it.
func Fetched(root string, since time.Time, live bool) ([]plan.Config, error) {
	var configs []plan.Config
	if address := asked(path.Join(root, "/proc/cmdline")); live && address != "" {
		quoted, err := json.Marshal(address) // which YAML reads as it is
		if err != nil {
			return nil, err
		}
		configs = append(configs, plan.Config{Name: "83_config_url.yaml", From: "the kernel command line",
			Data: fmt.Appendf(nil, "#cloud-config\nconfig_url: %s\n", quoted)})
	}
	dir := path.Join(root, report.ConfigCopies)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list fetched configs: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") || info.ModTime().Before(since) {
			continue
		}
		data, err := read(path.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read the fetched config: %s: %w", e.Name(), err)
		}
		configs = append(configs, plan.Config{Name: path.Join(report.KeptConfigCopies, e.Name()), From: path.Join(report.ConfigCopies, e.Name()), Data: data})
	}
	return configs, nil
}

// asked returns the URL of a config on a kernel command line.
func asked(file string) (address string) {
	line, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for word := range kernelargs.Words(string(line)) {
		word = strings.TrimPrefix(strings.TrimPrefix(word, "kairos.config="), "kairos.")
		if value, ok := strings.CutPrefix(word, "config_url="); ok {
			address = strings.Trim(value, `"`)
		}
	}
	return address
}

// list returns the configs in a directory and beneath it, sorted by name.
func list(dir fs.FS) ([]string, error) {
	var names []string
	err := fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name == "." {
			return fs.SkipAll
		}
		if err != nil {
			return err
		}
		hidden := name != "." && strings.HasPrefix(path.Base(name), ".")
		if hidden && d.IsDir() {
			return fs.SkipDir
		}
		if ext := path.Ext(name); d.Type().IsRegular() && !hidden && (ext == ".yaml" || ext == ".yml") {
			names = append(names, name)
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}

var errTooLarge = errors.New("larger than 1 MB")

func read(file string) ([]byte, error) {
	data, err := bounded.File(file, maxSize)
	if errors.Is(err, bounded.ErrTooLarge) {
		return nil, errTooLarge
	}
	return data, unwrapPath(err)
}

func hasHeader(data []byte) bool {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	for range 10 {
		line, rest, more := bytes.Cut(data, []byte("\n"))
		if slices.Contains(headers, string(bytes.TrimRight(line, " \t\r"))) {
			return true
		}
		if !more {
			break
		}
		data = rest
	}
	return false
}

// Validator validates configs with kairos-config.
type Validator struct{ Runner run.Runner }

// Check returns an error for a file that kairos-config can't use. Without kairos-config
// it accepts every file.
func (v Validator) Check(ctx context.Context, file string) error {
	const program = "kairos-config"
	if !run.Has(program) {
		return nil
	}
	var said []string
	runner := v.Runner
	runner.Line = func(_, line string) { said = append(said, line) }
	_, err := runner.Output(ctx, program, "validate", file)
	failed := (*run.Error)(nil)
	if errors.As(err, &failed) && failed.Status == exit.Failed && len(said) > 0 && !strings.HasPrefix(said[0], "{") {
		// As validate prints it: a problem has several lines.
		return exit.Details(fmt.Errorf("config %s can't be used", file), said...)
	}
	if err != nil {
		return fmt.Errorf("config %s: %w", file, err)
	}
	return nil
}

func unwrapPath(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
