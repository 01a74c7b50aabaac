package cmd

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/terminal"
)

// words are the verdicts for people.
var words = map[report.Verdict]string{report.Yes: "opens", report.No: "stays closed", report.Unknown: "not known"}

func printStatus(w io.Writer, s report.Crypt) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, v := range s.Volumes {
		if i > 0 {
			fmt.Fprintln(table)
		}
		terminal.Fprintf(table, "%s\t%s\n", v.Device, v.Label)
		terminal.Fprintf(table, "  UUID:\t%s\n", v.UUID)
		if v.Damaged != "" {
			terminal.Fprintf(table, "  damaged:\t%s\n", v.Damaged)
		}
		if v.Conversion {
			terminal.Fprintf(table, "  conversion:\tit is being encrypted in place; kairos-crypt encrypt %s goes on\n", v.Device)
		}
		after := "  after the reboot:\t%s\n"
		if s.Staged != "" {
			after = "  after the reboot into " + s.Staged + ":\t%s\n"
		}
		terminal.Fprintf(table, "  without help now:\t%s\n", words[v.Now])
		terminal.Fprintf(table, after, words[v.AfterReboot])
		if v.LastUnlock != nil {
			terminal.Fprintf(table, "  last unlock:\t%s\n", ended(v.LastUnlock))
		}
		if !v.RecoveryKey {
			terminal.Fprintf(table, "  recovery key:\tnone\n")
		}
		for _, slot := range v.Slots {
			printSlot(table, slot)
		}
	}
	for _, f := range s.Foreign {
		fmt.Fprintf(table, "%s: %s\n", f.Label, foreignText(f))
	}
	if len(s.Volumes) == 0 {
		fmt.Fprintln(table, "no encrypted volumes")
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// foreignText describes a foreign volume for people.
func foreignText(f report.Foreign) string {
	where := f.Device
	switch {
	case f.Device == "":
		return "there is no such partition, which has to hold volume " + f.Expected
	case f.Found == "":
		where += " holds no encrypted volume"
	default:
		where += " holds volume " + f.Found
	}
	return "NOT WHAT BELONGS TO THIS NODE: " + where + " instead of " + f.Expected
}

func printSlot(w io.Writer, slot report.Slot) {
	text := string(slot.Kind)
	switch {
	case slot.Policy != nil:
		text += ", " + slot.Policy.Text
	case slot.URL != "":
		text += ", " + slot.URL
	}
	terminal.Fprintf(w, "  slot %d:\t%s\n", slot.Slot, text)
	if slot.WhyNot != "" {
		terminal.Fprintf(w, "  \tnow: %s: %s\n", words[slot.Now], slot.WhyNot)
	}
	if slot.WhyNotAfter != "" && (slot.WhyNotAfter != slot.WhyNot || slot.AfterReboot != slot.Now) {
		terminal.Fprintf(w, "  \tafter the reboot: %s: %s\n", words[slot.AfterReboot], slot.WhyNotAfter)
	}
}

// ended describes the result of an unlock for people.
func ended(u *report.Unlock) string {
	when := terminal.Time(u.Time)
	if u.Error != "" {
		return when + ", failed: " + u.Error
	}
	return fmt.Sprintf("%s, by slot %d (%s), as %s", when, u.Slot, u.Kind, u.Name)
}
