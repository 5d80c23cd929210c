package epp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/datastore/rollout/loader"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

// Rollouts say how traffic is moved from one target model to another where the annotation rollout.Annotation of an
// InferenceModel or InferenceModelRewrite asks for it: see package rollout.
//
// In a cluster weights and states are in the objects, and the picker that has the Lease judges and writes; the others
// tell it what they see if they share (Options.Sharing). Without one they are those of this picker.
type Rollouts struct {
	// Loader says how adapters get onto servers: auto, vllm, sglang, resolver or manual. See package loader. Default auto.
	Loader string
	// Header is sent to servers with each request of the Loader, such as Authorization.
	Header http.Header
	// StateFile keeps states over a restart where there is no cluster. Default: they are not kept.
	StateFile string
	// Commands lets everybody pause, resume, promote and abort rollouts, and begin some, who may ask for anything at
	// MetricsAddr. Default: only if tokens are asked for there, or it is an address of loopback.
	Commands bool
}

// roller is what an App has for rollouts.
type roller struct {
	o          *Rollouts
	controller *rollout.Controller
	close      func()
}

// newRollouts makes the controller, if there is to be one, and has the schedulers of all pools hear it.
func (a *App) newRollouts() error {
	o := a.o.Rollouts
	switch {
	case o == nil:
		return nil
	case o.StateFile != "" && a.cluster != nil:
		return errors.New("epp: Options.Rollouts.StateFile is for pickers without Kubernetes: in a cluster states are in the objects")
	}
	urls, stop := loader.URLs(a.store)
	client, err := loader.New(loader.Options{URL: urls, Header: o.Header})
	if err != nil {
		stop()
		return fmt.Errorf("epp: %w", err)
	}
	a.rollouts = &roller{o: o, close: func() { stop(); client.Close() }}
	options, err := a.rolloutOptions(client)
	if err == nil {
		a.rollouts.controller, err = rollout.New(options)
	}
	if err != nil {
		return fmt.Errorf("epp: Options.Rollouts: %w", err)
	}
	a.fleet.rollouts, a.fleet.counting.Rollouts = a.rollouts.controller, a.rollouts.controller.Status
	return nil
}

func (a *App) rolloutOptions(client *loader.Client) (o rollout.Options, err error) {
	o = rollout.Options{Store: a.store, Saturation: a.fleet.saturation, Peers: a.group != nil, Logger: a.o.Logger}
	o.Name, _ = os.Hostname()
	if o.Loader, err = client.Named(a.o.Rollouts.Loader); err != nil {
		return o, err
	}
	if a.cluster != nil {
		home := a.cluster.home
		o.Home, o.Leader, o.OnEvent = home, home.Leads, home.Event
		return o, nil
	}
	o.Home, err = rollout.NewStoreHome(a.store, rollout.StoreHomeOptions{Path: a.o.Rollouts.StateFile, Logger: a.o.Logger})
	return o, err
}

// rollOut runs rollouts until ctx is done. It begins when the servers are known, lest it takes those of a cluster for
// gone that are not read yet.
func (a *App) rollOut(ctx context.Context) error {
	if a.cluster != nil {
		select {
		case <-a.cluster.source.Synced():
		case <-ctx.Done():
			return nil
		}
	}
	return a.rollouts.controller.Run(ctx)
}

// rolloutScopes is what is shared of rollouts, which are no pool's.
func (a *App) rolloutScopes() []sharing.Scope {
	if a.rollouts == nil {
		return nil
	}
	return []sharing.Scope{{Name: "rollouts", Parts: []any{a.rollouts.controller}}}
}

// saturation is that of a pool with admission control; 0: not known.
func (f *fleet) saturation(pool types.NamespacedName) float64 {
	f.mu.Lock()
	d := f.director
	f.mu.Unlock()
	if d == nil {
		return 0
	}
	for name, c := range d.Admissions() {
		if name == pool {
			return c.Stats().Saturation
		}
	}
	return 0
}

// rolloutPages serves what people see of rollouts, and takes commands from who may give them.
func (a *App) rolloutPages() http.Handler {
	next := a.rollouts.controller.Handler()
	guarded := a.o.MetricsTokenFile != "" || a.o.MetricsTLS.ClientCAFile != "" || a.o.Kubernetes != nil && a.o.Kubernetes.MetricsAuth
	if a.rollouts.o.Commands || guarded || onLoopback(a.o.MetricsAddr) {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			a.o.Logger.LogAttrs(r.Context(), slog.LevelWarn, "a command for a rollout is refused", slog.String("path", r.URL.Path), slog.String("from", r.RemoteAddr))
			http.Error(w, "epp: commands for rollouts are taken where a token is asked for (Options.MetricsTokenFile, or -metrics-token-file), "+
				"on an address of loopback, or with Options.Rollouts.Commands (-rollout-commands)", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// onLoopback reports whether only this machine reaches an address.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
