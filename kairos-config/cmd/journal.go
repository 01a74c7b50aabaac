package cmd

import (
	"context"
	"log/slog"
	"os"

	"github.com/kairos-io/toolkit/kairos-config/internal/mask"
	"github.com/kairos-io/toolkit/kairos-config/internal/stage"
	"github.com/kairos-io/toolkit/lib/journal"
	"github.com/kairos-io/toolkit/lib/logline"
)

// stepLogger returns loggers for steps: under systemd they write to the journal, with
// fields that name the step; otherwise nil.
func stepLogger(program, socket string) func(stage.Step) *slog.Logger {
	if _, err := os.Stat(socket); err != nil || !logline.UnderSystemd() {
		return nil
	}
	return func(s stage.Step) *slog.Logger {
		return slog.New(journalHandler{socket: socket, program: program, fields: map[string]string{
			"KAIROS_STAGE": s.Part, "KAIROS_STEP": mask.Text(s.Name), "KAIROS_CONFIG": s.Spec.Pos.FileLine(),
		}})
	}
}

// journalHandler writes entries of a step to the journal.
type journalHandler struct {
	socket, program string
	fields          map[string]string
}

func (h journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h journalHandler) Handle(_ context.Context, r slog.Record) error {
	return journal.Send(h.socket, journal.Entry{
		Program: h.program, Message: r.Message, MessageID: journal.ConfigStep, Priority: logline.Priority(r.Level), Fields: h.fields,
	})
}

func (h journalHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h journalHandler) WithGroup(string) slog.Handler { return h }
