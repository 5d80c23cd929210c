package epp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/lease"
	"github.com/inferpick/inferpick/datastore/kubernetes/rollouts"
	"github.com/inferpick/inferpick/datastore/kubernetes/status"
)

// Kubernetes says where the cluster is from which pools, models, objectives, rewrites and
// endpoints come, and what of it is read.
type Kubernetes struct {
	// API is where the API server is. Required.
	API *rest.Config
	// Source says what is read. Its Logger is the App's.
	Source kubernetes.Options

	// WriteStatus writes into the objects whether they are in force.
	WriteStatus bool
	// Lease elects the one of several pickers that does so, and rolls out (Options.Rollouts); all of them
	// serve. Without Name, none is elected and this one writes. Its Logger is the App's.
	Lease lease.Options

	// MetricsAuth lets only those at MetricsAddr who show a token of an account of the cluster that
	// may get the path. It needs the rights to create tokenreviews and subjectaccessreviews.
	MetricsAuth bool

	// SyncTimeout is how long the App says by its health that it is not ready while it has not
	// read all pools and their pods. After that it is ready as soon as it knows a server.
	// Default 30s.
	SyncTimeout time.Duration
}

func (k *Kubernetes) complete(logger *slog.Logger) (*Kubernetes, error) {
	c := *k
	switch {
	case c.API == nil:
		return nil, errors.New("epp: Options.Kubernetes.API is required")
	case c.SyncTimeout < 0:
		return nil, fmt.Errorf("epp: Options.Kubernetes.SyncTimeout is %v, must not be negative", c.SyncTimeout)
	case c.SyncTimeout == 0:
		c.SyncTimeout = 30 * time.Second
	}
	c.Source.Logger, c.Lease.Logger = logger, logger
	return &c, nil
}

// cluster is what an App has of a cluster.
type cluster struct {
	o      *Kubernetes
	logger *slog.Logger
	keeper keeper
	store  *datastore.Store
	source *kubernetes.Source
	status *status.Writer // nil: none is written
	home   *rollouts.Home // nil: there are no rollouts
	leads  atomic.Bool    // this one writes
}

func newCluster(o *Kubernetes, store *datastore.Store, rolls bool, k keeper, logger *slog.Logger) (*cluster, error) {
	c := &cluster{o: o, logger: logger, keeper: k, store: store}
	var err error
	if c.source, err = kubernetes.New(o.API, o.Source); err != nil {
		return nil, fmt.Errorf("epp: %w", err)
	}
	if o.WriteStatus {
		if c.status, err = status.New(o.API, c.source, store, status.Options{Logger: logger}); err != nil {
			return nil, fmt.Errorf("epp: %w", err)
		}
	}
	if rolls {
		if c.home, err = rollouts.New(o.API, c.source, rollouts.Options{NoConditions: !o.WriteStatus, Logger: logger}); err != nil {
			return nil, fmt.Errorf("epp: %w", err)
		}
	}
	return c, nil
}

// work keeps the store in step with the cluster, and writes what is to be written, until ctx is done.
func (c *cluster) work(ctx context.Context, group *errgroup.Group) {
	c.keeper.in(ctx, group, "cluster", func(ctx context.Context) error { return c.source.Run(ctx, c.store) })
	if c.home != nil {
		c.keeper.in(ctx, group, "events of rollouts", func(ctx context.Context) error { c.home.Run(ctx); return nil })
	}
	if c.home != nil || c.status != nil {
		c.keeper.in(ctx, group, "lease", c.write)
	}
}

// write writes statuses, and rollouts, until ctx is done, whenever it is this one's turn.
func (c *cluster) write(ctx context.Context) error {
	if c.o.Lease.Name == "" {
		c.lead(ctx)
		return nil
	}
	return lease.Elect(ctx, c.o.API, c.o.Lease, c.lead)
}

// lead writes until ctx is done.
func (c *cluster) lead(ctx context.Context) {
	c.leads.Store(true)
	defer c.leads.Store(false)
	var writing errgroup.Group
	if c.status != nil {
		c.keeper.in(ctx, &writing, "statuses", func(ctx context.Context) error { c.status.Run(ctx); return nil })
	}
	if c.home != nil {
		c.keeper.in(ctx, &writing, "rollouts of this leader", func(ctx context.Context) error { c.home.Lead(ctx); return nil })
	}
	_ = writing.Wait() // none returns any
}

// synced returns once enough is known to serve, or ctx is done.
func (c *cluster) synced(ctx context.Context) {
	timer := time.NewTimer(c.o.SyncTimeout)
	defer timer.Stop()
	select {
	case <-c.source.Synced():
		return
	case <-ctx.Done():
		return
	case <-timer.C:
	}
	c.logger.LogAttrs(ctx, slog.LevelWarn, "the cluster could not be read as a whole; requests are taken as soon as a server is known",
		slog.Duration("after", c.o.SyncTimeout), slog.String("missing", strings.Join(c.missing(), "; ")))
	known := make(chan struct{}, 1)
	stop := c.store.Watch(func(datastore.Event) {
		select {
		case known <- struct{}{}:
		default:
		}
	})
	defer stop()
	select {
	case <-known:
	case <-c.source.Synced(): // there are none
	case <-ctx.Done():
	}
}

// missing says what of the cluster is not read, and why.
func (c *cluster) missing() (all []string) {
	for _, k := range c.source.Kinds() {
		if !k.Up && k.Err != nil {
			all = append(all, k.Err.Error())
		}
	}
	return all
}
