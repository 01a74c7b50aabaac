package cmd

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/imagetest"
	"github.com/kairos-io/toolkit/lib/measuretest"
)

// memoryMax is what a staging may take at its peak, in bytes.
const memoryMax = 128 << 20

// BenchmarkStageMemory measures the peak memory of the program itself (VmHWM)
// while it stages images that are large in one way or the other, and fails
// above the limit.
func BenchmarkStageMemory(b *testing.B) {
	dir := b.TempDir()
	program := filepath.Join(dir, "kairos-upgrade")
	build := exec.Command("go", "build", "-o", program, "-tags", "containers_image_openpgp exclude_graphdriver_btrfs urfave_cli_no_docs", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build: %v: %s", err, out)
	}
	const many = 200_000
	some := func(i int) bool { return i%20 == 0 }
	large := []imagetest.Generator{imagetest.LargeFiles(1<<30, 512<<20, 512<<20)}
	for _, test := range []struct {
		name        string
		compression string
		images      [][]imagetest.Generator // staged one after the other; the last one is measured
	}{
		{"200k-gzip", "gzip", [][]imagetest.Generator{{imagetest.ManyFiles(many, nil)}}},
		{"200k-chunked", "zstd:chunked", [][]imagetest.Generator{{imagetest.ManyFiles(many, nil)}, {imagetest.ManyFiles(many, some)}}},
		{"2GiB-gzip", "gzip", [][]imagetest.Generator{large}},
		{"2GiB-zstd", "zstd", [][]imagetest.Generator{large}},
		{"2GiB-chunked", "zstd:chunked", [][]imagetest.Generator{{imagetest.LargeFiles(512 << 20)}, large}},
	} {
		b.Run(test.name, func(b *testing.B) {
			var images []*imagetest.Built
			for _, generators := range test.images {
				images = append(images, imagetest.Generate(b, dir, test.compression, generators...))
			}
			for b.Loop() {
				stageMeasured(b, program, images)
			}
		})
	}
}

// stageMeasured stages images one after the other, and reports the last one.
func stageMeasured(b *testing.B, program string, images []*imagetest.Built) {
	b.StopTimer()
	defer b.StartTimer()
	dir := b.TempDir()
	store, esp := filepath.Join(dir, "store"), filepath.Join(dir, "esp")
	for _, d := range []string{store, esp} {
		if err := os.Mkdir(d, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	registry := imagetest.NewRegistry(b)
	for i, image := range images {
		registry.Push("os", "v1", image)
		cmd := exec.Command(program, "stage", "--quiet", "--json", "--insecure", "--store", store, "--esp", esp, registry.Host+"/os:v1")
		cmd.Env = append(os.Environ(), "HOME="+dir)
		b.StartTimer()
		u, err := measuretest.Run(cmd)
		b.StopTimer()
		if err != nil || u.Status != 0 {
			b.Fatalf("image %d: %v, exit status %d: %s", i+1, err, u.Status, u.Stderr)
		}
		if i == len(images)-1 {
			b.ReportMetric(u.Memory/(1<<20), "MiB-peak")
			if u.Memory > memoryMax {
				b.Errorf("%.1f MiB at the peak, the limit is %d MiB", u.Memory/(1<<20), memoryMax>>20)
			}
			if len(images) > 1 {
				b.Logf("%s", u.Stdout)
			}
		}
	}
}
