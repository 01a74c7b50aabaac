// Command images builds all that the end-to-end tests begin with, or takes it from the cache: the images, a
// live medium, a disk on which v1 was installed, and a machine that has booted from it for the first time.
//
// With --only it builds the images alone. What took how long is on standard output, one line for each part.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kairos-io/toolkit/tests/images"
	"github.com/kairos-io/toolkit/tests/story"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	only := flag.Bool("only", false, "build the images, and no machines")
	flag.Parse()
	if err := build(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func build(ctx context.Context, only bool) error {
	report := func(step string) { fmt.Fprintln(os.Stderr, "images:", step) }
	took := func(what string, do func() error) error {
		start := time.Now()
		if err := do(); err != nil {
			return err
		}
		_, err := fmt.Printf("%s took %.1f s\n", what, time.Since(start).Seconds())
		return err
	}
	var set *images.Set
	err := took("images", func() (err error) {
		set, err = images.Build(ctx, report)
		return err
	})
	if err != nil {
		return err
	}
	for _, layer := range set.Layers {
		fmt.Printf("%-20s %8.2f MB (%.2f MB unpacked)\n", layer.Title, float64(layer.Size)/1e6, float64(layer.Raw)/1e6)
	}
	for _, version := range story.Versions {
		fmt.Println(set.Ref(version))
	}
	if only {
		return nil
	}
	return took("machines", func() error { return story.Prepare(ctx, report) })
}
