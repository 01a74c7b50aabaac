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

// UserData is what a person gave the machine on its way.
type UserData struct {
	Kind Kind
	Text []byte // UTF-8, at most source.MaxSize
}

// errBroken is returned for a config that is none.
var errBroken = errors.New("user data: it says that it is a config, and is not valid YAML")

// maxParts bounds the parts of a multipart text.
const maxParts = 50

// ReadUserData tells what user data is. gzip is undone, and of a multipart
// text the first part that is a config is taken, or else the first that is a
// script.
func ReadUserData(data []byte) (UserData, error) {
	left := maxUnpacked
	return readUserData(data, 0, &left)
}

// maxUnpacked bounds all that is unpacked of one text, in bytes: parts that are
// compressed may hold multipart texts with such parts.
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
		return UserData{}, errors.New("user data: larger than 1 MB")
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(data) || bytes.ContainsRune(data, 0) {
		return UserData{}, errors.New("user data: neither text in UTF-8 nor gzip")
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
	switch {
	case bytes.HasPrefix(data, []byte("#!ipxe")): // for the firmware, not for us
		return UserData{Kind: None}, nil
	case bytes.HasPrefix(data, []byte("#!")):
		return UserData{Script, data}, nil
	case source.IsConfig(data):
		if root, problems := tree.Parse("user data", data); root == nil || problems.Failed() {
			return UserData{}, fmt.Errorf("%w: %v", errBroken, problems)
		}
		return UserData{Config, data}, nil
	case bytes.HasPrefix(data, []byte("#include")), bytes.HasPrefix(data, []byte("#cloud-boothook")), bytes.HasPrefix(data, []byte("## template: jinja")):
		line, _, _ := bytes.Cut(data, []byte("\n"))
		return UserData{}, fmt.Errorf("user data: %q is not supported: use #cloud-config or a script", bytes.TrimSpace(line))
	}
	return UserData{}, errors.New("user data: neither a config nor a script: the first line must be #cloud-config or start with #!")
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

// isMultipart looks for the header of a MIME message, as cloud-init does.
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
	script := UserData{Kind: None}
	parts := multipart.NewReader(body, params["boundary"])
	for range maxParts {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return script, nil
		}
		if err != nil {
			return UserData{}, fmt.Errorf("user data: read multipart text: %w", err)
		}
		content, err := io.ReadAll(io.LimitReader(decoded(part), source.MaxSize+1))
		if err != nil {
			return UserData{}, fmt.Errorf("user data: read multipart text: %w", err)
		}
		found, err := readUserData(content, depth+1, left)
		switch {
		case errors.Is(err, errBroken), errors.Is(err, errBomb):
			return UserData{}, err
		case err != nil: // a part for other programs
		case found.Kind == Config:
			return found, nil
		case found.Kind == Script && script.Kind == None:
			script = found
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
