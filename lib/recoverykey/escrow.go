package recoverykey

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/kairos-io/toolkit/lib/run"
)

// Escrow is a command or a server that receives the recovery key for safekeeping. The
// zero Escrow is none.
type Escrow struct {
	// Command is the command, which reads the document on stdin.
	Command []string `json:"command"`
	// URL is the server, which gets the document by POST: https, or http on this
	// machine.
	URL string `json:"url"`
	// Required says that no volume may be used unless the escrow has accepted its key.
	Required bool `json:"required"`
}

// Set reports whether there is an escrow.
func (e Escrow) Set() bool { return len(e.Command) > 0 || e.URL != "" }

// String describes the escrow without possible secrets: the arguments of the command,
// and the query of the URL.
func (e Escrow) String() string {
	if len(e.Command) > 0 {
		return "the command " + e.Command[0]
	}
	u, err := url.Parse(e.URL)
	if err != nil {
		return "a server"
	}
	return u.Scheme + "://" + u.Host + u.Path
}

// Check returns an error for an escrow that cannot work or would disclose the key.
func (e Escrow) Check() error {
	switch {
	case len(e.Command) > 0 && e.URL != "":
		return errors.New("kcrypt.escrow: both a command and a url")
	case e.Required && !e.Set():
		return errors.New("kcrypt.escrow: required, but neither a command nor a url")
	case len(e.Command) > 0 && e.Command[0] == "":
		return errors.New("kcrypt.escrow.command: no program")
	case e.URL == "":
		return nil
	}
	u, err := url.Parse(e.URL)
	local := err == nil && (u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1" || u.Hostname() == "::1")
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !local) || strings.ContainsFunc(e.URL, unicodeControl) {
		// The URL itself may hold a token.
		return errors.New("kcrypt.escrow.url: not an https URL")
	}
	return nil
}

func unicodeControl(r rune) bool { return r < ' ' || r == 0x7f }

// Missing returns the program that the escrow needs and that is not installed, or "".
func (e Escrow) Missing() string {
	switch {
	case len(e.Command) > 0 && !run.Has(e.Command[0]):
		return e.Command[0]
	case e.URL != "" && !run.Has("curl"):
		return "curl"
	}
	return ""
}

// document is what the escrow receives.
type document struct {
	Hostname    string   `json:"hostname"`
	Volumes     []Volume `json:"volumes"`
	RecoveryKey string   `json:"recovery_key"`
}

// Give sends a key to the escrow and returns once it was accepted: the command exited
// with status 0, or the server answered 2xx after it had received the whole document.
// Give does not follow redirects: only the configured server may get the key.
func (e Escrow) Give(ctx context.Context, runner run.Runner, key *Key, hostname string, volumes []Volume) error {
	body, err := json.Marshal(document{hostname, volumes, string(key.letters)})
	if err != nil {
		return fmt.Errorf("send the recovery key to %s: %w", e, err)
	}
	defer clear(body)
	argv := e.Command
	runner.Stdin = body
	if e.URL != "" {
		// Neither the key nor a token in the URL is to be seen in the list of
		// processes: all of it is on stdin, as a config file. See curl(1).
		argv = []string{"curl", "--disable", "--config", "-"}
		runner.Stdin = curlConfig(e.URL, body)
		defer clear(runner.Stdin)
	}
	answer, err := runner.Output(ctx, argv...)
	if err == nil && e.URL != "" {
		err = accepted(string(answer), len(body))
	}
	if err != nil {
		var failed *run.Error
		if e.URL != "" && errors.As(err, &failed) {
			// Its message may hold the URL.
			err = &run.Error{Program: failed.Program, Status: failed.Status, Cause: strings.ReplaceAll(failed.Cause, e.URL, e.String())}
		}
		return fmt.Errorf("send the recovery key to %s: %w", e, err)
	}
	return nil
}

// accepted reports, from the output of curl, whether a server has accepted the
// document.
func accepted(answer string, size int) error {
	var status, sent int
	if n, err := fmt.Sscanf(answer, "%d %d", &status, &sent); n < 2 {
		return fmt.Errorf("curl printed no result: %w", err)
	}
	switch {
	case status >= 300 && status < 400:
		return fmt.Errorf("the server answered %d, a redirect, and did not take the key", status)
	case status < 200 || status > 299:
		return fmt.Errorf("the server answered %d and did not take the key", status)
	case sent != size:
		return fmt.Errorf("the server answered %d before it had the key", status)
	}
	return nil
}

// curlConfig returns a config file of curl(1) that posts a body. Quotes and backslashes
// are escaped in it; a JSON body has no control characters.
func curlConfig(url string, body []byte) []byte {
	var config bytes.Buffer
	config.Grow(2*len(body) + 2*len(url) + 512) // so that no copy is left behind as it grows
	config.WriteString("silent\nshow-error\nfail\nproto = \"=http,https\"\noutput = \"/dev/null\"\n" +
		"connect-timeout = 20\nmax-time = 60\nretry = 3\nretry-max-time = 120\n" +
		"write-out = \"%{http_code} %{size_upload}\\n\"\n" +
		"header = \"Content-Type: application/json\"\n")
	for _, option := range []struct {
		name  string
		value []byte
	}{{"url", []byte(url)}, {"data-raw", body}} {
		config.WriteString(option.name + " = \"")
		for _, c := range option.value {
			if c == '"' || c == '\\' {
				config.WriteByte('\\')
			}
			config.WriteByte(c)
		}
		config.WriteString("\"\n")
	}
	return config.Bytes()
}
