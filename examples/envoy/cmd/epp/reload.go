package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/inferpick/inferpick/examples/envoy/epp"
)

// reloadOnHangup reads the configuration again at each SIGHUP, until stop is called.
func reloadOnHangup(app *epp.App, logger *slog.Logger) (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range hangup {
			if err := app.Reload(); err == nil {
				logger.Info("configuration read again") // what is wrong the watcher has told
			}
		}
	}()
	return func() {
		signal.Stop(hangup)
		close(hangup)
		<-done
	}
}
