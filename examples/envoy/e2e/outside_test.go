package e2e_test

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/e2e/testmodule/control"
	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/internal/flags"
)

// outer is a picker outside of Envoy, which is in the test's process.
type outer struct {
	app  *epp.App
	seen *control.Views
	stop func() error // drains and returns Run's error
}

// outside starts a picker outside of Envoy, and ends it with the test.
func (r *rig) outside(b *envoyproxy.Bootstrap) {
	r.t.Helper()
	r.startPicker("127.0.0.1:0")
	r.t.Cleanup(func() {
		if err := r.picker.stop(); err != nil {
			r.t.Errorf("the picker ended with %v", err)
		}
	})
	require.NoError(r.t, b.Picker(r.picker.app.Address()))
}

// startPicker starts a picker at an address.
func (r *rig) startPicker(address string) {
	r.t.Helper()
	text, err := json.Marshal(r.options.flags)
	require.NoError(r.t, err)
	o := parseFlags(r, text)
	o.Config, o.GRPCAddr, o.HealthAddr, o.MetricsAddr = r.folder, address, "127.0.0.1:0", "127.0.0.1:0"
	o.ReloadInterval, o.DrainTimeout = 20*time.Millisecond, time.Second
	seen := new(control.Views)
	if r.picker != nil {
		seen = r.picker.seen // of the one before
	}
	seen.Watch(&o)
	if r.options.picker != nil {
		r.options.picker(&o)
	}
	app, err := epp.New(o)
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	r.picker = &outer{app, seen, sync.OnceValue(func() error {
		cancel()
		return <-ended
	})}
	r.observed = r.picker
}

// parseFlags returns the options that flags, as those of the module, say.
func parseFlags(r *rig, object []byte) epp.Options {
	r.t.Helper()
	if len(r.options.flags) == 0 {
		return epp.Options{}
	}
	args, err := flags.Arguments(object)
	require.NoError(r.t, err)
	f, err := flags.Parse(append(args, "--config=x"), io.Discard)
	require.NoError(r.t, err)
	return f.Options
}

func (o *outer) view(session string) control.View { return o.seen.Of(session) }
func (o *outer) views() map[string]control.View   { return o.seen.All() }
func (o *outer) resetViews()                      { o.seen.Reset() }

func (o *outer) state(heap bool) control.State {
	s := control.StateOf(o.app)
	if heap {
		s.Heap = control.Heap()
	}
	return s
}
