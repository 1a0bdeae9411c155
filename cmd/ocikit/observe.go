package main

import (
	"log/slog"

	"github.com/ocikit/ocikit/registry"
)

func (c *serveCommand) logger(out output) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(out.stderr, options))
	}
	return slog.New(slog.NewTextHandler(out.stderr, options))
}

// observers calls each.
func observers(all ...func(registry.Observation)) func(registry.Observation) {
	return func(o registry.Observation) {
		for _, observe := range all {
			observe(o)
		}
	}
}

// requestLog writes a line a request.
func requestLog(log *slog.Logger, level slog.Level) func(registry.Observation) {
	return func(o registry.Observation) {
		ctx := o.Request.Context()
		if !log.Enabled(ctx, level) {
			return
		}
		attrs := []slog.Attr{
			slog.String("method", o.Method),
			slog.String("path", o.Request.URL.Path),
			slog.Int("status", o.Status),
			slog.Duration("duration", o.Duration),
			slog.Int64("read", o.Read),
			slog.Int64("written", o.Written),
			slog.String("remote", o.Request.RemoteAddr),
			slog.String("agent", o.Request.UserAgent()),
		}
		if user, _, ok := o.Request.BasicAuth(); ok {
			attrs = append(attrs, slog.String("user", user))
		}
		if o.Err != nil {
			attrs = append(attrs, slog.String("error", o.Err.Error()))
		}
		log.LogAttrs(ctx, level, "request", attrs...)
	}
}
