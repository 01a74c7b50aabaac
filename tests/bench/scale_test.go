package bench

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kairos-io/toolkit/lib/measuretest"
	"github.com/kairos-io/toolkit/tests/oci"
	"github.com/kairos-io/toolkit/tests/registry"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// kernel is what makes an image bootable, in each of the images here.
func kernel(w *tar.Writer) error {
	for _, name := range []string{"vmlinuz", "initramfs.img"} {
		if err := file(w, "usr/lib/modules/6.12.0/"+name, 1<<20, 0); err != nil {
			return err
		}
	}
	return nil
}

// file writes an entry with size bytes that have not been in any entry before
// with another name or seed.
func file(w *tar.Writer, name string, size int64, seed uint64) error {
	header := tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: newest}
	if err := w.WriteHeader(&header); err != nil {
		return err
	}
	var key [32]byte
	copy(key[8:], name[max(0, len(name)-24):])
	binary.LittleEndian.PutUint64(key[:], seed)
	_, err := io.CopyN(w, rand.NewChaCha8(key), size)
	return err
}

// archive returns the function that writes a tar archive of what fill writes.
func archive(fill func(w *tar.Writer) error) func(io.Writer) error {
	return func(out io.Writer) error {
		w := tar.NewWriter(out)
		if err := fill(w); err != nil {
			return err
		}
		return w.Close()
	}
}

// pushLayers makes an image of layers and offers it in a registry.
func pushLayers(t *testing.T, r *registry.Registry, name string, option []string, fill ...func(w *tar.Writer) error) {
	t.Helper()
	dir := folder(t)
	image := oci.Image{Name: "x", Created: newest}
	for i, f := range fill {
		layer, err := oci.CreateLayer(filepath.Join(dir, fmt.Sprint(i)), fmt.Sprint("layer ", i), archive(f))
		must(t, err)
		image.Layers = append(image.Layers, layer)
	}
	layout := filepath.Join(dir, "layout")
	must(t, oci.WriteLayout(layout, []oci.Image{image}))
	must(t, r.Push(t.Context(), "oci:"+layout+":x", name, option...))
	must(t, os.RemoveAll(dir))
}

// startRegistry starts one that ends with the test.
func startRegistry(t *testing.T) *registry.Registry {
	t.Helper()
	r, err := registry.Start(t.Context())
	must(t, err)
	t.Cleanup(r.Stop)
	return r
}

// compressions are the options of skopeo for the ways to push.
var compressions = []struct {
	name   string
	option []string
}{
	{"zstd", nil},
	{"zstd:chunked", []string{"--dest-compress-format", "zstd:chunked"}},
	{"gzip", []string{"--dest-compress-format", "gzip", "--dest-compress-level", "1"}},
}

// TestBenchLargeLayer stages a layer of 2 GiB with one file of 1 GiB.
func TestBenchLargeLayer(t *testing.T) {
	for _, c := range compressions {
		t.Run(c.name, func(t *testing.T) {
			r := startRegistry(t)
			pushLayers(t, r, "bench/large:1", c.option, func(w *tar.Writer) error {
				if err := kernel(w); err != nil {
					return err
				}
				for i := range 16 {
					if err := file(w, fmt.Sprintf("usr/share/large/%d", i), 64<<20, 0); err != nil {
						return err
					}
				}
				return file(w, "usr/share/large/whole", 1<<30, 0)
			})
			s := stage(t, r, folder(t), folder(t), "bench/large:1", 0)
			what := "a layer of 2 GiB, " + c.name
			report(Figure{What: what + ": peak resident memory", Value: s.Memory, Unit: "B", Limit: 128 << 20})
			report(Figure{What: what + ": time", Value: s.Seconds, Unit: "s"})
		})
	}
}

// TestBenchManyFiles stages images of 10,000, 50,000 and 200,000 files of 200
// bytes, and the largest with a file more.
func TestBenchManyFiles(t *testing.T) {
	counts := []int{10_000, 50_000, 200_000}
	for _, c := range compressions[:2] {
		t.Run(c.name, func(t *testing.T) {
			r := startRegistry(t)
			var all []staged
			for _, count := range counts {
				name := fmt.Sprintf("bench/many:%d", count)
				pushLayers(t, r, name, c.option, kernel, manyFiles(count))
				store, esp := folder(t), folder(t)
				s := stage(t, r, store, esp, name, 0)
				all = append(all, s)
				what := fmt.Sprintf("%d files, %s", count, c.name)
				report(Figure{What: what + ": time", Value: s.Seconds, Unit: "s"})
				report(Figure{What: what + ": time of processors", Value: s.CPU, Unit: "s"})
				report(Figure{What: what + ": peak resident memory", Value: s.Memory, Unit: "B", Limit: 128 << 20})
				if count != counts[len(counts)-1] {
					continue
				}
				pushLayers(t, r, "bench/many:more", c.option, kernel, manyFiles(count), func(w *tar.Writer) error {
					return file(w, "usr/share/more", 200, 0)
				})
				bless(t, esp)
				s = stage(t, r, store, esp, "bench/many:more", 0)
				report(Figure{What: what + ", one more in a layer of its own: time", Value: s.Seconds, Unit: "s"})
				report(Figure{What: what + ", one more in a layer of its own: peak resident memory", Value: s.Memory, Unit: "B", Limit: 128 << 20})
			}
			for i := range all[1:] {
				between := float64(counts[i+1] - counts[i])
				span := fmt.Sprintf("from %d to %d files, %s: ", counts[i], counts[i+1], c.name)
				report(Figure{What: span + "time for each 1000 more", Value: (all[i+1].Seconds - all[i].Seconds) / between * 1000, Unit: "s"})
				report(Figure{What: span + "time of processors for each 1000 more", Value: (all[i+1].CPU - all[i].CPU) / between * 1000, Unit: "s"})
				report(Figure{What: span + "memory for each 1000 more", Value: (all[i+1].Memory - all[i].Memory) / between * 1000, Unit: "B"})
			}
		})
	}
}

// manyFiles writes count files, 100 in each directory, as in a root file
// system.
func manyFiles(count int) func(*tar.Writer) error {
	return func(w *tar.Writer) error {
		for i := range count {
			if err := file(w, fmt.Sprintf("usr/share/package-%04d/file-with-a-name-%06d.txt", i/100, i), 200, 0); err != nil {
				return err
			}
		}
		return nil
	}
}

// TestBenchCollect stages ten deployments that differ by 1000 of 11,000 files
// each, and then collects all but the newest.
func TestBenchCollect(t *testing.T) {
	r := startRegistry(t)
	store, esp := folder(t), folder(t)
	program := filepath.Join(workspace.Top(), "build/bin/kairos-upgrade")
	upgrade := func(command ...string) measuretest.Usage {
		command = slices.Insert(command, 1, "--store", store, "--esp", esp)
		return measure(t, exec.CommandContext(t.Context(), program, command...), 0)
	}
	const deployments = 10
	for i := range deployments {
		name := fmt.Sprintf("bench/collect:%d", i)
		pushLayers(t, r, name, nil, kernel, manyFiles(10_000), func(w *tar.Writer) error {
			for j := range 1000 {
				if err := file(w, fmt.Sprintf("usr/share/own/%04d", j), 200, uint64(i)); err != nil {
					return err
				}
			}
			return nil
		})
		s := stage(t, r, store, esp, name, 0)
		bless(t, esp)
		upgrade("pin", fmt.Sprint(i+1))
		if i == deployments-1 {
			report(Figure{What: "the 10th deployment, 1000 of 11,000 files are new: time", Value: s.Seconds, Unit: "s"})
		}
	}
	u := upgrade("gc")
	report(Figure{What: "gc with 10 deployments, nothing to collect: time", Value: u.Seconds, Unit: "s"})
	report(Figure{What: "gc with 10 deployments, nothing to collect: peak resident memory", Value: u.Memory, Unit: "B", Limit: 128 << 20})
	for i := range deployments - 1 {
		upgrade("unpin", fmt.Sprint(i+1))
	}
	u = upgrade("gc")
	report(Figure{What: "gc of 9 of 10 deployments, 9000 objects: time", Value: u.Seconds, Unit: "s"})
}
