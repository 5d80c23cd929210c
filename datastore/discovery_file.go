package datastore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/filewatch"
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
	change, err := parseFile(version.Files[0].Data)
	if err != nil {
		return f.attempt(fmt.Errorf("datastore: file %s: %w", f.path, err), true)
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
	Pool     string            `json:"pool"`
	ID       string            `json:"id"`
	Address  string            `json:"address"`
	Labels   map[string]string `json:"labels"`
	State    string            `json:"state"`
	Engine   string            `json:"engine"`
	Capacity struct {
		Speed          float64 `json:"speed"`
		MaxConcurrency int     `json:"maxConcurrency"`
		KVTokens       int     `json:"kvTokens"`
		CostPerHour    float64 `json:"costPerHour"`
	} `json:"capacity"`
	Metrics struct {
		Address  string `json:"address"`
		Path     string `json:"path"`
		Scheme   string `json:"scheme"`
		Disabled bool   `json:"disabled"`
	} `json:"metrics"`
}

// DecodeEndpoint reads one endpoint from JSON in the form that FileSource
// describes, without pool, for a configuration file of another kind. Names of
// fields are exact, an unknown or repeated one is an error.
//
// The error begins with the field, without the name of this package, so that a
// caller can say before it where the endpoint is: "spec.endpoints[1].%w".
func DecodeEndpoint(data []byte) (EndpointSpec, error) {
	var form fileEndpoint
	if err := exactNames(data, form); err != nil {
		return EndpointSpec{}, err
	}
	if _, err := decode(data, &form, "endpoint"); err != nil {
		return EndpointSpec{}, err
	}
	if _, err := findTwice(data); err != nil {
		return EndpointSpec{}, err
	}
	return form.spec()
}

// exactNames refuses names that are no fields of form in the very spelling, which
// encoding/json does not mind, and pool. What is no JSON object passes.
func exactNames(data []byte, form fileEndpoint) error {
	var got, want map[string]any
	if json.Unmarshal(data, &got) != nil {
		return nil
	}
	known, err := json.Marshal(form)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(known, &want); err != nil {
		return err
	}
	delete(want, "pool")
	return sameNames(got, want, "")
}

func sameNames(got, want map[string]any, path string) error {
	for _, name := range slices.Sorted(maps.Keys(got)) {
		w, ok := want[name]
		if !ok {
			return fmt.Errorf("%s is not a field of an endpoint", path+name)
		}
		inner, _ := got[name].(map[string]any)
		if w, ok := w.(map[string]any); ok {
			if err := sameNames(inner, w, path+name+"."); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *fileEndpoint) spec() (EndpointSpec, error) {
	spec := EndpointSpec{
		ID: e.ID, Address: e.Address, Labels: e.Labels, Engine: e.Engine,
		Capacity:       types.Capacity(e.Capacity),
		MetricsAddress: e.Metrics.Address, MetricsPath: e.Metrics.Path,
		MetricsScheme: e.Metrics.Scheme, NoMetrics: e.Metrics.Disabled,
	}
	switch e.State {
	case "", types.Ready.String():
	case types.Draining.String():
		spec.State = types.Draining
	case types.Unhealthy.String():
		spec.State = types.Unhealthy
	default:
		return spec, fmt.Errorf("state must be ready, draining or unhealthy, got %s", shorten(e.State))
	}
	return spec, spec.validate()
}

// parseFile reads a file as FileSource describes it. All that is wrong with it
// is in the error, one a line, unless it is no JSON of this form.
func parseFile(data []byte) (Change, error) {
	var form fileForm
	if err := decodeStrict(data, &form); err != nil {
		return Change{}, err
	}
	var (
		change Change
		errs   []error
	)
	if form.Manifests != nil {
		change.OnlyObjects = true
		for i, raw := range *form.Manifests {
			objs, err := types.DecodeManifests(raw)
			if err != nil {
				errs = append(errs, fmt.Errorf("manifests[%d]: %w", i, err))
			}
			change.Objects = append(change.Objects, objs...)
		}
	}
	if form.Endpoints != nil {
		change.Endpoints = make(map[types.NamespacedName][]EndpointSpec)
		for i := range *form.Endpoints {
			e := &(*form.Endpoints)[i]
			spec, err := e.spec()
			if err != nil {
				errs = append(errs, fmt.Errorf("endpoints[%d].%w", i, err))
				continue
			}
			pools, err := e.pools(change.Objects)
			if err != nil {
				errs = append(errs, fmt.Errorf("endpoints[%d].%w", i, err))
			}
			for _, pool := range pools {
				change.Endpoints[pool] = append(change.Endpoints[pool], spec)
			}
		}
	}
	return change, errors.Join(errs...)
}

// pools returns the pools that e belongs to.
func (e *fileEndpoint) pools(objects []types.Object) ([]types.NamespacedName, error) {
	if e.Pool != "" {
		namespace, name, ok := strings.Cut(e.Pool, "/")
		if !ok {
			namespace, name = types.DefaultNamespace, e.Pool
		}
		if namespace == "" || name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("pool must be name or namespace/name, got %s", shorten(e.Pool))
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
		return nil, errors.New("pool is required: no pool in manifests selects the endpoint by its labels")
	}
	return pools, nil
}

// decodeStrict reads data into v: known fields only, each at most once, nothing
// after. Its errors say line and column.
func decodeStrict(data []byte, v any) error {
	offset, err := decode(data, v, "the file")
	if err == nil {
		offset, err = findTwice(data)
	}
	if err != nil && offset >= 0 {
		return fmt.Errorf("%s: %w", position(data, offset), err)
	}
	return err
}

// decode reads data into v, which what names: known fields only, nothing after.
// With an error it returns the offset it is at, -1 if that is not known.
func decode(data []byte, v any, what string) (int64, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			return dec.InputOffset(), errors.New("there is something after the end of the JSON object")
		}
		return -1, nil
	}
	var (
		syntax *json.SyntaxError
		kind   *json.UnmarshalTypeError
	)
	switch {
	case errors.As(err, &syntax):
		return max(syntax.Offset-1, 0), err
	case errors.As(err, &kind):
		return max(kind.Offset-1, 0), fmt.Errorf("%s must be %s, got %s", cmp.Or(kind.Field, what), jsonName(kind.Type), kind.Value)
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		return int64(len(data)), errors.New("unexpected end of JSON input")
	}
	return -1, err
}

// jsonName is what a Go type is in JSON.
func jsonName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice:
		return "an array"
	case reflect.Int:
		return "an integer"
	case reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	}
	return "a string"
}

// findTwice refuses a name that an object has twice, and returns where:
// encoding/json would take the last one and drop the others in silence. data is
// valid JSON.
func findTwice(data []byte) (int64, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	var open []map[string]bool // names seen, by nesting; nil for an array
	name := false              // the next string is a name
	for {
		tok, err := dec.Token()
		if err != nil {
			return -1, nil // the end: the data was valid
		}
		switch tok {
		case json.Delim('{'):
			open = append(open, make(map[string]bool))
			name = true
			continue
		case json.Delim('['):
			open = append(open, nil)
			name = false
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		default:
			if s, ok := tok.(string); ok && name {
				names := open[len(open)-1]
				if names[s] {
					return dec.InputOffset() - 1, fmt.Errorf("field %s is there twice", shorten(s))
				}
				names[s] = true
				name = false
				continue
			}
		}
		name = len(open) > 0 && open[len(open)-1] != nil
	}
}

// position says where in data an offset is.
func position(data []byte, offset int64) string {
	offset = min(max(offset, 0), int64(len(data)))
	before := data[:offset]
	return fmt.Sprintf("line %d, column %d", 1+bytes.Count(before, []byte("\n")), len(before)-bytes.LastIndexByte(before, '\n'))
}
