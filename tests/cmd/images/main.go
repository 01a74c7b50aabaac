// Command images builds the images of the tests and prints where they are.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/kairos-io/toolkit/tests/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	set, err := images.Build(ctx, func(step string) { fmt.Fprintln(os.Stderr, "images:", step) })
	if err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
	for _, layer := range set.Layers {
		fmt.Printf("%-20s %8.2f MB (%.2f MB unpacked)\n", layer.Title, float64(layer.Size)/1e6, float64(layer.Raw)/1e6)
	}
	for _, version := range []string{"v1", "v2", "v3"} {
		fmt.Println(set.Ref(version))
	}
}
