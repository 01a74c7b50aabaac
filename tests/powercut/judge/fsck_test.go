package judge

import (
	"strings"
	"testing"
)

func TestHarmful(t *testing.T) {
	const frame = "fsck.fat 4.2 (2021-01-31)\nThere are differences between boot sector and its backup.\nThis is mostly harmless. Differences: (offset:original/backup)\n  65:01/00\n  Not automatically fixing this.\n" +
		"Dirty bit is set. Fs was not properly unmounted and some data may be corrupt.\n Automatically removing dirty bit.\n%Free cluster summary wrong (1000 vs. really 1001)\n  Auto-correcting.\n\nLeaving filesystem unchanged.\n/tmp/x/0-COS_GRUB.raw: 12 files, 300/261627 clusters\n"
	for name, test := range map[string]struct{ said, want string }{
		"what every cut leaves": {"FATs differ but appear to be intact.\n  Using first FAT.\nReclaimed 26 unused clusters (106496 bytes).\n", ""},
		"a torn name":           {"Orphaned long file name part \"0f12881a44e9183fe64\"\n  Auto-deleting.\n", ""},
		"a torn removal":        {"Long filename fragment \"257c480713fff\" found outside a LFN sequence.\n  (Maybe the start bit is missing on the last fragment)\n  Not auto-correcting this.\n", ""},
		"an unfinished file":    {"/kairos/.#initrd-00\n  File size is 4096 bytes, cluster chain length is 0 bytes.\n  Truncating file to 0 bytes.\n", ""},
		"a finished file":       {"/kairos/initrd-00\n  File size is 4096 bytes, cluster chain length is 0 bytes.\n", "/kairos/initrd-00 "},
		"systemd's own":         {"/loader/random-seed\n  Contains a free cluster (8102). Assuming EOF.\n  File size is 32 bytes, cluster chain length is 0 bytes.\n  Truncating file to 0 bytes.\n", ""},
		"the seed twice":        {"/loader/random-seed\n  Duplicate directory entry.\n", "Duplicate"},
		"what comes after one":  {"/kairos/.#initrd-00\n  Contains a free cluster (7). Assuming EOF.\nSomething else.\n  And its detail.\n", "Something else."},
		"a name of two files":   {"/loader/entries\n  Duplicate directory entry.\n  First  Size 429 bytes\n", "Duplicate directory entry"},
		"shared clusters":       {"/loader/entries/.#a.conf  and\n/loader/entries/a.conf\n  share clusters.\n  Truncating second to 0 bytes.\n", "share clusters"},
		"another boot sector":   {"  82:46/00\n", "82:46/00"},
	} {
		got := strings.Join(harmful(strings.Replace(frame, "%", test.said, 1)), "\n")
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
