package cmd

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/lib/argv"
)

// completions returns completions for the command line. It opens no volume, since that
// would execute cryptsetup.
func (m Machine) completions() argv.Values {
	return argv.Values{
		"KIND": func(a argv.Asked) []argv.Candidate {
			kinds := []argv.Candidate{{Word: "tpm2", Usage: "bound to this machine's TPM"}, {Word: "passphrase", Usage: "a passphrase that a person types"}, {Word: "tang", Usage: "bound to the network"}}
			switch a.Command {
			case "rotate", "wipe-slot":
				return append(kinds, argv.Candidate{Word: "recovery-key", Usage: "a generated key to write down"})
			}
			return append(kinds, argv.Candidate{Word: "none", Usage: "nothing but the recovery key"})
		},
		"HASH":  argv.Words("sha1", "sha256", "sha384", "sha512"),
		"NAME":  m.completeName,
		"LABEL": argv.Words("COS_OEM", "COS_PERSISTENT"),
	}
}

// completeName returns the mappings of dm-crypt.
func (m Machine) completeName(a argv.Asked) (list []argv.Candidate) {
	if a.Command != "close" {
		return nil
	}
	mapped, _ := filepath.Glob(filepath.Join(m.Root, "sys/class/block/dm-*/dm"))
	for _, dm := range mapped {
		uuid, _ := os.ReadFile(filepath.Join(dm, "uuid"))
		name, err := os.ReadFile(filepath.Join(dm, "name"))
		if err == nil && strings.HasPrefix(string(uuid), "CRYPT-") {
			list = append(list, argv.Candidate{Word: strings.TrimSpace(string(name)), Usage: "open"})
		}
	}
	return list
}
