package cmd

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/crypttest"
	"github.com/kairos-io/toolkit/lib/cmdline/cmdlinetest"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/harden"
	"github.com/rogpeppe/go-internal/testscript"
)

// The command tests run the program as a process on volumes in files, with the
// real cryptsetup, swtpm, clevis and tang. Nothing is mapped: that needs
// dm-crypt, and is for the virtual machine. A person is played by the lines of
// the file answers.
func TestMain(m *testing.M) {
	crypttest.Enter()
	testscript.Main(m, map[string]func(){
		"kairos-crypt": func() {
			if err := harden.Process(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			cmdlinetest.Main(App(fakeMachine()))
		},
		"systemd-ask-password": person,
		"kairos-upgrade":       upgrade,
		"tpm":                  changeTPM,
	})
}

func TestScripts(t *testing.T) {
	crypttest.Programs(t, "cryptsetup", "clevis")
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("scripts %v, error %v", scripts, err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar"), func(t *testing.T) {
			t.Parallel()
			variables := []string{"TPM=" + crypttest.SWTPM(t), "LONG=" + strings.Repeat("x", 48)}
			if strings.HasPrefix(filepath.Base(script), "tang") {
				url, thumbprint := crypttest.Tang(t)
				variables = append(variables, "URL="+url, "THP="+thumbprint)
			}
			testscript.Run(t, testscript.Params{
				Files: []string{script}, RequireExplicitExec: true, RequireUniqueNames: true,
				Setup: func(env *testscript.Env) error {
					env.Vars = append(env.Vars, variables...)
					return nil
				},
			})
		})
	}
}

// The schema of kairos-json(5) defines what each command prints.
func TestSchema(t *testing.T) { cmdlinetest.Definitions(t, App(fakeMachine())) }

func fakeMachine() Machine {
	return Machine{
		Root: "root", Locks: "locks", Unlocks: "unlocks", Cmdline: "root/proc/cmdline",
		Disks:   disk.System{Sys: "root/sys", Dev: "root/dev"},
		Connect: connect,
	}
}

func connect() (transport.TPMCloser, error) {
	socket := os.Getenv("TPM")
	if socket == "" {
		return nil, fs.ErrNotExist
	}
	return linuxudstpm.Open(socket)
}

// person answers a question with the first line of the file answers, and is not
// there when it is empty.
func person() {
	fmt.Fprintln(os.Stderr, os.Args[len(os.Args)-1])
	text, _ := os.ReadFile("answers")
	line, rest, found := strings.Cut(string(text), "\n")
	if !found {
		os.Exit(1)
	}
	if err := os.WriteFile("answers", []byte(rest), 0o600); err != nil {
		os.Exit(1)
	}
	fmt.Println(line)
}

// changeTPM does to the TPM what a person, or another boot, would: tpm extend
// PCR, tpm clear.
func changeTPM() {
	if err := change(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func change(args []string) error {
	tpm, err := connect()
	if err != nil {
		return err
	}
	defer tpm.Close()
	if args[0] == "clear" {
		_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(tpm)
		return err
	}
	pcr, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	_, err = tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: bytes.Repeat([]byte{1}, 32)}}},
	}.Execute(tpm)
	return err
}

// upgrade is kairos-upgrade status --json, of a machine on which nothing is
// staged where the script has no file upgrade.json.
func upgrade() {
	text, err := os.ReadFile("upgrade.json")
	if err != nil {
		text = []byte(`{"booted":"1-aa","staged":"","deployments":[]}`)
	}
	fmt.Println(string(text))
}
