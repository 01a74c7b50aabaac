package source

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// archiveHeader opens cloud-init's list of user data:
// https://docs.cloud-init.io/en/latest/explanation/format.html.
const archiveHeader = "#cloud-config-archive"

// IsArchive reports whether a text is an archive of configs and scripts.
func IsArchive(data []byte) bool {
	line, _, _ := bytes.Cut(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), []byte("\n"))
	return string(bytes.TrimRight(line, " \t\r")) == archiveHeader
}

// Archive returns the contents of an archive's items: a text, or a map with content and
// type.
func Archive(data []byte) ([][]byte, error) {
	_, list, _ := bytes.Cut(data, []byte("\n"))
	list = bytes.TrimPrefix(bytes.TrimLeft(list, "\r\n"), []byte("---\n"))
	// The tree of a config is a map.
	root, problems := tree.Parse("archive", append([]byte("archive:\n"), list...))
	if problems.Failed() {
		p := problems[0]
		return nil, fmt.Errorf("line %d: %s", p.Pos.Line, p.Message)
	}
	archive := root.Field("archive")
	if archive == nil || archive.Kind != tree.List {
		return nil, errors.New("what follows " + archiveHeader + " is no list")
	}
	var items [][]byte
	for _, item := range archive.Items {
		content, kind := item, ""
		if item.Kind == tree.Map {
			content = item.Field("content")
			if t := item.Field("type"); t != nil {
				kind = t.Text
			}
		}
		if content == nil || !content.Scalar() {
			return nil, fmt.Errorf("line %d: an item is a text, or a map with content and type", item.Pos.Line)
		}
		items = append(items, WithHeader([]byte(content.Text), kind))
	}
	return items, nil
}

// WithHeader adds a header to a text whose type says that it is a config.
func WithHeader(data []byte, kind string) []byte {
	kind, _, _ = strings.Cut(kind, ";")
	if strings.TrimSpace(kind) == "text/cloud-config" && !hasHeader(data) && !IsArchive(data) && len(bytes.TrimSpace(data)) > 0 &&
		!bytes.HasPrefix(data, []byte("\x1f\x8b")) {
		return append([]byte(Headers[0]+"\n"), data...)
	}
	return data
}

// addArchive adds the configs of an archive, in its order.
func (c *Collection) addArchive(source string, data []byte) {
	pos := diag.Pos{Source: source, Line: 1}
	items, err := Archive(data)
	if err != nil {
		c.Skipped++
		c.Problems.Errorf(pos, "not a %s: %v", archiveHeader, err)
		return
	}
	for i, item := range items {
		switch {
		case bytes.HasPrefix(item, []byte("#!")):
			c.Problems.Add(diag.Mistakef(pos, "item %d is a script, which only user data may be", i+1).WithHint("write runcmd, or commands in a step"))
		case IsArchive(item):
			c.Problems.Errorf(pos, "item %d is an archive itself", i+1)
		default:
			c.Add(fmt.Sprintf("%s#%d", source, i+1), item)
		}
	}
}
