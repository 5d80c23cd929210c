package httptransport_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

const models = `
{"apiVersion":"inference.networking.x-k8s.io/v1alpha2","kind":"InferenceModel","metadata":{"name":"vip"},"spec":{"modelName":"vip","criticality":"Critical","poolRef":{"name":"pool"}}}
{"apiVersion":"inference.networking.x-k8s.io/v1alpha2","kind":"InferenceModel","metadata":{"name":"bulk"},"spec":{"modelName":"bulk","criticality":"Sheddable","poolRef":{"name":"pool"}}}`

const patience = 10 * time.Second

// admitted is a fixture with one place at each server, and revocation.
type admitted struct {
	*fixture
	director *director.Director
	routes   chan *director.Route // of what was sent
}

func newAdmitted(t *testing.T, change func(*admission.Options), servers ...http.HandlerFunc) *admitted {
	t.Helper()
	a := &admitted{routes: make(chan *director.Route, 100)}
	a.fixture = newFixture(t, func(o *director.Options) {
		o.Admission = func(types.NamespacedName) *admission.Options {
			options := &admission.Options{Detector: admission.Concurrency{Requests: 1}, Revoke: true}
			if change != nil {
				change(options)
			}
			return options
		}
	}, servers...)
	a.director = a.transport.Director
	a.transport.OnRoute = func(_ *http.Request, r *director.Route) { a.routes <- r }
	objs, err := types.DecodeManifests([]byte(models))
	require.NoError(t, err)
	require.NoError(t, a.store.Apply(objs...))
	return a
}

// empty checks that nothing is under way.
func (a *admitted) empty(t *testing.T) {
	t.Helper()
	a.ledgersEmpty(t)
	for _, c := range a.director.Admissions() {
		s := c.Stats()
		for _, b := range s.Bands {
			if b.Running != 0 || b.Queued != 0 {
				t.Errorf("%d requests of priority %d run and %d wait in the end", b.Running, b.Priority, b.Queued)
			}
		}
	}
}

func (a *admitted) controller(t *testing.T) *admission.Controller {
	t.Helper()
	for _, c := range a.director.Admissions() {
		return c
	}
	t.Fatal("there is no admission control")
	return nil
}

func (a *admitted) next(t *testing.T) *director.Route {
	t.Helper()
	select {
	case r := <-a.routes:
		return r
	case <-time.After(patience):
		t.Fatal("no request was sent")
		return nil
	}
}

func of(model string) string { return strings.Replace(request, `"m"`, `"`+model+`"`, 1) }

// answered is what a client got.
type answered struct {
	status int
	header http.Header
	body   string
	err    error // of the body, or of the request
}

func (a *admitted) send(ctx context.Context, model string) <-chan answered {
	done := make(chan answered, 1)
	go func() {
		req, err := http.NewRequestWithContext(ctx, "POST", a.front.URL+"/v1/chat/completions", strings.NewReader(of(model)))
		if err != nil {
			done <- answered{err: err}
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			done <- answered{err: err}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		done <- answered{resp.StatusCode, resp.Header, string(body), err}
	}()
	return done
}

func got(t *testing.T, done <-chan answered) answered {
	t.Helper()
	select {
	case a := <-done:
		return a
	case <-time.After(patience):
		t.Fatal("no answer")
		return answered{}
	}
}

func (a *admitted) outcome(t *testing.T) types.Outcome {
	t.Helper()
	select {
	case o := <-a.outcomes:
		return o
	case <-time.After(patience):
		t.Fatal("no request has ended")
		return types.Outcome{}
	}
}

// held is a server whose answers to the model "bulk" do not come to an end: it sends the
// header if it is to, and start, and then waits until its client goes.
type held struct {
	header bool
	start  string
	there  chan struct{} // a request for bulk has come
	gone   chan struct{} // and its client has gone
}

func newHeld(header bool, start string) *held {
	return &held{header, start, make(chan struct{}, 10), make(chan struct{}, 10)}
}

func (h *held) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if !strings.Contains(string(body), `"bulk"`) {
		answer(streamed)(w, r)
		return
	}
	if h.header {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, h.start)
		_ = http.NewResponseController(w).Flush()
	}
	h.there <- struct{}{}
	<-r.Context().Done()
	h.gone <- struct{}{}
}

func hear(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("the server did not hear that " + what)
	}
}

// A request that is revoked before it has had a byte gets the refusal, and its server hears
// that nobody waits.
func TestRevokedBeforeTheFirstByte(t *testing.T) {
	for name, header := range map[string]bool{"no header": false, "header only": true} {
		t.Run(name, func(t *testing.T) {
			server := newHeld(header, "")
			a := newAdmitted(t, nil, server.ServeHTTP)
			bulk := a.send(context.Background(), "bulk")
			hear(t, "the request has come", server.there)
			vip := got(t, a.send(context.Background(), "vip"))
			if vip.status != 200 || vip.body != streamed || vip.err != nil {
				t.Errorf("the critical one got %+v", vip)
			}
			b := got(t, bulk)
			if b.status != 429 || b.err != nil || b.header.Get(director.HeaderReason) != "revoked" || b.header.Get("Retry-After") == "" || !strings.Contains(b.body, `"revoked"`) {
				t.Errorf("the revoked one got %+v", b)
			}
			if o := a.outcome(t); !o.Cancelled || o.Err != nil {
				t.Errorf("Outcome = %+v, which blames the endpoint", o)
			}
			a.outcome(t)
			hear(t, "the client has gone", server.gone)
			if len(a.outcomes) != 0 {
				t.Errorf("%d requests ended, want 2", 2+len(a.outcomes))
			}
			a.empty(t)
		})
	}
}

// One that has had bytes is cut off, so that it does not look complete, and who reads the
// body is told why.
func TestRevokedInTheMiddle(t *testing.T) {
	const start = "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n"
	t.Run("through a proxy", func(t *testing.T) {
		server := newHeld(true, start)
		a := newAdmitted(t, nil, server.ServeHTTP)
		req, _ := http.NewRequest("POST", a.front.URL+"/v1/chat/completions", strings.NewReader(of("bulk")))
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		if _, err := io.ReadFull(resp.Body, make([]byte, len(start))); err != nil {
			t.Fatal(err)
		}
		if vip := got(t, a.send(context.Background(), "vip")); vip.status != 200 || vip.body != streamed {
			t.Errorf("the critical one got %+v", vip)
		}
		if rest, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("the revoked one ends with %q and no error", rest)
		}
		hear(t, "the client has gone", server.gone)
		a.outcome(t)
		a.outcome(t)
		a.empty(t)
	})
	t.Run("the body's error", func(t *testing.T) {
		server := newHeld(true, start)
		a := newAdmitted(t, nil, server.ServeHTTP)
		req, _ := http.NewRequest("POST", "http://pool/v1/chat/completions", strings.NewReader(of("bulk")))
		resp, err := a.transport.RoundTrip(req)
		require.NoError(t, err)
		// Nobody reads: the place is free all the same.
		if vip := got(t, a.send(context.Background(), "vip")); vip.status != 200 {
			t.Errorf("the critical one got %+v", vip)
		}
		if o := a.outcome(t); !o.Cancelled || o.Err != nil || o.Status != 200 || o.ResponseBytes != int64(len(start)) {
			t.Errorf("Outcome = %+v", o)
		}
		body, err := io.ReadAll(resp.Body)
		var e *director.Error
		if string(body) != start || !errors.As(err, &e) || e.Status != 429 || e.Code != "revoked" || !strings.Contains(err.Error(), "higher priority") {
			t.Errorf("the body is %q, %v", body, err)
		}
		var refusal *admission.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != admission.Revoked {
			t.Errorf("the cause is %v", refusal)
		}
		if _, again := resp.Body.Read(make([]byte, 1)); again != err {
			t.Errorf("read again: %v", again)
		}
		require.NoError(t, resp.Body.Close())
		hear(t, "the client has gone", server.gone)
		a.outcome(t)
		if len(a.outcomes) != 0 {
			t.Error("an end was accounted twice")
		}
		a.empty(t)
	})
}

// Only requests of negative priority are revoked, and only if that is asked for.
func TestNotRevoked(t *testing.T) {
	release := make(chan struct{})
	waits := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-release:
		case <-r.Context().Done():
		}
		answer(streamed)(w, r)
	}
	for _, tt := range []struct {
		model  string
		revoke bool
	}{{"m", true}, {"bulk", false}} {
		t.Run(tt.model, func(t *testing.T) {
			a := newAdmitted(t, func(o *admission.Options) { o.Revoke = tt.revoke }, waits)
			first := a.send(context.Background(), tt.model)
			a.next(t)
			vip := a.send(context.Background(), "vip")
			for a.controller(t).Stats().Queued != 1 {
				time.Sleep(time.Millisecond)
			}
			release <- struct{}{}
			if r := got(t, first); r.status != 200 || r.body != streamed {
				t.Errorf("%s got %+v", tt.model, r)
			}
			release <- struct{}{}
			if r := got(t, vip); r.status != 200 {
				t.Errorf("the critical one got %+v", r)
			}
			a.outcome(t)
			a.outcome(t)
			a.empty(t)
		})
	}
}

// A request is revoked also after it went on to a fallback, and goes on to no other.
func TestRevokedAtAFallback(t *testing.T) {
	down, second := make(chan struct{}), newHeld(false, "")
	a := newAdmitted(t, nil, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), `"bulk"`) {
			w.WriteHeader(503)
			return
		}
		<-down // a critical request that stays, so that this server is full
		answer(streamed)(w, r)
	}, second.ServeHTTP)
	var once sync.Once
	release := func() { once.Do(func() { close(down) }) }
	defer release()
	bulk := a.send(context.Background(), "bulk")
	a.next(t)
	hear(t, "the request has come", second.there)
	one := a.send(context.Background(), "vip")
	a.next(t)
	two := a.send(context.Background(), "vip")
	if b := got(t, bulk); b.status != 429 || b.header.Get(director.HeaderReason) != "revoked" {
		t.Errorf("the revoked one got %+v", b)
	}
	hear(t, "the client has gone", second.gone)
	if r := got(t, two); r.status != 200 {
		t.Errorf("the critical one got %+v", r)
	}
	release()
	if r := got(t, one); r.status != 200 {
		t.Errorf("the other critical one got %+v", r)
	}
	for range 3 {
		a.outcome(t)
	}
	a.empty(t)
}

// What a client sees of admission control through the gateway.
func TestAdmissionThroughTheGateway(t *testing.T) {
	release := make(chan struct{})
	a := newAdmitted(t, func(o *admission.Options) { o.Revoke = false }, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-release
		answer(streamed)(w, r)
	})
	first := a.send(context.Background(), "m")
	a.next(t)
	if r := got(t, a.send(context.Background(), "bulk")); r.status != 429 || r.header.Get(director.HeaderReason) != director.CodeSaturated || r.header.Get("Retry-After") == "" || !strings.Contains(r.body, `"saturated"`) {
		t.Errorf("the sheddable one got %+v", r)
	}
	// A client that goes while it waits is not sent anywhere.
	ctx, cancel := context.WithCancel(context.Background())
	leaves := a.send(ctx, "m")
	for a.controller(t).Stats().Queued != 1 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if r := got(t, leaves); !errors.Is(r.err, context.Canceled) {
		t.Errorf("the one that left got %+v", r)
	}
	for a.controller(t).Stats().Queued != 0 {
		time.Sleep(time.Millisecond)
	}
	second := a.send(context.Background(), "m")
	for a.controller(t).Stats().Queued != 1 {
		time.Sleep(time.Millisecond)
	}
	third := a.send(context.Background(), "vip")
	for a.controller(t).Stats().Queued != 2 {
		time.Sleep(time.Millisecond)
	}
	release <- struct{}{}
	got(t, first)
	release <- struct{}{}
	got(t, third) // before the second, which came before
	if len(second) != 0 {
		t.Error("the standard one was served before the critical one")
	}
	release <- struct{}{}
	if r := got(t, second); r.status != 200 || r.body != streamed {
		t.Errorf("the standard one got %+v", r)
	}
	if r := a.next(t); r.Waited <= 0 {
		t.Errorf("it waited for %v", r.Waited)
	}
	for range 3 {
		a.outcome(t)
	}
	a.empty(t)
}

// Many critical requests revoke many others while those end by themselves: each is answered
// once, by a server or by the refusal.
func TestManyRevoked(t *testing.T) {
	slow := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), `"bulk"`) {
			w.Header().Set("Content-Type", "text/event-stream")
			for _, part := range strings.SplitAfter(streamed, "\n\n") {
				select {
				case <-r.Context().Done():
					return
				case <-time.After(300 * time.Microsecond):
				}
				_, _ = io.WriteString(w, part)
				_ = http.NewResponseController(w).Flush()
			}
			return
		}
		answer(streamed)(w, r)
	}
	a := newAdmitted(t, nil, slow, slow)
	a.outcomes, a.routes = make(chan types.Outcome, 1000), make(chan *director.Route, 1000)
	vips := make(chan (<-chan answered), 200)
	go func() {
		for range 100 {
			vips <- a.send(context.Background(), "vip")
			time.Sleep(500 * time.Microsecond)
		}
		close(vips)
	}()
	revoked, cut, whole := 0, 0, 0
	for range 150 {
		switch r := got(t, a.send(context.Background(), "bulk")); {
		case r.status == 429 && r.header.Get(director.HeaderReason) == "revoked":
			revoked++
		case r.status == 429 && r.header.Get(director.HeaderReason) == director.CodeSaturated:
		case r.status == 200 && r.err != nil:
			cut++
		case r.status == 200 && r.body == streamed:
			whole++
		default:
			t.Errorf("a client got %+v", r)
		}
	}
	for done := range vips {
		if r := got(t, done); r.status != 200 || r.body != streamed {
			t.Errorf("a critical one got %+v", r)
		}
	}
	t.Logf("%d revoked, %d cut off, %d whole", revoked, cut, whole)
	for end := time.Now().Add(patience); open(a.store.Snapshot().Pool(pool).Endpoints()) > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	a.empty(t)
}

// A request that was let in because one server has a place is answered by a full one, if
// that one fails it.
func TestFullServersAreFallbacks(t *testing.T) {
	busy := make(chan struct{})
	a := newAdmitted(t, nil, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), `"bulk"`) {
			<-busy
		}
		answer(streamed)(w, r)
	}, func(w http.ResponseWriter, _ *http.Request) {
		panic(http.ErrAbortHandler)
	})
	var once sync.Once
	release := func() { once.Do(func() { close(busy) }) }
	defer release()
	bulk := a.send(context.Background(), "bulk")
	a.next(t)
	for range 3 { // also when the other is on probation
		if r := got(t, a.send(context.Background(), "vip")); r.status != 200 {
			t.Errorf("got %+v", r)
		}
	}
	release()
	if r := got(t, bulk); r.status != 200 {
		t.Errorf("the one before got %+v", r)
	}
	for range 4 {
		a.outcome(t)
	}
	a.empty(t)
}
