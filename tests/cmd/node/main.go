// Command node keeps one virtual machine at hand while something is developed:
//
//	node start live          from the live medium, beside an empty disk
//	node start installed     from a disk on which v1 was just installed
//	node start booted        the same, taken up when its first boot was done: takes seconds
//	node start again         from the disk of the last time
//	node start saved         where "node save" has saved it, as often as wanted: takes seconds
//	node start plain         the same root file system on plain ext4
//	node run SCRIPT          runs a script in it as root; the exit status is the script's
//	node push FILE PATH      puts a program of this host in the place of one in the running image
//	node save                saves the machine as it runs, and ends it
//	node refs                names the images in the registry, as the machine sees them
//	node stop                as a power cut does
//
// `start` stays in the foreground until the machine has powered off; a registry with the images of
// the tests runs as long. Only one node runs at a time.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kairos-io/toolkit/tests/story"
	"github.com/kairos-io/toolkit/tests/vm"
	"github.com/kairos-io/toolkit/tests/workspace"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	status, err := command(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		status = 1
	}
	os.Exit(status)
}

func command(ctx context.Context, args []string) (int, error) {
	switch {
	case len(args) == 2 && args[0] == "start":
		return 0, start(ctx, args[1])
	case len(args) == 2 && args[0] == "run":
		return ask(call{Script: args[1]})
	case len(args) == 3 && args[0] == "push":
		file, err := filepath.Abs(args[1])
		if err != nil {
			return 1, err
		}
		return ask(call{Push: file, To: args[2]})
	case len(args) == 1 && args[0] == "refs":
		return ask(call{Refs: true})
	case len(args) == 1 && args[0] == "save":
		return ask(call{Save: true})
	case len(args) == 1 && args[0] == "stop":
		return ask(call{Stop: true})
	}
	return 2, errors.New("usage: node start live|installed|booted|again|saved|plain, node run SCRIPT, node push FILE PATH, node refs, node save, node stop")
}

// call is what the other commands ask of the one that holds the machine; answer is what it says.
type call struct {
	Script, Push, To string
	Refs, Save, Stop bool
}

type answer struct {
	vm.Result
	Error string
}

func folder() string { return workspace.Cache("node") }
func saved() string  { return workspace.Cache("node-saved") }
func socket() string { return filepath.Join(os.TempDir(), "kairos-node.sock") }

func start(ctx context.Context, how string) error {
	world, err := story.NewWorld(ctx, func(what string) { fmt.Println(what) })
	if err != nil {
		return err
	}
	defer world.Close()
	node, err := prepare(ctx, world, how)
	if err != nil {
		return err
	}
	began := time.Now()
	node.Observe = func(e vm.Event) { fmt.Printf("%7.1f s  %s\n", e.At.Sub(began).Seconds(), e.Kind) }
	switch how {
	case "live":
		err = node.StartLive(ctx)
	case "plain":
		var disk string
		if disk, err = world.Plain(ctx); err == nil {
			err = node.StartPlain(ctx, disk)
		}
	default:
		if err = node.Start(ctx); err == nil {
			err = node.Ready(ctx)
		}
	}
	if node.Machine == nil {
		return err
	}
	defer node.Close()
	if err != nil {
		fmt.Println(err) // and yet it may be looked at
	}
	fmt.Printf("%7.1f s  here it is; its console: %s\n", time.Since(began).Seconds(), node.Console())
	os.Remove(socket())
	listener, err := net.Listen("unix", socket())
	if err != nil {
		return err
	}
	defer listener.Close()
	var calls sync.WaitGroup
	go serve(ctx, listener, &calls, node)
	select {
	case <-node.Machine.Ended():
		calls.Wait() // saving goes on after that
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func prepare(ctx context.Context, world *story.World, how string) (*story.Node, error) {
	switch how {
	case "again":
		return world.Node(folder())
	case "live", "plain", "installed", "booted", "saved":
		if err := os.RemoveAll(folder()); err != nil {
			return nil, err
		}
		switch how {
		case "installed":
			return world.FromInstalled(ctx, folder())
		case "booted":
			return world.FromBooted(ctx, folder())
		case "saved":
			return world.FromSaved(ctx, saved(), folder())
		}
		return world.NewNode(ctx, folder())
	}
	return nil, fmt.Errorf("start what? %q is none of live, installed, booted, again, saved, plain", how)
}

// serve answers the other commands.
func serve(ctx context.Context, listener net.Listener, calls *sync.WaitGroup, node *story.Node) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		calls.Go(func() {
			defer conn.Close()
			var c call
			if json.NewDecoder(conn).Decode(&c) != nil {
				return
			}
			var a answer
			var err error
			switch {
			case c.Stop:
				node.Machine.Kill()
			case c.Save:
				err = save(ctx, node)
			case c.Refs:
				for _, version := range story.Versions {
					a.Stdout += node.Ref(version) + "\n"
				}
			case c.Push != "":
				a.Result, err = node.Replace(ctx, c.Push, c.To)
			default:
				a.Result, err = node.Machine.Run(ctx, c.Script)
			}
			if err != nil {
				a.Error = err.Error()
			}
			json.NewEncoder(conn).Encode(a)
		})
	}
}

// save keeps the machine for "node start saved", in the place of the one that was saved before.
func save(ctx context.Context, node *story.Node) error {
	if err := node.Save(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(saved()); err != nil {
		return err
	}
	return os.Rename(folder(), saved())
}

func ask(c call) (int, error) {
	conn, err := net.Dial("unix", socket())
	if err != nil {
		return 1, fmt.Errorf("no node runs: %w", err)
	}
	defer conn.Close()
	var a answer
	if err := errors.Join(json.NewEncoder(conn).Encode(c), json.NewDecoder(conn).Decode(&a)); err != nil {
		return 1, err
	}
	fmt.Print(a.Stdout)
	fmt.Fprint(os.Stderr, a.Stderr)
	if a.Error != "" {
		return 1, errors.New(strings.TrimSpace(a.Error))
	}
	return a.Status, nil
}
