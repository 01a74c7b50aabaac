package source

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
)

// A file that isn't there, credentials that are wrong, and none at all are three
// messages.
func TestCredentialMessages(t *testing.T) {
	registry, ref, o := faulty(t, testImage(t, "gzip"))
	registry.SetFault(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if _, password, _ := r.BasicAuth(); password == "right" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		return true
	})
	auths := func(host, password string) string {
		file := filepath.Join(t.TempDir(), "auth.json")
		imagetest.Write(t, file, fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("user:"+password))))
		return file
	}
	for _, test := range []struct {
		name, file, want string
		err              error
	}{
		{"no file", filepath.Join(t.TempDir(), "none.json"), "read credentials: stat ", ErrUsage},
		{"wrong", auths(registry.Host, "wrong"), "the registry refuses the credentials for " + registry.Host + " from ", ErrWrongCredentials},
		{"of another registry", auths("example.com", "right"), "no credentials for " + registry.Host + " in ", ErrNoCredentials},
		{"right", auths(registry.Host, "right"), "", nil},
	} {
		o.AuthFile = test.file
		img, err := Open(t.Context(), ref, o)
		if img != nil {
			img.Close()
		}
		if !errors.Is(err, test.err) || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
