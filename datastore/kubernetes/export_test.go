package kubernetes

import "log/slog"

// SetLogger sets one as it is, whose panics are not caught.
func (s *Source) SetLogger(l *slog.Logger) { s.opt.Logger = l }
