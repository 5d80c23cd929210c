package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/inferpick/inferpick/types"
)

// decoded is an object of a target.
type decoded[T any] struct {
	name    types.NamespacedName
	version string // its resourceVersion
	object  T
}

// identity is the part of the metadata that says which version of which object it is.
type identity struct {
	Name            string `json:"name"`
	Namespace       string `json:"namespace"`
	ResourceVersion string `json:"resourceVersion"`
}

func (d *decoded[T]) identify(i *identity) {
	d.name, d.version = types.NamespacedName{Namespace: i.Namespace, Name: i.Name}, i.ResourceVersion
}

// mirror is a copy of the objects of a target, kept up to date by a list and watches. It never
// gives up, and it drops an object only when the server says that it is gone: by an event, or by
// a list that was read to its end.
//
// It does what a Reflector of client-go does, for objects that are decoded one by one into small
// structs. A Reflector holds a list as a whole, waits after failures without regard to its
// context, and does not tell a missing right from a server that is away.
type mirror[T any] struct {
	target
	client *client
	decode func(decode func(any) error) (decoded[T], error) // with the name also of what is wrong otherwise
	log    *slog.Logger
	kick   chan struct{}      // ends the wait after a failure
	cancel context.CancelFunc // ends run

	// For run alone.
	at    string // the resource version up to which all is known
	stale bool   // a list is needed
	exact bool   // which must be the newest: the server does not have at
	retry retry
	begun time.Time // when the watch did

	// mu is that of the source. It guards the rest and is held during the calls of carry,
	// changed and update.
	mu      *sync.Mutex
	carry   func(old, new T) (T, bool) // the object to keep, and whether it has changed; old may be zero
	changed func(old, new T)           // an object is new, another or gone; what is not there is zero
	update  func()                     // after one or more of these, or of status
	probe   chan struct{}              // told when the server may be away
	objects map[types.NamespacedName]T
	synced  bool // a list was read
	failing bool // and logged, with this class
	class   failure
	status  KindStatus
}

// errShort is a watch that the server ended as soon as it began.
var errShort = errors.New("the server ends watches at once")

// A watch that lives so long, or brings something after brief, ends what failed before: one that
// breaks at once after its first event, again and again, does not.
const (
	brief = time.Second
	calm  = 10 * time.Second
)

// run keeps the mirror up to date until ctx is done.
func (m *mirror[T]) run(ctx context.Context) {
	m.at, m.stale = "0", true
	for ctx.Err() == nil {
		step := m.watch
		if m.stale {
			step = m.list
		}
		if err := guarded(func() error { return step(ctx) }); err != nil && ctx.Err() == nil {
			m.pause(ctx, err)
		}
	}
}

// pause records a failure and waits.
func (m *mirror[T]) pause(ctx context.Context, err error) {
	class := classify(err)
	if class == expired {
		m.exact = m.stale // it was the list that asked for too much
	}
	panicked := errors.As(err, new(*panicError)) // somewhere between an event and what is known of it
	m.stale = m.stale || class == expired || class == notServed || panicked
	wait := m.retry.failed(err)
	if wait >= firstWait {
		m.down(err, class)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-m.kick:
	case <-timer.C:
	}
}

// list reads all objects.
func (m *mirror[T]) list(ctx context.Context) error {
	after := m.at
	if m.exact {
		after = ""
	}
	m.mu.Lock()
	m.status.Lists++
	if m.synced {
		m.status.Relists++
	}
	m.mu.Unlock()
	objects := make(map[types.NamespacedName]T)
	version, err := m.client.list(ctx, m.target, after, func(decode func(any) error) error {
		d, err := m.decode(decode)
		if d.name.Name == "" {
			return m.unreadable(err)
		}
		if err == nil {
			objects[d.name] = d.object
		} else if old, ok := m.object(d.name); ok {
			objects[d.name] = old // it is there, whatever it is like now
		}
		return m.unreadable(err)
	})
	if err != nil {
		return err
	}
	m.at, m.stale, m.exact = version, false, false
	m.replace(objects)
	m.recovered()
	return nil
}

// replace makes objects those of the mirror.
func (m *mirror[T]) replace(objects map[types.NamespacedName]T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.objects {
		if _, ok := objects[name]; !ok {
			m.removeLocked(name)
		}
	}
	for name, o := range objects {
		m.putLocked(name, o)
	}
	m.synced = true
	m.status.LastEvent = time.Now()
	m.upLocked()
}

// watch follows changes until the server ends the watch, which is no error.
func (m *mirror[T]) watch(ctx context.Context) error {
	m.begun = time.Now()
	err := m.client.watch(ctx, m.target, m.at, m.opened, m.event)
	lived := time.Since(m.begun)
	if lived >= calm {
		m.retry.succeeded()
	}
	if err == nil && lived < brief {
		return errShort
	}
	return err
}

func (m *mirror[T]) opened() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.Watches++
	if !m.status.Up {
		m.upLocked()
	}
}

// event takes an event of the watch.
func (m *mirror[T]) event(kind string, object json.RawMessage) error {
	d, err := m.decodeEvent(kind, object)
	if m.unreadable(err) != nil {
		return err
	}
	if time.Since(m.begun) >= brief {
		m.retry.succeeded()
	}
	m.recovered()
	if d.version != "" {
		m.at = d.version
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.LastEvent = time.Now()
	switch {
	case d.name.Name == "": // a bookmark, or nobody knows of what
	case kind == "DELETED":
		m.removeLocked(d.name)
		m.update()
	case err == nil: // ADDED, MODIFIED
		m.putLocked(d.name, d.object)
		m.update()
	}
	return nil
}

func (m *mirror[T]) decodeEvent(kind string, object json.RawMessage) (decoded[T], error) {
	if kind != "BOOKMARK" {
		return m.decode(func(to any) error { return json.Unmarshal(object, to) })
	}
	var mark struct {
		Metadata listMeta `json:"metadata"`
	}
	err := json.Unmarshal(object, &mark)
	return decoded[T]{version: mark.Metadata.ResourceVersion}, err
}

// unreadable returns the errors of a stream. An object whose fields have other types than the
// API says is no such error, but logged and ignored.
func (m *mirror[T]) unreadable(err error) error {
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		m.log.Warn("an object in the cluster cannot be read and is ignored",
			slog.String("resource", m.resource.String()), slog.Any("error", err))
		return nil
	}
	return err
}

func (m *mirror[T]) object(name types.NamespacedName) (T, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[name]
	return o, ok
}

// putLocked stores an object. Caller must hold m.mu.
func (m *mirror[T]) putLocked(name types.NamespacedName, o T) {
	old := m.objects[name]
	kept, changed := m.carry(old, o)
	m.objects[name] = kept
	if changed {
		m.changed(old, kept)
	}
}

// removeLocked drops an object, if it is there. Caller must hold m.mu.
func (m *mirror[T]) removeLocked(name types.NamespacedName) {
	if old, ok := m.objects[name]; ok {
		delete(m.objects, name)
		var none T
		m.changed(old, none)
	}
}

// upLocked notes that all is known and kept up to date. Caller must hold m.mu.
func (m *mirror[T]) upLocked() {
	m.status.Up, m.status.Err = true, nil
	m.update()
}

// hurryLocked ends the wait of a mirror that could not reach the server. Caller must hold m.mu.
func (m *mirror[T]) hurryLocked() {
	if !m.status.Up && m.class == otherFailure {
		signal(m.kick)
	}
}

// recovered notes that a failure is over: a watch alone that the server accepts is no sign of
// that.
func (m *mirror[T]) recovered() {
	m.mu.Lock()
	failing := m.failing
	m.failing = false
	m.mu.Unlock()
	if failing {
		m.log.Info("reading from the cluster again", m.about()...)
	}
}

// down notes a failure. It is logged unless the one before was of the same class.
func (m *mirror[T]) down(err error, class failure) {
	err = explain(err, m.target)
	m.mu.Lock()
	m.status.Up, m.status.Err = false, err
	known := m.failing && m.class == class
	m.failing, m.class = true, class
	m.update()
	m.mu.Unlock()
	if !known && class == otherFailure {
		signal(m.probe)
	}
	if !known {
		tell(m.log, slog.LevelWarn, "cannot read from the cluster; what is known stays in force", err, m.about()...)
	}
}

func (m *mirror[T]) about() []any {
	return []any{slog.String("resource", m.resource.String()), slog.String("version", m.Version),
		slog.String("namespace", m.namespace), slog.String("selector", m.labels)}
}

// reportLocked returns the state. Caller must hold m.mu.
func (m *mirror[T]) reportLocked() KindStatus {
	st := m.status
	st.GroupVersionResource, st.Kind, st.Namespace, st.Selector = m.GroupVersionResource, m.kind, m.namespace, m.labels
	st.Objects = len(m.objects)
	return st
}
