package cmd

import (
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/kairos-io/toolkit/kairos-media/internal/serve"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:      "serve",
		Usage:     "let firmware boot a medium by HTTP",
		ArgsUsage: "FILE",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8080", Usage: "listen at `ADDRESS`:PORT; port 0 is any that is free"},
			cmdline.QuietFlag(),
		},
		Action: serveMedium,
	}
}

func serveMedium(c *cli.Context) error {
	args, err := cmdline.Arguments(c, "FILE")
	if err != nil {
		return err
	}
	m, err := serve.Open(args[0])
	if errors.Is(err, serve.ErrNoMedium) || errors.Is(err, disk.ErrNoGPT) {
		return exit.Hint(err, "kairos-media build makes one")
	}
	if err != nil {
		return err
	}
	defer m.Close()
	listener, err := net.Listen("tcp", c.String("listen"))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if !c.Bool("quiet") {
		terminal.Fprintf(c.App.Writer, "%s\n", m.URL(listener.Addr()))
		terminal.Fprintf(c.App.ErrWriter, "a machine needs %s of memory to boot it\n", terminal.Bytes(m.Memory()))
	}
	return serve.Run(c.Context, listener, m, func(r *http.Request, status int, bytes int64) {
		if !c.Bool("quiet") {
			terminal.Fprintf(c.App.ErrWriter, "%s %s %s %s: %d, %s\n", r.RemoteAddr, r.Method, r.URL.Path, r.Header.Get("Range"), status, terminal.Bytes(bytes))
		}
	})
}
