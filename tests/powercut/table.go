package powercut

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/kairos-io/toolkit/tests/powercut/judge"
)

// Table shows what came of the cuts, operation by operation; again says after how many the operation was
// done once more on this host, booted how many were really booted.
func Table(w io.Writer, results []*Result, booted map[string]int) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "writes\tflushes\tcuts\tagain\tbooted\told\tbetween\tnew\tbad\t operation\t")
	total := &Result{Operation: "all"}
	boots := 0
	for _, r := range results {
		row(table, r, booted[r.Operation])
		total.Writes, total.Flushes = total.Writes+r.Writes, total.Flushes+r.Flushes
		total.Cuts = append(total.Cuts, r.Cuts...)
		boots += booted[r.Operation]
	}
	row(table, total, boots)
	table.Flush()
}

// row keeps the operation's name out of the table's alignment, which is to the right.
func row(table io.Writer, r *Result, booted int) {
	fmt.Fprintf(table, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t", r.Writes, r.Flushes, len(r.Cuts), r.Again(), booted,
		r.Count(judge.Old), r.Count(judge.Between), r.Count(judge.New), r.Count(judge.Bad))
	fmt.Fprintf(table, " %s\n", r.Operation)
}
