package recoverykey

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/run"
)

// The key is a made-up one: kairos-crypt's own commands are tested with it.
const letters = "cbdefghi-jklnrtuv"

var volumes = []Volume{{"COS_OEM", "11111111-2222-3333-4444-555555555555"}, {"COS_PERSISTENT", "u2"}}

func key() *Key { return &Key{[]byte(letters)} }

func TestKeyIsNotPrinted(t *testing.T) {
	k := key()
	encoded, err := json.Marshal(k) //lint:ignore SA9005 that nothing of it is exported is what is tested
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v %s", k, k, k), string(encoded)} {
		if strings.Contains(text, letters) {
			t.Errorf("it prints as %s", text)
		}
	}
	k.Wipe()
	if k.letters != nil {
		t.Error("not wiped")
	}
}

// The real curl posts to a real server; what it is called with is nobody's secret.
func TestGiveToServer(t *testing.T) {
	if !run.Has("curl") {
		t.Skip("no curl here")
	}
	var got []byte
	status := http.StatusNoContent
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.URL.RawQuery != `token=a"b\c` {
			t.Errorf("%s %s, %s", r.Method, r.URL, r.Header)
		}
		got, _ = io.ReadAll(r.Body)
		w.WriteHeader(status)
	}))
	defer server.Close()
	e := Escrow{URL: server.URL + `/keys?token=a"b\c`}
	if err := e.Check(); err != nil {
		t.Fatal(err)
	}
	host := `no"de\`
	if err := e.Give(t.Context(), run.Runner{}, key(), host, volumes); err != nil {
		t.Fatal(err)
	}
	var doc document
	if err := json.Unmarshal(got, &doc); err != nil || doc.Hostname != host || doc.RecoveryKey != letters ||
		fmt.Sprint(doc.Volumes) != fmt.Sprint(volumes) {
		t.Errorf("it got %s, error %v", got, err)
	}
	status = http.StatusForbidden
	err := e.Give(t.Context(), run.Runner{}, key(), host, volumes)
	if err == nil || strings.Contains(err.Error(), "token") || !strings.Contains(err.Error(), "403") {
		t.Errorf("refused: %v", err)
	}
}

// TestOnlyAcceptedIsKept: what is not the server's 2xx to the whole document does
// not count, and no other address gets the key.
func TestOnlyAcceptedIsKept(t *testing.T) {
	if !run.Has("curl") {
		t.Skip("no curl here")
	}
	for _, status := range []int{300, 301, 302, 303, 304, 305, 307, 308, 399, 400, 404, 413} {
		for _, required := range []bool{false, true} {
			stored := 0
			var server *httptest.Server
			server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/nodes" {
					stored++
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Location", server.URL+"/nodes/")
				w.WriteHeader(status)
			}))
			err := Escrow{URL: server.URL + "/nodes?token=t0", Required: required}.Give(t.Context(), run.Runner{}, key(), "node", volumes)
			if err == nil || !strings.Contains(err.Error(), fmt.Sprint(status)) || strings.Contains(err.Error(), "t0") {
				t.Errorf("%d: %v", status, err)
			}
			if stored > 0 {
				t.Errorf("%d: another address got the key", status)
			}
			server.Close()
		}
	}
	for _, c := range []struct {
		answer string
		ok     bool
	}{{"200 10", true}, {"201 10\n", true}, {"204 10", true}, {"200 9", false}, {"200 0", false}, {"000 0", false}, {"100 10", false}, {"", false}, {"200", false}} {
		if err := accepted(c.answer, 10); (err == nil) != c.ok {
			t.Errorf("%q: %v", c.answer, err)
		}
	}
}

func TestGiveToCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "escrow")
	e := Escrow{Command: []string{"sh", "-c", "cat > " + file + `; echo "$0 $*" >> ` + file}}
	if err := e.Give(t.Context(), run.Runner{}, key(), "node", volumes); err != nil {
		t.Fatal(err)
	}
	want := `{"hostname":"node","volumes":[{"label":"COS_OEM","uuid":"11111111-2222-3333-4444-555555555555"},{"label":"COS_PERSISTENT","uuid":"u2"}],"recovery_key":"` + letters + `"}sh ` + "\n"
	if got, _ := os.ReadFile(file); string(got) != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	e.Command = []string{"sh", "-c", "echo no room >&2; exit 1"}
	if err := e.Give(t.Context(), run.Runner{}, key(), "node", volumes); err == nil || err.Error() != "send the recovery key to the command sh: sh: no room" {
		t.Errorf("%v", err)
	}
}

func TestParseSettings(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{``, ``},
		{`null`, ``},
		{`{"escrow":{"url":"https://keys.example.org/x?token=1","required":true},"enroll":["tpm2","passphrase"]}`, ``},
		{`{"escrow":{"url":"http://localhost:1/"}}`, ``},
		{`{"escrow":{"url":"http://keys.example.org/"}}`, "not an https URL"},
		{`{"escrow":{"url":"https://keys.example.org/\nx"}}`, "not an https URL"},
		{`{"escrow":{"url":"file:///x"}}`, "not an https URL"},
		{`{"escrow":{"url":"https://a/","command":["b"]}}`, "both a command and a url"},
		{`{"escrow":{"command":[""]}}`, "no program"},
		{`{"escrow":{"required":true}}`, "neither a command nor a url"},
		{`{"escrow":{"command":"a b"}}`, "cannot unmarshal string"},
		{`{"enroll":["fido2"]}`, "fido2: not tpm2"},
		{`{"enroll":["none","tpm2"]}`, "none cannot be combined with another kind"},
	} {
		_, err := ParseSettings([]byte(test.in))
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.in, err, test.want)
		}
	}
	s, err := ParseSettings([]byte(`{"challenger":{"mdns":true},"nv_index":"0x1500000"}`))
	if err != nil || !s.Server || len(s.Ignored) != 1 || s.Ignored[0] != "kcrypt.nv_index" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestShow(t *testing.T) {
	bin := t.TempDir()
	script := "#!/bin/sh\n[ \"$*\" = 'recovery-key show' ] && echo QR && cat && echo\n"
	if err := os.WriteFile(filepath.Join(bin, Program), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	var shown bytes.Buffer
	if err := key().Show(t.Context(), run.Runner{}, &shown); err != nil || !strings.HasPrefix(shown.String(), "\nQR\n"+letters+"\nThis is the recovery key") {
		t.Errorf("%q, %v", shown.String(), err)
	}
}

// What is accepted can be said without a secret, and given to somebody.
func FuzzParseSettings(f *testing.F) {
	f.Add([]byte(`{"escrow":{"url":"https://keys.example.org/x?token=secret","required":true},"enroll":["tpm2"]}`))
	f.Add([]byte(`{"escrow":{"command":["keep","--token=secret"]},"challenger":{"mdns":true},"nv_index":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSettings(data)
		if err != nil {
			return
		}
		if s.Escrow.Required && !s.Escrow.Set() {
			t.Error("required of nobody")
		}
		config := string(curlConfig(s.Escrow.URL, []byte(`{}`)))
		if lines := strings.Count(config, "\n"); s.Escrow.URL != "" && lines != 13 {
			t.Errorf("the URL is %d lines of curl's config:\n%s", lines, config)
		}
		if _, query, found := strings.Cut(s.Escrow.URL, "?"); found && len(query) > 3 && strings.Contains(s.Escrow.String(), "?"+query) {
			t.Errorf("the query is said: %s", s.Escrow)
		}
	})
}

func FuzzParseFormatted(f *testing.F) {
	f.Add([]byte(`{"device":"/dev/vda2","uuid":"11111111-2222-3333-4444-555555555555","kinds":["recovery-key"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if v, err := ParseFormatted("COS_OEM", data); err == nil && (v.UUID == "" || v.Label != "COS_OEM") {
			t.Errorf("%+v", v)
		}
	})
}
