package director_test

import (
	"errors"
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// Tests of what adapters need beside Route.

// TestTrapNameThatIsNoUTF8: a body whose model is not replaced passes byte for byte,
// also where decoding and encoding its name would give another.
func TestTrapNameThatIsNoUTF8(t *testing.T) {
	d := newDirector(t, newStore(t, 1, datastore.Options{}), nil)
	in := incoming("x")
	in.Body = []byte("{\"model\": \"c\x94t\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}")
	r, err := d.Route(ctx, in)
	require.NoError(t, err)
	defer r.Done(nil)
	if string(r.Body) != string(in.Body) {
		t.Errorf("body is %q, want it as it came: %q", r.Body, in.Body)
	}
}

// TestServed: the booking follows what the data plane reports, within the pool.
func TestServed(t *testing.T) {
	store := newStore(t, 6, datastore.Options{})
	d := newDirector(t, store, nil)
	r, err := d.Route(ctx, incoming("food"))
	require.NoError(t, err)
	named := map[string]bool{r.Endpoint().Address: true}
	for _, ep := range r.Fallbacks() {
		named[ep.Address] = true
	}
	for _, ep := range endpoints(store) {
		if !r.Served(ep.Address) || r.Endpoint().ID != ep.ID || ep.Load.Requests() != 1 {
			t.Errorf("served by %s, which was named: %v: booked at %s", ep.ID, named[ep.Address], r.Endpoint().ID)
		}
	}
	at := r.Endpoint()
	if r.Served("9.9.9.9:9") || r.Endpoint() != at {
		t.Error("a stranger served")
	}
	r.Done(nil)
	zeroLedgers(t, endpoints(store))
}

// TestKeepModel: every chunk passes at once and as it is; usage is read nevertheless.
func TestKeepModel(t *testing.T) {
	var out types.Outcome
	d := newDirector(t, newStore(t, 1, datastore.Options{}), func(o *director.Options) {
		o.RestoreModel = true
		p := plugins.RandomProfile()
		p.Hooks.Finished = func(e scheduling.Event) {
			o := e.Outcome
			out = o
		}
		s, err := scheduling.New(p)
		require.NoError(t, err)
		o.Scheduler = s
	})
	r, err := d.Route(ctx, incoming("food"))
	require.NoError(t, err)
	r.KeepModel()
	r.Response(200, "application/json")
	body := `{"model": "food-v1", "usage": {"prompt_tokens": 3, "completion_tokens": 1}}`
	for i := range body {
		if got := string(r.Data([]byte(body[i : i+1]))); got != body[i:i+1] {
			t.Fatalf("byte %d came as %q", i, got)
		}
	}
	if rest := r.End(); len(rest) > 0 || r.RestoresModel() {
		t.Errorf("left at the end: %q", rest)
	}
	if n, _ := out.Usage.PromptTokens.Value(); n != 3 || out.ResponseBytes != int64(len(body)) || out.Duration <= 0 || out.TTFT != 0 {
		t.Errorf("outcome is %+v", out)
	}
}

// TestRefused: OnRefused hears of every error, also of an adapter's own.
func TestRefused(t *testing.T) {
	type refusal struct {
		model, code string
		pool        types.NamespacedName
	}
	var got []refusal
	d := newDirector(t, newStore(t, 0, datastore.Options{UnknownModels: datastore.Refuse}), func(o *director.Options) {
		o.OnRefused = func(req *types.Request, pool types.NamespacedName, e *director.Error) {
			got = append(got, refusal{req.Model, e.Code, pool})
		}
	})
	if _, err := d.Route(ctx, incoming("nope")); err == nil {
		t.Error("an unknown model was routed")
	}
	if _, err := d.Route(ctx, incoming("food")); err == nil {
		t.Error("a request was routed without endpoints")
	}
	e := d.Refuse("/v1/messages?beta=1", &director.Error{Status: 413, Code: "request_too_large", Message: "too large"})
	require.Contains(t, string(e.Body()), `"type":"error"`)
	want := []refusal{{"nope", director.CodeModelNotFound, types.NamespacedName{}}, {"food", director.CodeNoEndpoint, pool}, {"", "request_too_large", types.NamespacedName{}}}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("OnRefused was told %v, want %v", got, want)
	}
}

// TestSetSchedulers: from then on the new one decides; what is under way ends with
// the one that decided.
func TestSetSchedulers(t *testing.T) {
	store := newStore(t, 2, datastore.Options{})
	mustScheduler := func() *scheduling.Scheduler {
		s, err := scheduling.New(plugins.RandomProfile())
		require.NoError(t, err)
		return s
	}
	first, second := mustScheduler(), mustScheduler()
	d := newDirector(t, store, func(o *director.Options) { o.Scheduler = first })
	r1, err := d.Route(ctx, incoming("food"))
	require.NoError(t, err)
	require.NoError(t, d.SetSchedulers(nil, map[types.NamespacedName]*scheduling.Scheduler{pool: second}))
	r2, err := d.Route(ctx, incoming("food"))
	require.NoError(t, err)
	if first.Open() != 1 || second.Open() != 1 {
		t.Errorf("open are %d and %d, want 1 and 1", first.Open(), second.Open())
	}
	for name, err := range map[string]error{
		"nobody":       d.SetSchedulers(nil, nil),
		"a nil for it": d.SetSchedulers(first, map[types.NamespacedName]*scheduling.Scheduler{pool: nil}),
	} {
		require.Error(t, err, "SetSchedulers took %s", name)
	}
	if r3, err := d.Route(ctx, incoming("food")); err != nil || second.Open() != 2 {
		t.Errorf("after an error the schedulers are others: %v", err)
	} else {
		r3.Done(nil)
	}
	r1.Done(nil)
	r2.Done(nil)
	if first.Open() != 0 || second.Open() != 0 {
		t.Errorf("open are %d and %d at the end", first.Open(), second.Open())
	}
	zeroLedgers(t, endpoints(store))

	require.NoError(t, d.SetSchedulers(nil, map[types.NamespacedName]*scheduling.Scheduler{{Name: "other"}: second}))
	var e *director.Error
	if _, err := d.Route(ctx, incoming("food")); !errors.As(err, &e) || e.Status != 503 {
		t.Errorf("a pool without a scheduler: %v, want 503", err)
	}
}
