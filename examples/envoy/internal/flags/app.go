package flags

import (
	"context"
	"log/slog"

	"github.com/inferpick/inferpick/examples/envoy/epp"
)

// App makes the App that the flags ask for, which is to be run or closed. closeRest ends what was begun beside it: it is
// called once, after that. With an error nothing is left. ctx is for beginning alone. What has no effect is told to
// logger, which is the App's. It may be called once.
func (f *Flags) App(ctx context.Context, logger *slog.Logger) (app *epp.App, closeRest func(), err error) {
	f.Options.Logger = logger
	for _, note := range f.notes {
		logger.Warn(note)
	}
	tracer, shutdown, err := f.trace.newTracer(ctx)
	if err != nil {
		return nil, nil, err
	}
	if tracer != nil {
		f.Options.Tracer = tracer
	}
	remove, err := f.writeConfigText()
	if err != nil {
		shutdown()
		return nil, nil, err
	}
	closeRest = func() {
		remove()
		shutdown()
	}
	if err := f.complete(logger); err != nil {
		closeRest()
		return nil, nil, err
	}
	if app, err = epp.New(f.Options); err != nil {
		closeRest()
		return nil, nil, err
	}
	return app, closeRest, nil
}

// complete makes the parts of the options that are more than what was said. With an error nothing is left.
func (f *Flags) complete(logger *slog.Logger) (err error) {
	if f.Options.Kubernetes, err = f.cluster(); err != nil {
		return err
	}
	if f.Options.Rollouts, err = f.rollouts.options(); err != nil {
		return err
	}
	if f.Options.Autoscale, err = f.autoscale(logger); err != nil {
		return err
	}
	f.Options.Sharing, err = f.peers.sharing(logger) // last, for it begins to listen
	return err
}
