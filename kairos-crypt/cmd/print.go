package cmd

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/forecast"
)

// words are verdicts on what opens.
var words = map[forecast.Verdict]string{forecast.Yes: "opens", forecast.No: "stays closed", forecast.Unknown: "not known"}

func printStatus(w io.Writer, s status) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, v := range s.Volumes {
		if i > 0 {
			fmt.Fprintln(table)
		}
		fmt.Fprintf(table, "%s\t%s\n", v.Device, v.Label)
		fmt.Fprintf(table, "  UUID:\t%s\n", v.UUID)
		if v.Damaged != "" {
			fmt.Fprintf(table, "  damaged:\t%s\n", v.Damaged)
		}
		if v.Conversion {
			fmt.Fprintf(table, "  conversion:\tit is being encrypted in place\n")
		}
		after := "  after the reboot:\t%s\n"
		if s.Staged != "" {
			after = "  after the reboot into " + s.Staged + ":\t%s\n"
		}
		fmt.Fprintf(table, "  without help now:\t%s\n", words[v.Now])
		fmt.Fprintf(table, after, words[v.AfterReboot])
		if !v.RecoveryKey {
			fmt.Fprintf(table, "  recovery key:\tnone\n")
		}
		for _, slot := range v.Slots {
			printSlot(table, slot)
		}
	}
	if len(s.Volumes) == 0 {
		fmt.Fprintln(table, "no encrypted volumes")
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

func printSlot(w io.Writer, slot slotStatus) {
	text := string(slot.Kind)
	switch {
	case slot.Policy != nil:
		text += ", " + slot.Policy.Text
	case slot.URL != "":
		text += ", " + slot.URL
	}
	fmt.Fprintf(w, "  slot %d:\t%s\n", slot.Slot, text)
	if slot.WhyNot != "" {
		fmt.Fprintf(w, "  \tnow: %s: %s\n", words[slot.Now], slot.WhyNot)
	}
	if slot.WhyNotAfter != "" && (slot.WhyNotAfter != slot.WhyNot || slot.AfterReboot != slot.Now) {
		fmt.Fprintf(w, "  \tafter the reboot: %s: %s\n", words[slot.AfterReboot], slot.WhyNotAfter)
	}
}
