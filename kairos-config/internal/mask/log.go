package mask

import (
	"context"
	"log/slog"
)

// handler masks messages and the texts of attributes.
type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	masked := slog.NewRecord(r.Time, r.Level, Text(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool { masked.AddAttrs(attr(a)); return true })
	return h.Handler.Handle(ctx, masked)
}

func attr(a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindAny || a.Value.Kind() == slog.KindString {
		return slog.String(a.Key, Text(a.Value.String()))
	}
	return a
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	masked := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		masked[i] = attr(a)
	}
	return handler{h.Handler.WithAttrs(masked)}
}

func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }
