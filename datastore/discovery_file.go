package datastore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/filewatch"
	"github.com/inferpick/inferpick/internal/strictjson"
	"github.com/inferpick/inferpick/types"
)

// FileOptions of a FileSource. The zero value is good.
type FileOptions struct {
	// Interval between two looks at the file. Default: 1s. At least 10ms.
	Interval time.Duration

	// MaxBytes is the largest file that is read: a larger one is ErrLimit. Default:
	// 16 MiB.
	MaxBytes int64

	// Logger hears of new versions and of what is wrong with one, once. Nil:
	// silence.
	Logger *slog.Logger

	// OnLoad is called after each attempt to take over a version of the file,
	// with nil if it is in force now. It may be nil. It is called by the
	// goroutine in Load or Run, and must not call Load itself.
	OnLoad func(error)
}

// FileSource keeps a Store in step with a JSON file:
//
//	{
//	  "manifests": [
//	    {"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", …},
//	    {"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel", …}
//	  ],
//	  "endpoints": [
//	    {"pool": "default/llama", "id": "a", "address": "10.0.0.1:8000",
//	     "labels": {"zone": "1"}, "state": "ready", "engine": "vllm",
//	     "capacity": {"speed": 1, "maxConcurrency": 256, "kvTokens": 500000, "costPerHour": 2.5},
//	     "metrics": {"address": "10.0.0.1:9100", "path": "/metrics", "scheme": "http", "disabled": false}}
//	  ]
//	}
//
// Of an endpoint only address is required. Without pool it belongs to every pool
// in manifests whose selector matches its labels, of which there must be one.
//
// If manifests is there, even empty, it is the whole set of the store's
// manifests: a store should have one such source. If endpoints is there, it is
// the whole list for every pool that it names, and for those that an earlier
// version named; other pools are left to other sources. A version is taken over
// in one step, or not at all: then what was there stays in force.
//
// A pool that was deleted by others loses its endpoints. If it is back, it has those of
// the version in force again: at once while Run runs, and with every Load.
//
// The path must be that of a regular file, or of a link to one: what may never end, as a
// named pipe or a device, is not opened.
//
// Make one with NewFileSource.
type FileSource struct {
	store *Store
	path  string
	opt   FileOptions

	// loading is held for an attempt and guards these.
	loading sync.Mutex
	watch   *filewatch.Watch
	pools   map[types.NamespacedName]given // whose endpoints come from here
	logged  string                         // the last error that was logged

	mu  sync.Mutex // held for a moment only
	err error      // of the last attempt
}

// NewFileSource returns a source of store that reads the file at path. It does
// nothing until Load or Run is called.
func NewFileSource(store *Store, path string, o FileOptions) *FileSource {
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	o.Interval = max(o.Interval, 10*time.Millisecond)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &FileSource{store: store, path: path, opt: o, watch: filewatch.New(filewatch.Options{
		Paths: []string{path}, MaxBytes: o.MaxBytes, Bound: "FileOptions.MaxBytes", Quiet: 50 * time.Millisecond,
	})}
}

// Load reads the file now, if it is another than at the last time, and takes it
// over. The error says file, field and rule; it is that of the last attempt if
// the file has not changed since.
func (f *FileSource) Load() error {
	f.loading.Lock()
	defer f.loading.Unlock()
	return f.look(f.watch.Read)
}

// Run looks at the file at once, at every interval and when a pool has come, until ctx is
// done, and then returns nil. A file that is not there or not good is no reason to stop:
// who wants to know before it starts calls Load first.
func (f *FileSource) Run(ctx context.Context) error {
	wake, stop := f.store.wakeOnPools()
	defer stop()
	filewatch.Every(ctx, f.opt.Interval, wake, func() {
		f.loading.Lock()
		defer f.loading.Unlock()
		_ = f.look(f.watch.Look) // told by attempt
	})
	return nil
}

// Err returns what is wrong with the file as it was read last, nil if that
// version is in force. It does not wait for a load under way.
func (f *FileSource) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// look takes over the file if read returns another version of it. Caller must hold
// f.loading.
func (f *FileSource) look(read func() (*filewatch.Version, error)) error {
	if _, err := f.store.refill(f.pools); err != nil {
		f.watch.Forget() // the file is taken over anew, or says why it is not
	}
	version, err := read()
	switch {
	case errors.Is(err, filewatch.ErrTooLarge):
		return f.attempt(fmt.Errorf("datastore: %w: %w", ErrLimit, err), false)
	case err != nil:
		return f.attempt(fmt.Errorf("datastore: %w", err), false)
	case version == nil:
		return f.Err()
	}
	change, err := parseFile(f.path, version.Files[0].Data)
	if err != nil {
		return f.attempt(err, true)
	}
	if err := f.takeOver(change); err != nil {
		f.watch.Forget()
		return f.attempt(fmt.Errorf("datastore: file %s: %w", f.path, err), false)
	}
	return f.attempt(nil, true)
}

// attempt notes and tells how it went. What need not be the fault of the bytes
// in the file (it cannot be read, the store refuses it) is told once, and tried
// again without a new version.
func (f *FileSource) attempt(err error, final bool) error {
	f.mu.Lock()
	f.err = err
	f.mu.Unlock()
	again := false
	if !final {
		again = err.Error() == f.logged
	}
	ctx := context.Background()
	switch {
	case err == nil:
		f.logged = ""
		f.opt.Logger.LogAttrs(ctx, slog.LevelInfo, "took over file", slog.String("path", f.path))
	case !again:
		f.logged = err.Error()
		f.opt.Logger.LogAttrs(ctx, slog.LevelError, "file is not in force", slog.String("path", f.path), slog.Any("error", err))
	}
	if f.opt.OnLoad != nil && !again {
		f.opt.OnLoad(err)
	}
	return err
}

func (f *FileSource) takeOver(change Change) error {
	var dropped []types.NamespacedName // by this version
	if change.Endpoints != nil {
		for pool := range f.pools {
			if _, ok := change.Endpoints[pool]; ok {
				continue
			}
			dropped = append(dropped, pool)
			if f.stays(pool, change) {
				change.Endpoints[pool] = nil
			}
		}
	}
	pools, err := f.store.commit(change)
	if err != nil {
		return err
	}
	for _, pool := range dropped {
		delete(pools, pool)
	}
	if change.Endpoints != nil {
		f.pools = pools
	}
	return nil
}

// stays reports whether a pool of an earlier version is there after the change:
// emptying one that is not would make it anew.
func (f *FileSource) stays(pool types.NamespacedName, change Change) bool {
	for _, o := range change.Objects {
		if o.Kind() == kindPool && o.Key() == pool {
			return true
		}
	}
	now := f.store.Snapshot().Pool(pool)
	return now != nil && (now.Manifest() == nil || !change.OnlyObjects)
}

// The form of a file.
type fileForm struct {
	Manifests *[]json.RawMessage `json:"manifests"`
	Endpoints *[]fileEndpoint    `json:"endpoints"`
}

type fileEndpoint struct {
	Pool string `json:"pool"`
	endpointForm
}

type endpointForm struct {
	ID       string            `json:"id"`
	Address  string            `json:"address"`
	Labels   map[string]string `json:"labels"`
	State    string            `json:"state"`
	Engine   string            `json:"engine"`
	Capacity types.Capacity    `json:"capacity"`
	Metrics  struct {
		Address  string `json:"address"`
		Path     string `json:"path"`
		Scheme   string `json:"scheme"`
		Disabled bool   `json:"disabled"`
	} `json:"metrics"`
}

// DecodeEndpoint reads one endpoint from JSON in the form that FileSource
// describes, without pool, for a configuration file of another kind. Names of
// fields are exact, an unknown or repeated one is an error. The error joins all that is
// wrong, each with its place in data.
func DecodeEndpoint(data []byte) (EndpointSpec, error) {
	doc, err := strictjson.Parse(data, strictjson.Options{Package: "datastore"})
	if err != nil {
		return EndpointSpec{}, err
	}
	var form endpointForm
	if err := doc.Decode(&form); err != nil {
		return EndpointSpec{}, err
	}
	spec, err := form.spec()
	return spec, doc.Locate(err)
}

func (e *endpointForm) spec() (EndpointSpec, error) {
	spec := EndpointSpec{
		ID: e.ID, Address: e.Address, Labels: e.Labels, Engine: e.Engine, Capacity: e.Capacity,
		MetricsAddress: e.Metrics.Address, MetricsPath: e.Metrics.Path,
		MetricsScheme: e.Metrics.Scheme, NoMetrics: e.Metrics.Disabled,
	}
	var c check.Checks
	switch e.State {
	case "", types.Ready.String():
	case types.Draining.String():
		spec.State = types.Draining
	case types.Unhealthy.String():
		spec.State = types.Unhealthy
	default:
		c.OneOf("state", e.State, "ready", "draining", "unhealthy")
	}
	c.Add("", spec.validate())
	return spec, c.Err()
}

// parseFile reads a file as FileSource describes it. All that is wrong with it
// is in the error, one a line, unless it is no JSON of this form.
func parseFile(path string, data []byte) (Change, error) {
	var form fileForm
	doc, err := strictjson.Parse(data, strictjson.Options{Package: "datastore", File: path})
	if err == nil {
		err = doc.Decode(&form)
	}
	if err != nil {
		return Change{}, err
	}
	var (
		change Change
		errs   check.Errors
	)
	if form.Manifests != nil {
		change.OnlyObjects = true
		for i, raw := range *form.Manifests {
			objs, err := types.DecodeManifests(raw)
			errs = append(errs, manifestErrors(doc, fmt.Sprintf("manifests[%d]", i), err)...)
			change.Objects = append(change.Objects, objs...)
		}
	}
	if form.Endpoints != nil {
		change.Endpoints = make(map[types.NamespacedName][]EndpointSpec)
		for i := range *form.Endpoints {
			e, path := &(*form.Endpoints)[i], fmt.Sprintf("endpoints[%d]", i)
			spec, err := e.spec()
			if err != nil {
				errs = append(errs, check.Under(path, err)...)
				continue
			}
			pools, err := e.pools(change.Objects)
			errs = append(errs, check.Under(path, err)...)
			for _, pool := range pools {
				change.Endpoints[pool] = append(change.Endpoints[pool], spec)
			}
		}
	}
	return change, doc.Locate(errs.Err())
}

// manifestErrors are those of package types, at their places in the document.
func manifestErrors(doc *strictjson.Document, path string, err error) check.Errors {
	errs := check.From(err)
	for _, e := range errs {
		if f := (*types.FieldError)(nil); errors.As(e.Err, &f) {
			e.Problem = path + ": " + f.Text()
			e.Line, e.Column = doc.Within(path, f.Line, f.Column)
		}
	}
	return errs
}

// pools returns the pools that e belongs to.
func (e *fileEndpoint) pools(objects []types.Object) ([]types.NamespacedName, error) {
	if e.Pool != "" {
		namespace, name, ok := strings.Cut(e.Pool, "/")
		if !ok {
			namespace, name = types.DefaultNamespace, e.Pool
		}
		if namespace == "" || name == "" || strings.Contains(name, "/") {
			return nil, &check.Error{Field: "pool", Value: e.Pool, Want: "name or namespace/name"}
		}
		return []types.NamespacedName{{Namespace: namespace, Name: name}}, nil
	}
	var pools []types.NamespacedName
	for _, o := range objects {
		if p, ok := o.(*types.InferencePool); ok && p.Spec.Selector.Matches(e.Labels) {
			pools = append(pools, p.Key())
		}
	}
	if len(pools) == 0 {
		return nil, &check.Error{Field: "pool", Problem: "is required: no pool in manifests selects the endpoint by its labels"}
	}
	return pools, nil
}
