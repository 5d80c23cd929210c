package rollout

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"sync"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/atomicfile"
	"github.com/inferpick/inferpick/internal/filewatch"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/internal/strictjson"
	"github.com/inferpick/inferpick/types"
)

// StoreHome keeps weights in the manifests of a datastore.Store, and states in a file or in memory
// alone. Each gateway has one of its own.
//
// Manifests may come into the store again with the weights they had before the rollout: a file is read
// anew, an API server tells all. Then StoreHome writes those of the rollout again, with the next Read.
// Any other weights are an edit, which Read returns.
//
// Create one with NewStoreHome. Methods may be called from any goroutine.
type StoreHome struct {
	store  *datastore.Store
	path   string
	logger *slog.Logger

	mu sync.Mutex // held also while a file is written, but not while the store is changed by others
	// guarded by mu
	kept  map[Object]*keptRecord
	stale bool  // the file lacks something that was written
	err   error // why
}

// keptRecord is what a StoreHome keeps of an object.
type keptRecord struct {
	written []Weight // by Write, last; nil: it has written none
	base    []Weight // that were there before that and come from whoever has the manifest
	state   json.RawMessage
	plan    json.RawMessage // of one that was started by Start; nil: of an annotation
}

// StoreHomeOptions configure a StoreHome. The zero value keeps states in memory.
type StoreHomeOptions struct {
	// Path is that of a file that keeps states over a restart, which only its owner may read. Its
	// directory must be there. Empty: a program that starts again begins rollouts anew, with the
	// weights of the manifests.
	Path string
	// Logger is told when the file cannot be written. Nil: silence.
	Logger *slog.Logger
}

// maxStateFile bounds the file of a StoreHome, in bytes.
const maxStateFile = 16 << 20

// NewStoreHome returns a StoreHome for the manifests of store. An error says why the file of
// StoreHomeOptions.Path, which may be missing, is not what a StoreHome has written.
func NewStoreHome(store *datastore.Store, o StoreHomeOptions) (*StoreHome, error) {
	if store == nil {
		return nil, errors.New("rollout: NewStoreHome without a datastore.Store")
	}
	h := &StoreHome{store: store, path: o.Path, logger: guardlog.Logger(o.Logger), kept: map[Object]*keptRecord{}}
	if h.path == "" {
		return h, nil
	}
	err := h.load()
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return h, err
}

// Local reports that other gateways have homes of their own.
func (h *StoreHome) Local() bool { return true }

// Read implements Home. The error wraps datastore.ErrNoObject if there is no such manifest.
func (h *StoreHome) Read(ctx context.Context, o Object) (Record, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stale {
		h.save()
	}
	weights, err := h.weights(o)
	if err != nil {
		return Record{}, err
	}
	k := h.kept[o]
	if k == nil {
		k = &keptRecord{}
	}
	if k.written != nil && !SameShares(weights, k.written) && SameShares(weights, k.base) {
		err := h.put(o, k.written, func(now []Weight) error {
			if !SameShares(now, k.base) {
				return ErrConflict
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrConflict) { // which the next Read sees
			return Record{}, err
		}
		if weights, err = h.weights(o); err != nil {
			return Record{}, err
		}
	}
	return Record{Revision: revision(weights, k.state), Weights: weights, State: slices.Clone(k.state)}, nil
}

// Write implements Home. That the file cannot be written is no error, since traffic must be moved
// away from a bad target nevertheless: Logger is told, and it is tried again.
func (h *StoreHome) Write(ctx context.Context, o Object, r Record) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	had := h.kept[o]
	k := keptRecord{}
	if had != nil {
		k = *had
	}
	err := h.put(o, r.Weights, func(now []Weight) error {
		if r.Revision != "" && r.Revision != revision(now, k.state) {
			return ErrConflict
		}
		if k.written == nil || !SameShares(now, k.written) { // somebody else's
			k.base = slices.Clone(now)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	k.written, k.state = slices.Clone(r.Weights), compact(r.State)
	h.kept[o] = &k
	h.save()
	return revision(k.written, k.state), nil
}

// Plans returns the plans that KeepPlan has kept.
func (h *StoreHome) Plans() []Plan {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []Plan
	for o, k := range h.kept {
		if k.plan == nil {
			continue
		}
		if p, err := DecodePlan(k.plan, o); err == nil { // load has looked at it
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b Plan) int { return compareObjects(a.Object, b.Object) })
	return all
}

// Rules returns the rules of an InferenceModelRewrite of which something is kept.
func (h *StoreHome) Rules(kind string, name types.NamespacedName) (rules []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for o := range h.kept {
		if o.Kind == kind && o.Name == name {
			rules = append(rules, o.Rule)
		}
	}
	slices.Sort(rules)
	return rules
}

// KeepPlan keeps a plan that is in no manifest, for the program that comes after this one.
func (h *StoreHome) KeepPlan(p Plan) {
	data, err := json.Marshal(p)
	if err != nil {
		return // a plan that was validated has no such value
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.kept[p.Object]
	if k == nil {
		k = &keptRecord{}
		h.kept[p.Object] = k
	}
	k.plan = data
	h.save()
}

// Forget forgets all that is kept of a rollout that has ended. The manifest stays as it is.
func (h *StoreHome) Forget(o Object) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.kept[o] == nil {
		return
	}
	delete(h.kept, o)
	h.save()
}

// Err returns why the file lacks something that was written last, or nil.
func (h *StoreHome) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

func (h *StoreHome) weights(o Object) ([]Weight, error) {
	object := h.store.Object(o.Kind, o.Name)
	if object == nil {
		return nil, fmt.Errorf("rollout: %w: %s %s", datastore.ErrNoObject, o.Kind, o.Name)
	}
	return WeightsOf(object, o.Rule)
}

// put writes weights into the manifest in one step, if may has nothing against what is there.
func (h *StoreHome) put(o Object, weights []Weight, may func(now []Weight) error) error {
	return h.store.Edit(o.Kind, o.Name, func(object types.Object) error {
		now, err := WeightsOf(object, o.Rule)
		if err != nil {
			return err
		}
		if err := may(now); err != nil {
			return err
		}
		return SetWeights(object, o.Rule, weights)
	})
}

// revision tells what is there from what was.
func revision(weights []Weight, state []byte) string {
	weights = slices.DeleteFunc(slices.Clone(weights), func(w Weight) bool { return w.Weight == 0 })
	slices.SortFunc(weights, func(a, b Weight) int { return cmp.Compare(a.Target, b.Target) })
	hash := fnv.New64a()
	for _, w := range weights {
		fmt.Fprintf(hash, "%q %d ", w.Target, w.Weight)
	}
	hash.Write(state)
	return strconv.FormatUint(hash.Sum64(), 16)
}

func compact(state []byte) json.RawMessage {
	var b bytes.Buffer
	if json.Compact(&b, state) != nil {
		return nil // it is none
	}
	return b.Bytes()
}

// The form of the file.
type stateFile struct {
	Version  int           `json:"version"`
	Rollouts []stateObject `json:"rollouts"`
}

type stateObject struct {
	Kind      string          `json:"kind"`
	Namespace string          `json:"namespace"`
	Name      string          `json:"name"`
	Rule      int             `json:"rule,omitempty"`
	Written   []Weight        `json:"written,omitempty"`
	Base      []Weight        `json:"base,omitempty"`
	State     json.RawMessage `json:"state,omitempty"`
	Plan      json.RawMessage `json:"plan,omitempty"`
}

const stateVersion = 1

func (h *StoreHome) load() error {
	v, err := filewatch.New(filewatch.Options{Paths: []string{h.path}, MaxBytes: maxStateFile, Bound: "the bound of files of states"}).Read()
	if err != nil {
		return fmt.Errorf("rollout: %w", err)
	}
	var f stateFile
	if err := strictjson.Decode(v.Files[0].Data, &f, strictjson.Options{Package: "rollout", File: h.path}); err != nil {
		return err
	}
	if f.Version != stateVersion {
		return fmt.Errorf("rollout: %s has version %d, want %d", h.path, f.Version, stateVersion)
	}
	for _, o := range f.Rollouts {
		object := Object{Kind: o.Kind, Name: types.NamespacedName{Namespace: o.Namespace, Name: o.Name}, Rule: o.Rule}
		if o.Plan != nil {
			if _, err := DecodePlan(o.Plan, object); err != nil {
				return fmt.Errorf("rollout: %s: the plan of %s: %w", h.path, object, err)
			}
		}
		h.kept[object] = &keptRecord{written: o.Written, base: o.Base, state: compact(o.State), plan: o.Plan}
	}
	return nil
}

// save writes the file. Caller must hold h.mu.
func (h *StoreHome) save() {
	if h.path == "" {
		return
	}
	f := stateFile{Version: stateVersion, Rollouts: []stateObject{}}
	for o, k := range h.kept {
		f.Rollouts = append(f.Rollouts, stateObject{o.Kind, o.Name.Namespace, o.Name.Name, o.Rule, k.written, k.base, k.state, k.plan})
	}
	slices.SortFunc(f.Rollouts, func(a, b stateObject) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Rule, b.Rule))
	})
	data, err := json.Marshal(f)
	if err == nil {
		err = atomicfile.Write(h.path, append(data, '\n'))
	}
	if err != nil && h.err == nil {
		h.logger.Error("rollout: the state could not be kept, and is in memory alone for now", "path", h.path, "error", err)
	}
	h.stale, h.err = err != nil, err
}

func compareObjects(a, b Object) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), a.Name.Compare(b.Name), cmp.Compare(a.Rule, b.Rule))
}

var _ Home = (*StoreHome)(nil)
