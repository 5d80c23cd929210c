package kubernetes

import (
	"context"

	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/datastore"
)

// Source keeps a datastore.Store in sync with a cluster. Its methods are safe for concurrent
// use. Create one with New.
type Source struct {
	opt     Options
	synced  chan struct{}
	changed chan struct{}
}

// New returns a source for the cluster of config, or an error that lists all invalid options.
// It does nothing until Run is called.
func New(config *rest.Config, o Options) (*Source, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	return &Source{opt: o, synced: make(chan struct{}), changed: make(chan struct{}, 1)}, nil
}

// Run keeps store in sync until ctx is done, and then returns nil. What it has put into the
// store stays there. Run is called once.
func (s *Source) Run(ctx context.Context, store *datastore.Store) error {
	<-ctx.Done()
	return nil
}

// Synced returns a channel that is closed once the pools, of those CRDs that are installed, and
// their pods are in the store.
func (s *Source) Synced() <-chan struct{} { return s.synced }

// Changed returns a channel that receives a value whenever Objects or the statuses in the store
// may have changed. It is for one receiver.
func (s *Source) Changed() <-chan struct{} { return s.changed }

// Kinds returns the state of each watch, and of each kind that the cluster does not have.
func (s *Source) Kinds() []KindStatus { return nil }

// Objects returns the manifests that were read, in force or not, by kind and name.
func (s *Source) Objects() []Object { return nil }
