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
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/internal/strictjson"
	"github.com/inferpick/inferpick/types"
)

// FileOptions configure a FileSource. The zero value works.
type FileOptions struct {
	// Interval is the time between checks of the file. Default 1s, at least 10ms.
	Interval time.Duration

	// MaxBytes bounds the size of the file; larger ones are refused with ErrLimit. Default
	// 16 MiB.
	MaxBytes int64

	// Logger receives new versions and errors, repeated ones only once. Nil: no logging.
	Logger *slog.Logger

	// OnLoad, if not nil, is called after each attempt to apply a version of the file, with nil
	// if it succeeded. It is called by the goroutine in Load or Run and must not call Load.
	OnLoad func(error)
}

// FileSource keeps a Store in sync with a JSON file:
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
// An endpoint requires only address. With ranks, as in
//
//	{"address": "10.0.0.2:8000", "ranks": 8}
//
// it stands for the endpoints of that many data-parallel ranks behind one address, see
// EndpointSpec.PerRank; with rank too, as in "rank": 3, it is one of them. Without pool it belongs to all pools in manifests whose
// selector matches its labels, at least one.
//
// What an endpoint is for in disaggregated serving its labels say, as in
//
//	{"address": "10.0.0.3:8000", "labels": {"llm-d.ai/role": "prefill"}}
//
// see EndpointSpec.Roles.
//
// If manifests is present, even empty, it is the complete set of the store's manifests, so a
// store should have only one such source. If endpoints is present, it is the complete list for
// each pool that it or an earlier version names; other pools are left to other sources. A new
// version is applied atomically or not at all.
//
// If others delete a pool and create it again, it gets its endpoints back: at once while Run is
// running, otherwise with the next Load.
//
// The path must be that of a regular file or a link to one; pipes and devices are not opened.
//
// Create one with NewFileSource.
type FileSource struct {
	store  *Store
	path   string
	opt    FileOptions
	panics *guard.Teller

	// loading is held during an attempt and guards the following.
	loading sync.Mutex
	watch   *filewatch.Watch
	pools   map[types.NamespacedName]given // whose endpoints come from here
	logged  string                         // the last error that was logged

	mu  sync.Mutex // held for a moment only
	err error      // of the last attempt
}

// NewFileSource returns a source for store that reads the file at path. It does nothing until
// Load or Run is called.
func NewFileSource(store *Store, path string, o FileOptions) *FileSource {
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	o.Interval = max(o.Interval, 10*time.Millisecond)
	o.Logger = guardlog.Logger(o.Logger)
	return &FileSource{store: store, path: path, opt: o, panics: guardlog.Teller(o.Logger, "datastore: FileSource"), watch: filewatch.New(filewatch.Options{
		Paths: []string{path}, MaxBytes: o.MaxBytes, Bound: "FileOptions.MaxBytes", Quiet: 50 * time.Millisecond,
	})}
}

// Load reads the file and applies it, if it has changed. The error names file, field and rule; if
// the file has not changed, it is that of the last attempt.
func (f *FileSource) Load() error {
	f.loading.Lock()
	defer f.loading.Unlock()
	return f.look(f.watch.Read)
}

// Run checks the file at once, at every interval and when a pool is added, until ctx is done, and
// then returns nil. It continues if the file is missing or invalid; call Load first to find out.
func (f *FileSource) Run(ctx context.Context) error {
	wake, stop := f.store.wakeOnPools()
	defer stop()
	filewatch.Every(ctx, f.opt.Interval, wake, func() {
		f.loading.Lock()
		defer f.loading.Unlock()
		f.panics.Call("Run", func() { _ = f.look(f.watch.Look) }) // reported by attempt
	})
	return nil
}

// Err returns the error of the last attempt, or nil if that version is in force. It does not wait
// for a load in progress.
func (f *FileSource) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// look applies the file if read returns a new version of it. Caller must hold f.loading.
func (f *FileSource) look(read func() (*filewatch.Version, error)) error {
	if _, err := f.store.refill(f.pools); err != nil {
		f.watch.Forget() // apply the file anew, or report why that fails
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

// attempt records and reports a result. Errors that need not be the file's fault (it cannot be
// read, the store refuses it) are not final: they are reported once, and retried without a new
// version.
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
		f.panics.Call("FileOptions.OnLoad", func() { f.opt.OnLoad(err) })
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

// stays reports whether a pool of an earlier version exists after the change: setting endpoints
// of one that does not would create it.
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
	Rank     *int              `json:"rank"`
	Ranks    *int              `json:"ranks"`
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

// DecodeEndpoint decodes one endpoint from JSON as FileSource describes it, without pool, for
// use in other configuration files. Field names are case-sensitive; unknown and duplicate fields
// are errors, and so is ranks without rank, which stands for several. The error lists all problems
// with their positions in data.
func DecodeEndpoint(data []byte) (EndpointSpec, error) {
	specs, err := decodeEndpoints(data, true)
	if err != nil {
		return EndpointSpec{}, err
	}
	return specs[0], nil
}

// DecodeEndpoints is DecodeEndpoint for JSON that may stand for the endpoints of all ranks of a server.
func DecodeEndpoints(data []byte) ([]EndpointSpec, error) { return decodeEndpoints(data, false) }

func decodeEndpoints(data []byte, one bool) ([]EndpointSpec, error) {
	doc, err := strictjson.Parse(data, strictjson.Options{Package: "datastore"})
	if err != nil {
		return nil, err
	}
	var form endpointForm
	if err := doc.Decode(&form); err != nil {
		return nil, err
	}
	specs, err := form.specs()
	if err == nil && one && form.Ranks != nil && form.Rank == nil {
		err = check.Errors{{Field: "ranks", Problem: "stands for several endpoints, where one is wanted: add rank"}}
	}
	if err != nil {
		return nil, doc.Locate(err)
	}
	return specs, nil
}

// specs returns the endpoints that e stands for: one, or one for each rank.
func (e *endpointForm) specs() ([]EndpointSpec, error) {
	spec, err := e.spec()
	if err != nil {
		return nil, err
	}
	if e.Ranks != nil && e.Rank == nil {
		return spec.PerRank(*e.Ranks), nil
	}
	return []EndpointSpec{spec}, nil
}

// spec returns the endpoint, or if e stands for several what they have in common.
func (e *endpointForm) spec() (EndpointSpec, error) {
	spec := EndpointSpec{
		ID: e.ID, Address: e.Address, Labels: e.Labels, Engine: e.Engine, Capacity: e.Capacity,
		MetricsAddress: e.Metrics.Address, MetricsPath: e.Metrics.Path,
		MetricsScheme: e.Metrics.Scheme, NoMetrics: e.Metrics.Disabled,
	}
	var c check.Checks
	switch {
	case e.Rank != nil && e.Ranks == nil:
		c.Failf("rank", "is of no effect without ranks: how many the server has")
	case e.Rank != nil:
		spec.Rank = types.Rank{Index: *e.Rank, Of: *e.Ranks}
	case e.Ranks != nil:
		check.Range(&c, "ranks", *e.Ranks, 1, types.LimitRanks)
	}
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

// maxFileEndpoints bounds the endpoints that a file makes, of which ranks may make many out of little.
const maxFileEndpoints = 1 << 20

// parseFile decodes a file as FileSource describes it. The error lists all problems, one per
// line, unless the JSON itself does not have this form.
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
		n := 0
		for i := range *form.Endpoints {
			e, path := &(*form.Endpoints)[i], fmt.Sprintf("endpoints[%d]", i)
			specs, err := e.specs()
			if err != nil {
				errs = append(errs, check.Under(path, err)...)
				continue
			}
			pools, err := e.pools(change.Objects)
			errs = append(errs, check.Under(path, err)...)
			if n += len(specs) * len(pools); n > maxFileEndpoints {
				errs = append(errs, &check.Error{Field: path, Problem: fmt.Sprintf("ranks make more than %d endpoints of the file", maxFileEndpoints)})
				break
			}
			for _, pool := range pools {
				change.Endpoints[pool] = append(change.Endpoints[pool], specs...)
			}
		}
	}
	return change, doc.Locate(errs.Err())
}

// manifestErrors converts errors of package types, with their positions in the document.
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
