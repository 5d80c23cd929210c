// Package guardtest has every function that a user may put into a struct of options panic, one after the other. It
// finds them by their types, so that a test goes on being complete when there are more.
package guardtest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Fault is one function that panics as long as it is on.
type Fault struct {
	At    string // the field, and of an interface the method: "Hooks.Finished", "Transport.RoundTrip"
	off   atomic.Bool
	calls atomic.Int64
}

// Off ends it: the function does from now on what it is for.
func (f *Fault) Off() { f.off.Store(true) }

// Calls is how often the function was called, and panicked.
func (f *Fault) Calls() int { return int(f.calls.Load()) }

func (f *Fault) call(at string) {
	if at == f.At && !f.off.Load() {
		f.calls.Add(1)
		panic("of the user's: " + at)
	}
}

// Double makes a value of an interface that calls at with the name of each of its methods, in that, and then does what
// inner does, which may be nil.
type Double struct {
	of   reflect.Type
	make func(inner any, at func(method string)) any
}

// DoubleOf is a Double for fields of type I.
func DoubleOf[I any](make func(inner I, at func(method string)) I) Double {
	return Double{reflect.TypeFor[I](), func(inner any, at func(string)) any {
		i, _ := inner.(I)
		return make(i, at)
	}}
}

// Each calls run as a subtest for each function that base, a struct, has or lets have: fields of a function's type,
// and methods of fields that are interfaces, of which there has to be a Double; also those in structs and slices in
// it. Fields that are interfaces and not nil are Doubles, whatever panics. A *slog.Logger, an http.RoundTripper and an *http.Client need none. o is base with the function that panics;
// run does what has it called, ends the Fault, and looks whether all is as ever. It fails if the function was not
// called. Fields in but, with all in them, and methods are left out.
func Each[O any](t *testing.T, base O, doubles []Double, but []string, run func(t *testing.T, o O, f *Fault)) {
	t.Helper()
	for _, at := range functions(t, base, doubles, but) {
		t.Run(at, func(t *testing.T) {
			o, f := base, &Fault{At: at}
			w := walk{t: t, doubles: doubles, but: but, fault: f}
			w.value("", reflect.ValueOf(&o).Elem())
			run(t, o, f)
			require.NotZero(t, f.Calls(), "the test does not have it called")
		})
	}
}

// Functions are the names of the functions that base lets have, for tests that have tables of their own.
func Functions[O any](t *testing.T, base O) []string {
	t.Helper()
	return functions(t, base, nil, nil)
}

// functions are the names of all functions.
func functions[O any](t *testing.T, base O, doubles []Double, but []string) []string {
	t.Helper()
	w := walk{t: t, doubles: doubles, but: but, fault: new(Fault)}
	w.value("", reflect.ValueOf(&base).Elem())
	require.NotEmpty(t, w.found, "%T has no functions", base)
	for _, name := range but {
		require.True(t, w.left[name], "%T has no field %s that could be left out", base, name)
	}
	return w.found
}

// walk puts functions that call its fault into a struct.
type walk struct {
	t       *testing.T
	doubles []Double
	but     []string
	fault   *Fault
	found   []string
	left    map[string]bool
}

func (w *walk) value(at string, v reflect.Value) {
	if w.leaves(at) {
		return
	}
	switch v.Interface().(type) {
	case *slog.Logger:
		v.Set(reflect.ValueOf(slog.New(w.handler(at))))
		return
	case *http.Client:
		v.Set(reflect.ValueOf(w.client(at, v.Interface().(*http.Client))))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				w.value(strings.TrimPrefix(at+"."+f.Name, "."), v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Len() == 0 {
			return
		}
		own := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(own, v)
		v.Set(own)
		for i := range v.Len() {
			w.value(fmt.Sprintf("%s[%d]", at, i), v.Index(i))
		}
	case reflect.Func:
		w.function(at, v)
	case reflect.Interface:
		w.double(at, v)
	}
}

// leaves reports whether something is left out.
func (w *walk) leaves(at string) bool {
	if !slices.Contains(w.but, at) {
		return false
	}
	if w.left == nil {
		w.left = map[string]bool{}
	}
	w.left[at] = true
	return true
}

// function puts one in the place of a function, which may be nil: then it is a clock, or returns nothing but zero values.
func (w *walk) function(at string, v reflect.Value) {
	w.found = append(w.found, at)
	if at != w.fault.At {
		return
	}
	inner := reflect.New(v.Type()).Elem()
	inner.Set(v)
	v.Set(reflect.MakeFunc(v.Type(), func(args []reflect.Value) []reflect.Value {
		w.fault.call(at)
		switch {
		case inner.IsNil() && v.Type() == reflect.TypeFor[func() time.Time]():
			return []reflect.Value{reflect.ValueOf(time.Now())}
		case inner.IsNil():
			var zeros []reflect.Value
			for i := range v.Type().NumOut() {
				zeros = append(zeros, reflect.Zero(v.Type().Out(i)))
			}
			return zeros
		case v.Type().IsVariadic():
			return inner.CallSlice(args)
		}
		return inner.Call(args)
	}))
}

func (w *walk) double(at string, v reflect.Value) {
	if v.Type().NumMethod() == 0 { // any
		return
	}
	for i := range v.Type().NumMethod() {
		if name := at + "." + v.Type().Method(i).Name; !w.leaves(name) {
			w.found = append(w.found, name)
		}
	}
	if v.IsNil() && !strings.HasPrefix(w.fault.At, at+".") {
		return
	}
	call := func(method string) { w.fault.call(at + "." + method) }
	if v.Type() == reflect.TypeFor[http.RoundTripper]() {
		inner, _ := v.Interface().(http.RoundTripper)
		v.Set(reflect.ValueOf(&roundTripper{inner, call}))
		return
	}
	i := slices.IndexFunc(w.doubles, func(d Double) bool { return d.of == v.Type() })
	require.GreaterOrEqual(w.t, i, 0, "%s is of a type, %v, of which there is no Double", at, v.Type())
	v.Set(reflect.ValueOf(w.doubles[i].make(v.Interface(), call)))
}

type roundTripper struct {
	inner http.RoundTripper
	at    func(string)
}

func (r *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	r.at("RoundTrip")
	if r.inner == nil {
		return http.DefaultTransport.RoundTrip(req)
	}
	return r.inner.RoundTrip(req)
}

func (w *walk) client(at string, c *http.Client) *http.Client {
	own := new(http.Client)
	if c != nil {
		*own = *c
	}
	w.found = append(w.found, at+".Transport.RoundTrip")
	own.Transport = &roundTripper{own.Transport, func(method string) { w.fault.call(at + ".Transport." + method) }}
	return own
}

func (w *walk) handler(at string) slog.Handler {
	w.found = append(w.found, at+".Enabled", at+".Handle")
	return &handler{func(method string) { w.fault.call(at + "." + method) }}
}

// handler is a slog.Handler that logs nothing.
type handler struct{ at func(string) }

func (h *handler) Enabled(context.Context, slog.Level) bool  { h.at("Enabled"); return true }
func (h *handler) Handle(context.Context, slog.Record) error { h.at("Handle"); return nil }
func (h *handler) WithAttrs([]slog.Attr) slog.Handler        { return h }
func (h *handler) WithGroup(string) slog.Handler             { return h }
