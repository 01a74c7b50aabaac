// Package journal writes structured entries to the journal by its native protocol:
// https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.
package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Message IDs, for journalctl MESSAGE_ID=…; they never change.
const (
	BootGood = "d25fcda108f744298e9f61d545764554" // this boot is good
	BootBad  = "7ea599a3286c43b8a226160c577a3055" // this boot is bad: KAIROS_REASON
	Fallback = "3ab59090ac2e474eb6e7024f6afe1a92" // a deployment used up its tries: KAIROS_REASON
	Repaired = "4fee0377d0074fa0beada22f5fadfee2" // a boot entry was repaired: KAIROS_ENTRY, KAIROS_DEPLOYMENT, KAIROS_ACTION

	StoreWhole   = "9526f887a4ec43e4a430b78c983170ec" // a verification found no damage
	StoreDamaged = "7edede443c73400692f69b31d8819b30" // a verification found damage: KAIROS_DAMAGED, KAIROS_DEPLOYMENTS
	ConfigStep   = "8d0d7c6bb623fef36991a7fdc923b60f" // result of a step of the config: KAIROS_STAGE, KAIROS_STEP, KAIROS_CONFIG
	Recovered    = "77c58ce04a3d4c2e8c81db203b8e9604" // the recovery system has repaired the installed one: KAIROS_DEPLOYMENT, KAIROS_REASON
	LoaderNew    = "29132436653f4e19a07dd364e808279a" // the boot loader on the ESP was upgraded: KAIROS_VERSION, KAIROS_FROM
	Update       = "d867b62e22ad47119a5ed977d7cb988d" // decision of automatic upgrades: KAIROS_ACTION, KAIROS_REASON

	// A transaction of kairos-upgrade: KAIROS_TRANSACTION, KAIROS_OPERATION,
	// KAIROS_REFERENCE.
	TransactionBegan = "a8648a19394847bb9c9f52405c3d95c8"
	TransactionEnded = "bab516fb52984a0c8ccee12167180864" // with KAIROS_STATUS, and KAIROS_ERROR after a failure
)

// Socket is the socket of the journal's native protocol.
const Socket = "/run/systemd/journal/socket"

// Entry is one entry of the journal.
type Entry struct {
	Program   string // SYSLOG_IDENTIFIER
	Message   string
	MessageID string
	Priority  int // syslog(3): 3 is an error, 4 a warning, 6 informational
	Fields    map[string]string
}

// Send writes an entry to the journal that listens at socket.
func Send(socket string, e Entry) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("write to the journal: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write(encode(e)); err != nil {
		return fmt.Errorf("write to the journal: %w", err)
	}
	return nil
}

func encode(e Entry) []byte {
	var b bytes.Buffer
	field(&b, "MESSAGE", e.Message)
	field(&b, "MESSAGE_ID", e.MessageID)
	field(&b, "PRIORITY", strconv.Itoa(e.Priority))
	field(&b, "SYSLOG_IDENTIFIER", e.Program)
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		field(&b, name, e.Fields[name])
	}
	return b.Bytes()
}

// field writes NAME=value, or the binary form where the value contains newlines.
func field(b *bytes.Buffer, name, value string) {
	if !strings.Contains(value, "\n") {
		fmt.Fprintf(b, "%s=%s\n", name, value)
		return
	}
	b.WriteString(name + "\n")
	_ = binary.Write(b, binary.LittleEndian, uint64(len(value)))
	b.WriteString(value + "\n")
}
