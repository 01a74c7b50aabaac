// Package credential expands systemd's credentials in values of a config:
// ${credential:NAME}. The service manager decrypts them into a directory that only the
// unit can read: systemd.exec(5).
package credential

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Mark replaces a secret.
const Mark = "(secret)"

// maxSize is the maximum size of a credential in bytes: systemd's own limit.
const maxSize = 1 << 20

var reference = regexp.MustCompile(`\$\{credential:([^}]*)\}`)

// nameForm matches valid names of credentials.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,200}$`)

// ErrMissing is returned for a credential that the unit doesn't have.
var ErrMissing = errors.New("there is no such credential")

// Store is a directory of credentials; the zero value has none.
type Store struct{ dir string }

// Open returns the credentials of this unit.
func Open() Store { return Store{os.Getenv("CREDENTIALS_DIRECTORY")} }

// In returns the credentials in a directory.
func In(dir string) Store { return Store{dir} }

// get returns kairos.NAME, which the units of the stages import by that name, or NAME,
// which a drop-in may have added.
func (s Store) get(name string) (string, error) {
	if !nameForm.MatchString(name) {
		return "", fmt.Errorf("credential %q: not a name", name)
	}
	if s.dir == "" {
		return "", fmt.Errorf("credential %s: %w", name, ErrMissing)
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return "", fmt.Errorf("credential %s: %w", name, err)
	}
	defer root.Close()
	for _, file := range []string{"kairos." + name, name} {
		info, err := root.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && info.Size() > maxSize {
			err = errors.New("larger than 1 MiB")
		}
		var data []byte
		if err == nil {
			data, err = root.ReadFile(file)
		}
		if err != nil {
			return "", fmt.Errorf("credential %s: %w", name, err)
		}
		return strings.TrimSuffix(string(data), "\n"), nil
	}
	return "", fmt.Errorf("credential %s: %w", name, ErrMissing)
}

// Expand returns a copy of a value with credentials expanded, the secrets in it, and
// the names of missing credentials. It expands no keys, and doesn't change n.
func (s Store) Expand(n *tree.Node) (*tree.Node, Secrets, diag.List) {
	var secrets Secrets
	var missing diag.List
	expanded := s.expand(n, &secrets, &missing)
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	return expanded, slices.Compact(secrets), missing
}

func (s Store) expand(n *tree.Node, secrets *Secrets, missing *diag.List) *tree.Node {
	if n == nil || n.Scalar() && !strings.Contains(n.Text, "${credential:") {
		return n
	}
	made := *n
	switch n.Kind {
	case tree.Map:
		made.Fields = slices.Clone(n.Fields)
		for i := range made.Fields {
			made.Fields[i].Value = s.expand(made.Fields[i].Value, secrets, missing)
		}
	case tree.List:
		made.Items = slices.Clone(n.Items)
		for i := range made.Items {
			made.Items[i] = s.expand(made.Items[i], secrets, missing)
		}
	default:
		made.Kind = tree.String
		made.Text = reference.ReplaceAllStringFunc(n.Text, func(found string) string {
			value, err := s.get(reference.FindStringSubmatch(found)[1])
			if err != nil {
				missing.Add(diag.Errorf(n.Pos, "%v", err).WithHint("the unit of the stage has the credentials: see kairos-config(8)"))
				made.Spoiled = true
			} else if value != "" {
				*secrets = append(*secrets, value)
			}
			return value
		})
	}
	return &made
}

// Secrets are values that must not be shown.
type Secrets []string

// Hide masks the secrets in a text, and each of their lines, since programs print line
// by line.
func (s Secrets) Hide(text string) string {
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, Mark)
		for line := range strings.Lines(secret) {
			if line = strings.TrimSpace(line); len(line) >= 4 && line != secret {
				text = strings.ReplaceAll(text, line, Mark)
			}
		}
	}
	return text
}

// In reports whether a text contains one of the secrets.
func (s Secrets) In(text string) bool {
	return slices.ContainsFunc(s, func(secret string) bool { return strings.Contains(text, secret) })
}
