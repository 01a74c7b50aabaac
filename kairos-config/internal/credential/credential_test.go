package credential

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

func store(t testing.TB, files map[string]string) Store {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return In(dir)
}

func TestExpand(t *testing.T) {
	s := store(t, map[string]string{"kairos.token": "hunter2\n", "token": "no", "plain": "x y"})
	n, _ := tree.Parse("f", []byte("a: 'x${credential:token}y'\nb: [1, '${credential:plain}', {c: '${credential:token}'}]\nd: '$credential:token'\n"))
	got, secrets, missing := s.Expand(n)
	if len(missing) > 0 {
		t.Fatal(missing)
	}
	if text, _ := got.MarshalJSON(); string(text) != `{"a":"xhunter2y","b":[1,"x y",{"c":"hunter2"}],"d":"$credential:token"}` {
		t.Errorf("got %s", text)
	}
	if text, _ := n.MarshalJSON(); string(text) != `{"a":"x${credential:token}y","b":[1,"${credential:plain}",{"c":"${credential:token}"}],"d":"$credential:token"}` {
		t.Errorf("the config itself was changed: %s", text)
	}
	if hidden := secrets.Hide("say hunter2 and x y"); hidden != "say (secret) and (secret)" || !secrets.In("a hunter2") || secrets.In("hunter") {
		t.Errorf("hidden %q of %q", hidden, secrets)
	}
}

func TestLinesOfASecretAreHidden(t *testing.T) {
	s := Secrets{"-----BEGIN KEY-----\nabcdef\n-----END KEY-----"}
	if got := s.Hide("error near abcdef"); got != "error near (secret)" {
		t.Errorf("got %q", got)
	}
}

func TestMissing(t *testing.T) {
	n, _ := tree.Parse("f", []byte("a: '${credential:none}'\n"))
	for _, s := range []Store{{}, store(t, nil), In("/nowhere")} {
		if _, _, missing := s.Expand(n); len(missing) != 1 {
			t.Errorf("missing %v", missing)
		}
	}
	if _, _, missing := (Store{}).Expand(n); !strings.HasPrefix(missing[0].Error(), "f:1:4: error: credential none: there is no such credential (") {
		t.Errorf("got %v", missing)
	}
	for _, name := range []string{"", "../x", "a/b", ".hidden"} {
		if _, err := store(t, nil).get(name); err == nil || errors.Is(err, ErrMissing) {
			t.Errorf("%q: got %v", name, err)
		}
	}
}
