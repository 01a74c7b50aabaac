package manpages

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// avoided reads the table "Words that are not used" of ARCHITECTURE.md.
func avoided(t *testing.T) map[string]*regexp.Regexp {
	t.Helper()
	_, table, ok := strings.Cut(read(t, filepath.Join(top, "ARCHITECTURE.md")), "\n### Words that are not used\n")
	if !ok {
		t.Fatal("ARCHITECTURE.md has no table of words")
	}
	words := map[string]*regexp.Regexp{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || strings.HasPrefix(cells[1], "---") || strings.TrimSpace(cells[1]) == "not" {
			continue
		}
		for word := range strings.SplitSeq(cells[1], ",") {
			word = strings.TrimSpace(word)
			words[word+" (write: "+strings.TrimSpace(cells[2])+")"] = regexp.MustCompile(`(?i)\b` + regexp.QuoteMeta(word) + `\b`)
		}
	}
	if len(words) < 15 {
		t.Fatalf("only %d words", len(words))
	}
	return words
}

// TestWords: pages, units and messages use one word for one thing: none that the
// glossary of ARCHITECTURE.md has another word for.
func TestWords(t *testing.T) {
	words := avoided(t)
	look := func(where, text string) {
		for word, pattern := range words {
			if pattern.MatchString(text) {
				t.Errorf("%s: %s: %.160q", where, word, text)
			}
		}
	}
	for _, pattern := range []string{"man/*.[578]", "units/system/*.service", "units/system/*.timer", "units/polkit/*"} {
		files, err := filepath.Glob(filepath.Join(top, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files, %v", pattern, err)
		}
		for _, file := range files {
			for paragraph := range strings.SplitSeq(read(t, file), "\n.") {
				look(file, strings.Join(strings.Fields(paragraph), " "))
			}
		}
	}
	messages := 0
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "tests" || d.Name() == "testdata" || d.Name() == "build"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				if text, err := strconv.Unquote(literal.Value); err == nil {
					messages++
					look(files.Position(literal.Pos()).String(), text)
				}
			}
			return true
		})
		return nil
	})
	if err != nil || messages < 5000 {
		t.Fatalf("%d texts of programs, %v", messages, err)
	}
}

// TestPackagesOfLib: ARCHITECTURE.md names every package of lib.
func TestPackagesOfLib(t *testing.T) {
	text := read(t, filepath.Join(top, "ARCHITECTURE.md"))
	entries, err := os.ReadDir(filepath.Join(top, "lib"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() && !strings.Contains(text, "`"+entry.Name()+"`") {
			t.Errorf("ARCHITECTURE.md does not name lib/%s", entry.Name())
		}
	}
}

// TestExitStatuses: kairos(8) has all statuses of lib/exit, and each other page
// some of them, in their order.
func TestExitStatuses(t *testing.T) {
	section := regexp.MustCompile(`(?s)\n\.Sh EXIT STATUS\n(.*?)\n\.Sh `)
	item := regexp.MustCompile(`(?m)^\.It (\d+)$`)
	statuses := func(text string) (list []string) {
		for _, m := range item.FindAllStringSubmatch(text, -1) {
			list = append(list, m[1])
		}
		return list
	}
	var all []string
	source := read(t, filepath.Join(top, "lib/exit/exit.go"))
	for _, m := range regexp.MustCompile(`(?m)^\t[A-Z]\w+ += (\d+) +// `).FindAllStringSubmatch(source, -1) {
		all = append(all, m[1])
	}
	pages, err := filepath.Glob(filepath.Join(top, "man/*.8"))
	if err != nil || len(pages) == 0 || len(all) == 0 {
		t.Fatalf("pages %v, statuses %v, %v", pages, all, err)
	}
	for _, page := range pages {
		found := section.FindStringSubmatch(read(t, page))
		if found == nil {
			t.Errorf("%s has no exit statuses", page)
			continue
		}
		have, i := statuses(found[1]), 0
		for _, status := range all {
			if i < len(have) && have[i] == status {
				i++
			}
		}
		if i < len(have) || i < 3 || filepath.Base(page) == "kairos.8" && i < len(all) {
			t.Errorf("%s: exit statuses %v, those of lib/exit are %v", page, have, all)
		}
	}
}

// TestExamplesCanBePasted: no example has a prompt, which a shell would take for a
// comment or a variable.
func TestExamplesCanBePasted(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(top, "man/*.[578]"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages, %v", err)
	}
	prompt := regexp.MustCompile(`(?m)^(?:\.Dl )?[#$] (?:kairos|busctl|systemctl|systemd)\S* .*`)
	for _, page := range pages {
		if line := prompt.FindString(read(t, page)); line != "" {
			t.Errorf("%s: %s", page, line)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
