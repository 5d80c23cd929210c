package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/flags"
	"github.com/inferpick/inferpick/examples/envoy/module/filter"
)

// Options of Instances.
type Options struct {
	// NewLogger makes the logger of an instance. Required: it is called when the first filter comes.
	NewLogger func() *slog.Logger
	// Change changes what a picker is made with, for programs that embed this. Optional.
	Change func(name string, o *epp.Options)
}

// Instances are the pickers of this process, by name. Make them with New. It implements filter.Module; its
// methods may be called from any goroutine.
type Instances struct {
	o Options

	mu    sync.Mutex
	named map[string]*instance // guarded by mu
	heap  func()               // guarded by mu: keeps what epp.ReserveHeap has, for as long as the process lives
}

// instance is one picker that runs.
type instance struct {
	args  []string
	users int // filters; guarded by Instances.mu
	app   *epp.App
	with  *exchange.Handler
	log   *slog.Logger
	stop  func() // ends it, and returns when that is done
}

// New returns Instances, of which none is there.
func New(o Options) *Instances { return &Instances{o: o, named: map[string]*instance{}} }

// App returns the picker of a name, to look at, nil if there is none.
func (all *Instances) App(name string) *epp.App {
	all.mu.Lock()
	defer all.mu.Unlock()
	if one := all.named[name]; one != nil {
		return one.app
	}
	return nil
}

// NewFilter implements filter.Module.
func (all *Instances) NewFilter(name string, config []byte, validate bool) (filter.Factory, error) {
	s, err := parseFilter(config)
	if err != nil {
		return nil, fmt.Errorf("filter %s: %w", name, err)
	}
	if validate {
		if err := check(s.args); err != nil {
			return nil, fmt.Errorf("filter %s: %w", name, err)
		}
		return &unused{}, nil
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	one := all.named[name]
	if one == nil {
		if one, err = all.start(name, s.args); err != nil {
			return nil, fmt.Errorf("filter %s: %w", name, err)
		}
		all.named[name] = one
	} else if err := one.takes(s.args); err != nil {
		return nil, fmt.Errorf("filter %s: %w", name, err)
	}
	one.users++
	return &user{
		all: all, name: name, one: one,
		Filter: filter.New(filter.Options{Handler: one.with, Settings: s.own, Ready: one.app.Ready, Logger: one.log}),
	}, nil
}

// NewRoute implements filter.Module.
func (all *Instances) NewRoute(name string, config []byte) (*filter.Settings, error) {
	s, err := parseRoute(config)
	if err != nil {
		return nil, fmt.Errorf("route's configuration of filter %s: %w", name, err)
	}
	return s, nil
}

// parse reads the picker's command line.
func parse(args []string) (*flags.Flags, error) {
	f, err := flags.Parse(args, io.Discard)
	if errors.Is(err, flags.ErrHelp) {
		return nil, errors.New("help is no setting: see the flags of command epp")
	}
	return f, err
}

// check says what is wrong with a command line, and with the files that it names, without beginning anything.
func check(args []string) error {
	f, err := parse(args)
	if err != nil || f.Options.Config == "" {
		return err
	}
	_, err = f.Loader().Load(f.Options.Config)
	return err
}

// start makes an instance, and runs it. Caller must hold all.mu.
func (all *Instances) start(name string, args []string) (*instance, error) {
	f, err := parse(args)
	if err != nil {
		return nil, err
	}
	if all.o.Change != nil {
		all.o.Change(name, &f.Options)
	}
	log := all.o.NewLogger()
	app, closeRest, err := f.App(context.Background(), log)
	if err != nil {
		return nil, err
	}
	with, err := exchange.New(app.Exchanges())
	if err != nil {
		app.Close()
		closeRest()
		return nil, err
	}
	if all.heap == nil {
		all.heap = epp.ReserveHeap()
		fitProcs()
	}
	running, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer closeRest()
		defer func() {
			if v := recover(); v != nil {
				log.Error("the picker has ended", slog.Any("panic", v))
			}
		}()
		if err := app.Run(running); err != nil {
			log.Error("the picker has ended", slog.Any("error", err))
		}
	}()
	waitReady(app, ended)
	return &instance{args: args, app: app, with: with, log: log, stop: func() {
		stop()
		select {
		case <-ended:
		case <-time.After(stopTime):
		}
	}}, nil
}

// readyTime bounds how long Envoy's main thread waits for a picker to be ready. Without a cluster to be read first it is at once.
const readyTime = time.Second

// waitReady waits until app is ready, so that the first requests are not refused.
func waitReady(app *epp.App, ended <-chan struct{}) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	bound := time.After(readyTime)
	for !app.Ready() {
		select {
		case <-tick.C:
		case <-ended:
			return
		case <-bound:
			return
		}
	}
}

// stopTime bounds how long Envoy's main thread waits for a picker to end. No stream is left by then.
const stopTime = 5 * time.Second

// takes reports whether the instance can serve a filter with these settings.
func (one *instance) takes(args []string) error {
	for _, a := range args {
		if !slices.Contains(one.args, a) {
			return changed(a)
		}
	}
	for _, a := range one.args {
		if !slices.Contains(args, a) {
			return changed(a)
		}
	}
	return nil
}

func changed(arg string) error {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	return fmt.Errorf("its picker runs with another %s, which cannot change while it does: restart Envoy, or give the filter another filter_name for a picker of its own", name)
}

// user is a filter that uses an instance.
type user struct {
	*filter.Filter
	all    *Instances
	name   string
	one    *instance
	closed bool // guarded by all.mu
}

// NewStream implements filter.Factory.
func (u *user) NewStream() filter.Hooks { return u.Stream() }

// Close implements filter.Factory. The last one ends the instance, and one that comes by its name meanwhile waits: it
// may want the same ports.
func (u *user) Close() {
	u.all.mu.Lock()
	defer u.all.mu.Unlock()
	if u.closed {
		return
	}
	u.closed = true
	if u.one.users--; u.one.users == 0 {
		delete(u.all.named, u.name)
		u.one.stop()
	}
}

// unused is a filter of a configuration that is only looked at.
type unused struct{}

// NewStream implements filter.Factory.
func (*unused) NewStream() filter.Hooks { panic("a stream in a configuration that is only looked at") }

// Close implements filter.Factory.
func (*unused) Close() {}
