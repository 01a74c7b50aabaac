package cmd

import (
	"testing"
	"time"
)

// BenchmarkGoodBoot measures the processor time, of user and kernel, that the
// assessment adds to a good boot with two checks: what the units of a boot run,
// each as a process of its own. The aim is 100 ms. What it leaves out: the
// answers of systemd, which plays no part here, and the mounting of the ESP.
func BenchmarkGoodBoot(b *testing.B) {
	node := newBusNode(b)
	for _, name := range []string{"10-disk", "20-network"} {
		node.script("usr/lib/kairos/checks/required.d/"+name, "#!/bin/sh\nexit 0\n")
	}
	units := [][]string{{"record"}, {"check"}, {"status", "--counted"}, {"repair"}, {"serve", "--idle", "1ms", "--quiet"}}
	cost := make([]time.Duration, len(units))
	for b.Loop() {
		node.run("boot", "1", newer, "+2-1", "active")
		node.write("efi/loader/entries/kairos-"+newer+"+2-1.conf", "sort-key kairos\nversion 3\nlinux /kairos/linux\n")
		for i, args := range units {
			cmd := node.program("kairos-boot-assess", args...)
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%q: %v\n%s", args, err, out)
			}
			cost[i] += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		}
	}
	var all time.Duration
	for i, args := range units {
		all += cost[i]
		b.ReportMetric(float64(cost[i].Microseconds())/1000/float64(b.N), args[0]+"-cpu-ms")
	}
	b.ReportMetric(float64(all.Microseconds())/1000/float64(b.N), "cpu-ms/boot")
}
