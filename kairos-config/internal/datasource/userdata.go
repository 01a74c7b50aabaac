package datasource

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/textproto"
	"strings"
	"unicode/utf8"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Kind is what user data is.
type Kind string

const (
	None   Kind = "none"   // there is none
	Config Kind = "config" // a cloud-config
	Script Kind = "script" // #!: a program
)

// UserData is what a user passed to the machine through its platform.
type UserData struct {
	Kind    Kind
	Text    []byte   // of the config, or of the first script: UTF-8, at most source.MaxSize
	Scripts [][]byte // all scripts, also those beside a config
}

// errBroken says that a text with the header of a config is none.
var errBroken = errors.New("user data: the config is not valid YAML")

// maxParts is how many parts a multipart text may have.
const maxParts = 50

// ReadUserData parses user data. It decompresses gzip. Of a multipart text and of a
// #cloud-config-archive it merges all configs, of which later ones take precedence, and
// keeps the scripts beside them.
func ReadUserData(data []byte) (UserData, error) {
	left := maxUnpacked
	u, err := readUserData(data, 0, &left)
	if err == nil && len(u.Text) > source.MaxSize {
		return UserData{}, errTooLarge
	}
	return u, err
}

var errTooLarge = errors.New("user data: larger than 1 MB")

// join merges the parts of user data.
type join struct {
	UserData
	merged *tree.Node
}

// add adds a part. It skips parts for other programs; a part with the header of a
// config that is none is an error.
func (j *join) add(part UserData, err error) error {
	switch {
	case errors.Is(err, errBroken), errors.Is(err, errBomb):
		return err
	case err != nil:
		return nil
	}
	j.Scripts = append(j.Scripts, part.Scripts...)
	switch {
	case part.Kind == Script && j.Kind != Config:
		j.Kind, j.Text = Script, j.Scripts[0]
	case part.Kind == Config && j.Kind != Config:
		j.Kind, j.Text = Config, part.Text
	case part.Kind == Config:
		return j.merge(part.Text)
	}
	return nil
}

// merge merges a config over the earlier ones.
func (j *join) merge(text []byte) error {
	if j.merged == nil {
		j.merged, _ = tree.Parse("user data", j.Text)
	}
	next, _ := tree.Parse("user data", text)
	var replaced diag.List
	j.merged = tree.Merge(j.merged, next, &replaced)
	data, err := j.merged.MarshalJSON() // which is YAML too
	if err != nil {
		return fmt.Errorf("user data: %w", err)
	}
	j.Text = append([]byte("#cloud-config\n"), data...)
	return nil
}

// maxUnpacked is the maximum size of everything that is decompressed from one text, in
// bytes: compressed parts may contain multipart texts with compressed parts.
const maxUnpacked = 10 << 20

var errBomb = errors.New("user data: it unpacks to more than 10 MiB")

func readUserData(data []byte, depth int, left *int) (UserData, error) {
	if *left -= len(data); *left < 0 {
		return UserData{}, errBomb
	}
	if bytes.HasPrefix(data, []byte("\x1f\x8b")) {
		plain, err := gunzip(data)
		if err != nil {
			return UserData{}, fmt.Errorf("user data: %w", err)
		}
		if *left -= len(plain); *left < 0 {
			return UserData{}, errBomb
		}
		data = plain
	}
	if len(data) > source.MaxSize {
		return UserData{}, errTooLarge
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(data) || bytes.ContainsRune(data, 0) {
		return UserData{}, errors.New("user data: not UTF-8 text, and not gzip")
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return UserData{Kind: None}, nil
	}
	if isMultipart(data) {
		if depth > 3 {
			return UserData{}, errors.New("user data: multipart texts within multipart texts")
		}
		return readMultipart(data, depth, left)
	}
	if source.IsArchive(data) {
		if depth > 3 {
			return UserData{}, errors.New("user data: archives within archives")
		}
		return readArchive(data, depth, left)
	}
	switch {
	case bytes.HasPrefix(data, []byte("#!ipxe")): // for the firmware, not for us
		return UserData{Kind: None}, nil
	case bytes.HasPrefix(data, []byte("#!")):
		return UserData{Script, data, [][]byte{data}}, nil
	case source.IsConfig(data):
		if root, problems := tree.Parse("user data", data); root == nil || problems.Failed() {
			return UserData{}, fmt.Errorf("%w: %v", errBroken, problems)
		}
		return UserData{Kind: Config, Text: data}, nil
	case bytes.HasPrefix(data, []byte("#include")), bytes.HasPrefix(data, []byte("#cloud-boothook")), bytes.HasPrefix(data, []byte("## template: jinja")):
		line, _, _ := bytes.Cut(data, []byte("\n"))
		return UserData{}, fmt.Errorf("user data: %q is not supported: use #cloud-config or a script", bytes.TrimSpace(line))
	}
	return UserData{}, errors.New("user data: not a config or a script: the first line must be #cloud-config or start with #!")
}

func readArchive(data []byte, depth int, left *int) (UserData, error) {
	items, err := source.Archive(data)
	if err != nil {
		return UserData{}, fmt.Errorf("%w: %w", errBroken, err)
	}
	all := join{UserData: UserData{Kind: None}}
	for _, item := range items {
		if err := all.add(readUserData(item, depth+1, left)); err != nil {
			return UserData{}, err
		}
	}
	return all.UserData, nil
}

func gunzip(data []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(z, source.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return plain, nil
}

// isMultipart reports whether a text begins with the header of a MIME message, as in
// cloud-init.
func isMultipart(data []byte) bool {
	head := strings.ToLower(string(data[:min(len(data), 1024)]))
	return strings.HasPrefix(head, "content-type: multipart/") || strings.HasPrefix(head, "mime-version:") && strings.Contains(head, "\ncontent-type: multipart/")
}

func readMultipart(data []byte, depth int, left *int) (UserData, error) {
	body := bufio.NewReader(bytes.NewReader(data))
	header, err := textproto.NewReader(body).ReadMIMEHeader()
	if err != nil {
		return UserData{}, fmt.Errorf("user data: read multipart text: %w", err)
	}
	_, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || params["boundary"] == "" {
		return UserData{}, errors.New("user data: a multipart text without a boundary")
	}
	all := join{UserData: UserData{Kind: None}}
	parts := multipart.NewReader(body, params["boundary"])
	for range maxParts {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return all.UserData, nil
		}
		if err != nil {
			return UserData{}, fmt.Errorf("user data: read multipart text: %w", err)
		}
		content, err := io.ReadAll(io.LimitReader(decoded(part), source.MaxSize+1))
		if err != nil {
			return UserData{}, fmt.Errorf("user data: read multipart text: %w", err)
		}
		if err := all.add(readUserData(source.WithHeader(content, part.Header.Get("Content-Type")), depth+1, left)); err != nil {
			return UserData{}, err
		}
	}
	return UserData{}, fmt.Errorf("user data: a multipart text of more than %d parts", maxParts)
}

func decoded(part *multipart.Part) io.Reader {
	switch strings.ToLower(part.Header.Get("Content-Transfer-Encoding")) {
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, part)
	case "quoted-printable":
		return quotedprintable.NewReader(part)
	}
	return part
}
