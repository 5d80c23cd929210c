package rollouts

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	k8stypes "k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/guardlog"
)

// Options of a Home. The zero value is good.
type Options struct {
	// Timeout bounds one request. Default 10 s, at least 10 ms.
	Timeout time.Duration
	// Component and Instance say in events who reports. Defaults "inferpick.dev/rollouts" and the name of the host,
	// which in a pod is the pod's.
	Component, Instance string
	// NoEvents and NoConditions leave these out, for a process without the rights to write them.
	NoEvents, NoConditions bool
	// Logger hears of failures of events and conditions, repeated ones once. Nil: silence.
	Logger *slog.Logger
}

// Source says which objects there are, as kubernetes.Source does.
type Source interface {
	Objects() []kubernetes.Object
}

// Home keeps rollouts in the objects of a cluster. Its methods may be called from any goroutine. Make one with New.
type Home struct {
	o      Options
	client dynamic.Interface
	source Source
	teller *teller

	mu      sync.Mutex
	leading context.Context              // nil: nobody has asked this one to lead
	seen    map[rollout.Object]*lastSeen // guarded by mu
}

// lastSeen is an object as the server has shown it last.
type lastSeen struct {
	uid, version string
	at           time.Time
	record       rollout.Record
	editor       string // who else has written the weights; empty: nobody since the rollout did
}

// freshFor is for how long an object is not read again of which the source knows no other version: a source may be cut
// off without noticing.
const freshFor = 10 * time.Second

// fieldManager is the name under which the server keeps what is written here.
const fieldManager = "inferpick-rollouts"

// attempts bounds how often one Write is made anew because others write into the same object what does not matter.
const attempts = 5

// New returns a Home in the cluster of config, for the objects that source knows. It does nothing by itself.
//
// The default of 5 requests per second in config is raised; another value stays.
func New(config *rest.Config, source Source, o Options) (*Home, error) {
	c := check.Checks{Package: "rollouts: Options"}
	check.Default(&c, "Timeout", &o.Timeout, 10*time.Second, 10*time.Millisecond, 0)
	if err := c.Err(); err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	o.Component, o.Instance = cmp.Or(o.Component, "inferpick.dev/rollouts"), cmp.Or(o.Instance, host, "unknown")
	o.Logger = guardlog.Logger(o.Logger)
	config = rest.CopyConfig(config)
	if config.QPS == 0 && config.RateLimiter == nil {
		config.QPS, config.Burst = 50, 100
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("rollouts: %w", err)
	}
	h := &Home{o: o, client: client, source: source, seen: make(map[rollout.Object]*lastSeen)}
	h.teller = newTeller(h)
	return h, nil
}

// Lead lets this process write, until ctx is done: it is for lease.Elect. Where there is only one process, it is called
// with the context of its life.
func (h *Home) Lead(ctx context.Context) {
	h.mu.Lock()
	h.leading = ctx
	h.mu.Unlock()
	<-ctx.Done()
}

// Leads reports whether this process may write now.
func (h *Home) Leads() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.leading != nil && h.leading.Err() == nil
}

// term returns a context that is done when ctx is or this process no longer leads, or ErrNotLeader.
func (h *Home) term(ctx context.Context) (context.Context, context.CancelFunc, error) {
	h.mu.Lock()
	leading := h.leading
	h.mu.Unlock()
	if leading == nil || leading.Err() != nil {
		return nil, nil, ErrNotLeader
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(leading, func() { cancel(ErrNotLeader) })
	return ctx, func() { stop(); cancel(nil) }, nil
}

// Read implements rollout.Home. It asks the server, unless it has done so within 10 s and the source knows of no other
// version since. An object that is not there is ErrGone.
func (h *Home) Read(ctx context.Context, o rollout.Object) (rollout.Record, error) {
	known, err := h.find(o)
	if err != nil {
		return rollout.Record{}, err
	}
	if r, ok := h.fresh(o, known); ok {
		return r, nil
	}
	object, err := h.get(ctx, o, known)
	if err != nil {
		return rollout.Record{}, err
	}
	r, err := h.see(o, object)
	if err == nil && h.Leads() {
		h.teller.catchUp(o, object, r.State)
	}
	return r, err
}

// fresh returns what was read last, if that is still what the source knows.
func (h *Home) fresh(o rollout.Object, known kubernetes.Object) (rollout.Record, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.seen[o]
	if last == nil || last.uid != known.UID || last.version != known.ResourceVersion || time.Since(last.at) >= freshFor {
		return rollout.Record{}, false
	}
	r := last.record
	r.Weights, r.State = slices.Clone(r.Weights), bytes.Clone(r.State)
	return r, true
}

// see takes note of an object as the server has shown it, and returns what it holds.
func (h *Home) see(o rollout.Object, object *unstructured.Unstructured) (rollout.Record, error) {
	r, err := recordOf(object, o)
	if err != nil {
		return rollout.Record{}, fmt.Errorf("rollouts: %s %s: %w", o.Kind, o.Name, err)
	}
	last := &lastSeen{
		uid: string(object.GetUID()), version: object.GetResourceVersion(), at: time.Now(), editor: editorOf(object, o.Kind),
		record: rollout.Record{Revision: r.Revision, Weights: slices.Clone(r.Weights), State: bytes.Clone(r.State)},
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen[o] = last
	return r, nil
}

// Write implements rollout.Home. It returns ErrNotLeader outside of Lead, and rollout.ErrConflict if plan, state or
// weights are not those that Read returned, or the object is another one. After another error, such as no answer in
// time, it may have been written: Read tells, and the same Write made again succeeds if it was.
func (h *Home) Write(ctx context.Context, o rollout.Object, r rollout.Record) (string, error) {
	ctx, done, err := h.term(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	for range attempts {
		revision, err := h.replace(ctx, o, r)
		switch {
		case apierrors.IsConflict(err):
			continue // somebody has written between its two requests, perhaps what does not matter
		case err == nil:
			h.teller.state(o, r.State)
			return revision, nil
		case errors.Is(context.Cause(ctx), ErrNotLeader):
			err = fmt.Errorf("%w any more; it may have been written: %w", ErrNotLeader, err)
		}
		h.outdate(o)
		return "", err
	}
	h.outdate(o)
	return "", fmt.Errorf("%w: others write %s %s all the time", rollout.ErrConflict, o.Kind, o.Name)
}

// outdate has the next Read ask the server.
func (h *Home) outdate(o rollout.Object) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if last := h.seen[o]; last != nil {
		last.at = time.Time{}
	}
}

// replace writes r if what is there is what r was made from.
func (h *Home) replace(ctx context.Context, o rollout.Object, r rollout.Record) (string, error) {
	known, err := h.find(o)
	if err != nil {
		return "", err
	}
	object, err := h.get(ctx, o, known)
	if err != nil {
		return "", err
	}
	have, err := h.see(o, object)
	switch {
	case err != nil:
		return "", err
	case have.Revision == r.Revision:
	case len(r.State) > 0 && bytes.Equal(have.State, r.State) && rollout.SameShares(have.Weights, r.Weights):
		return have.Revision, nil // it was written before, and the answer was lost
	default:
		return "", fmt.Errorf("%w: %s %s", rollout.ErrConflict, o.Kind, o.Name)
	}
	patch, err := patchOf(object, o, r)
	if err != nil {
		return "", fmt.Errorf("rollouts: %s %s: %w", o.Kind, o.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, h.o.Timeout)
	defer cancel()
	object, err = h.client.Resource(known.Resource).Namespace(o.Name.Namespace).
		Patch(ctx, o.Name.Name, k8stypes.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return "", explain(err, "patch", known.Resource, o.Name)
	}
	have, err = h.see(o, object)
	return have.Revision, err
}

// get reads an object from the server.
func (h *Home) get(ctx context.Context, o rollout.Object, known kubernetes.Object) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, h.o.Timeout)
	defer cancel()
	object, err := h.client.Resource(known.Resource).Namespace(o.Name.Namespace).Get(ctx, o.Name.Name, metav1.GetOptions{})
	return object, explain(err, "get", known.Resource, o.Name)
}

// find returns what the source knows of an object: of those of the name in several API groups the one in force.
func (h *Home) find(o rollout.Object) (kubernetes.Object, error) {
	for _, one := range h.source.Objects() {
		if one.Kind == o.Kind && one.Name == o.Name && !errors.Is(one.Err, kubernetes.ErrShadowed) {
			return one, nil
		}
	}
	h.mu.Lock()
	delete(h.seen, o)
	h.mu.Unlock()
	return kubernetes.Object{}, fmt.Errorf("rollouts: %s %s: %w", o.Kind, o.Name, ErrGone)
}

// Editor returns who else has written an object's weights last, as the server has it of who wrote them, when it was
// read or written last: such as "kubectl-edit" or "argocd-controller". Empty: nobody else has since the rollout did.
func (h *Home) Editor(o rollout.Object) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if last := h.seen[o]; last != nil {
		return last.editor
	}
	return ""
}

var (
	_ rollout.Home = (*Home)(nil)
	_ Source       = (*kubernetes.Source)(nil)
)
