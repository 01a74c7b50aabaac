// Command demo shows the life of a node in a virtual machine: `make demo`.
//
// With KEEP=1 in the environment the machine is left running.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/kairos-io/toolkit/tests/story"
	"github.com/kairos-io/toolkit/tests/vm"
	"github.com/kairos-io/toolkit/tests/workspace"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		stop()
		os.Exit(1)
	}
}

func demo(ctx context.Context) error {
	keep := os.Getenv("KEEP") == "1"
	dir := workspace.Cache("demo")
	if vm.InUse(dir) {
		return errors.New("the machine of an earlier demo still runs: end it first")
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	start := time.Now()
	r := story.NewRecorder(os.Stdout, nil)
	var world *story.World
	err := r.Step("Build the images v1, v2 and v3, a live medium, and fill a registry", func() (err error) {
		world, err = story.NewWorld(ctx, func(what string) { r.Say("%s", what) })
		return err
	})
	if err != nil {
		return err
	}
	defer world.Close()
	node, err := world.NewNode(ctx, dir)
	if err != nil {
		return err
	}
	node.Detach = keep
	if node.SSH, err = vm.FreePort(); err != nil {
		return err
	}
	r.Follow(node)
	err = story.Life(ctx, node, r)
	r.Table()
	fmt.Printf("\n%.0f s in all. The console's log: %s\n", time.Since(start).Seconds(), node.Console())
	if err == nil && keep {
		return leave(ctx, node)
	}
	node.Close()
	return err
}

// leave lets the machine run on, and says how to get at it.
func leave(ctx context.Context, node *story.Node) error {
	if err := node.Machine.Detach(); err != nil {
		return err
	}
	login, err := node.Login(ctx)
	if err != nil {
		return err
	}
	fmt.Printf(`
The node is running. Log in with
    %s
and be root with sudo -i. It ends with "sudo poweroff" in there, or "kill %d" here. The registry ends now.
`, strings.Join(login, " "), node.Machine.PID())
	return nil
}
