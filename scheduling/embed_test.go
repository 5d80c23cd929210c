package scheduling_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// embedder is a gateway that may leave out something of what Default needs.
type embedder struct {
	*testing.T
	s    *scheduling.Scheduler
	l    *scheduling.EndpointList
	now  time.Time
	left bool // it is left out
}

func newEmbedder(t *testing.T, left bool, specs ...types.Endpoint) *embedder {
	e := &embedder{T: t, now: time.Unix(1_000_000, 0), left: left}
	p := plugins.Default()
	p.Seed, p.Now = 1, func() time.Time { return e.now }
	e.s = mustNew(t, p)
	e.l = scheduling.NewEndpointList(e.s)
	if len(specs) == 0 {
		specs = discovered("a", "b", "c", "d")
	}
	_, err := e.l.Set(specs)
	require.NoError(t, err)
	return e
}

func (e *embedder) schedule(req *types.Request) *scheduling.Decision {
	e.Helper()
	d, err := e.s.Schedule(ctx, req, e.l.Endpoints())
	require.NoError(e, err)
	return d
}

// serve plays a request that is served as it should be and returns where.
func (e *embedder) serve(req *types.Request, out types.Outcome) string {
	e.Helper()
	d := e.schedule(req)
	e.now = e.now.Add(50 * time.Millisecond)
	d.FirstToken()
	e.now = e.now.Add(time.Second)
	d.Done(out)
	return d.Current().Address
}

var ok = types.Outcome{Status: 200}

func about(topic string) *types.Request {
	return &types.Request{Model: "m", Stream: true, Prompt: types.TextPrompt(strings.Repeat("Tell me about "+topic+". ", 600))}
}

// needs are the rows of the table in docs/embed.md, each as what it does: the result is what
// is lost if the field or call is left out, true with it and false without.
var needs = map[string]func(t *testing.T, left bool) (kept bool){
	"Request.Prompt": func(t *testing.T, left bool) bool { // its conversation stays where its cache is
		e := newEmbedder(t, left)
		at := map[string]bool{}
		for range 16 {
			req := about("ships")
			if left {
				req.Prompt = types.Prompt{}
			}
			at[e.serve(req, ok)] = true
		}
		return len(at) == 1
	},
	"Request.Model": func(t *testing.T, left bool) bool { // caches of one model are no use to another
		e := newEmbedder(t, left, discovered("a")...)
		e.serve(about("ships"), ok)
		other := about("ships")
		if !left {
			other.Model = "adapter"
		}
		return e.schedule(other).Endpoint.Load.PrefillTokens() > 1000
	},
	"Request.CacheSalt": func(t *testing.T, left bool) bool { // nor are those of other salts
		e := newEmbedder(t, left, discovered("a")...)
		e.serve(about("ships"), ok)
		other := about("ships")
		if !left {
			other.CacheSalt = "salt"
		}
		return e.schedule(other).Endpoint.Load.PrefillTokens() > 1000
	},
	"Request.MaxTokens": func(t *testing.T, left bool) bool { // short answers take little room
		req := about("ships")
		if !left {
			req.MaxTokens = 8
		}
		d := newEmbedder(t, left).schedule(req)
		return d.Endpoint.Load.ContextTokens() < int64(req.Prompt.Tokens)+100
	},
	"Request.Priority": func(t *testing.T, left bool) bool { // what may be shed is, where there is no room
		specs := discovered("a", "b")
		for i := range specs {
			specs[i].Metrics = types.Metrics{Waiting: types.Known(20), KVUsage: types.Known(0.9)}
		}
		e := newEmbedder(t, left, specs...)
		req := about("ships")
		if !left {
			req.Priority = types.PrioritySheddable
		}
		_, err := e.s.Schedule(ctx, req, e.l.Endpoints())
		return err != nil
	},
	"Request.SLO": func(t *testing.T, left bool) bool { // dear servers are for who needs them, with CostOptions.Price
		specs := discovered("dear", "cheap")
		specs[0].Capacity.CostPerHour, specs[1].Capacity.CostPerHour = 4, 1
		specs[0].Metrics.Waiting, specs[1].Metrics.Waiting = types.Known(0), types.Known(1)
		e := newEmbedder(t, left, specs...)
		p, err := plugins.DefaultWith(plugins.CostOptions{Price: 5})
		require.NoError(t, err)
		p.Seed, p.Now = 1, func() time.Time { return e.now }
		e.s = mustNew(t, p)
		req := about("ships")
		if !left {
			req.SLO.TTFT = time.Minute
		}
		return e.schedule(req).Endpoint.ID == "cheap:8000"
	},
	"Request.PreviousID": func(t *testing.T, left bool) bool { // only one server knows the answer before
		previous := "resp-1"
		if left {
			previous = ""
		}
		return continues(newEmbedder(t, left), "resp-1", previous)
	},
	"Outcome.ResponseID": func(t *testing.T, left bool) bool { // the same
		response := "resp-1"
		if left {
			response = ""
		}
		return continues(newEmbedder(t, left), response, "resp-1")
	},
	"Endpoint.Load": func(t *testing.T, left bool) bool { // of rebuilt lists everything is remembered
		e := newEmbedder(t, left)
		at := map[string]bool{}
		for range 16 {
			if left {
				e.l = scheduling.NewEndpointList(e.s)
			}
			_, err := e.l.Set(discovered("a", "b", "c", "d"))
			require.NoError(t, err)
			at[e.serve(about("ships"), ok)] = true
		}
		return len(at) == 1
	},
	"Endpoint.Slot": func(t *testing.T, left bool) bool { // no search in a map for each endpoint
		told := error(nil)
		p := plugins.Default()
		p.Hooks.Warned = func(_ *types.Request, err error) { told = err }
		eps := servers(3)
		for i := range eps {
			if left {
				eps[i].Slot = 0
			}
		}
		d, err := mustNew(t, p).Schedule(ctx, about("ships"), eps)
		require.NoError(t, err)
		d.Done(ok)
		return told == nil
	},
	"Endpoint.Metrics": func(t *testing.T, left bool) bool { // what others send is seen
		return avoidsBusy(t, left, types.Metrics{UpdatedAt: time.Unix(1_000_000, 0), Waiting: types.Known(100), Running: types.Known(300), KVUsage: types.Known(0.9)})
	},
	"Metrics.UpdatedAt": func(t *testing.T, left bool) bool { // a reading without a date is none
		m := types.Metrics{UpdatedAt: time.Unix(1_000_000, 0), Waiting: types.Known(40), Running: types.Known(100), KVUsage: types.Known(0.9)}
		e := newEmbedder(t, left, discovered("a", "b")...)
		e.l.Update("b:8000", types.Metrics{Waiting: types.Known(0), Running: types.Known(0), KVUsage: types.Known(0)})
		busy := *e.l.Endpoints()[0]
		if busy.Metrics = m; left {
			busy.Metrics.UpdatedAt = time.Time{}
		}
		why, err := e.s.Explain(ctx, about("ships"), []*types.Endpoint{&busy, e.l.Endpoints()[1]})
		require.NoError(t, err)
		return strings.Contains(why.String(), "(140 decoding)")
	},
	"Endpoint.State": func(t *testing.T, left bool) bool { // who goes gets nothing new
		specs := discovered("a", "b")
		if !left {
			specs[0].State = types.Draining
		}
		return newEmbedder(t, left, specs...).avoids("a:8000")
	},
	"Endpoint.Models": func(t *testing.T, left bool) bool { // a model goes where it is served
		specs := discovered("a", "b")
		if specs[1].Models = []string{"m"}; !left {
			specs[0].Models = []string{"other"}
		}
		return newEmbedder(t, left, specs...).avoids("a:8000")
	},
	"Endpoint.Capacity": func(t *testing.T, left bool) bool { // a fast server gets more from the start
		specs := discovered("a", "b")
		if !left {
			specs[1].Capacity.Speed = 4
		}
		return newEmbedder(t, left, specs...).avoids("a:8000")
	},
	"Decision.FirstToken": func(t *testing.T, left bool) bool { // what was computed is not owed any more
		e := newEmbedder(t, left)
		d := e.schedule(about("ships"))
		if !left {
			d.FirstToken()
		}
		return d.Endpoint.Load.PrefillTokens() == 0
	},
	"Decision.Done": func(t *testing.T, left bool) bool { // the place is free again
		e := newEmbedder(t, left)
		d := e.schedule(about("ships"))
		if !left {
			d.Done(ok)
		}
		e.now = e.now.Add(scheduling.DefaultBookingTTL - time.Second)
		e.s.Expire(e.now)
		return d.Endpoint.Load.Requests() == 0
	},
	"Decision.Alive": func(t *testing.T, left bool) bool { // what runs for longer than 30 minutes stays booked
		e := newEmbedder(t, left)
		d := e.schedule(about("ships"))
		e.now = e.now.Add(20 * time.Minute)
		if !left {
			d.Alive()
		}
		e.now = e.now.Add(20 * time.Minute)
		e.s.Expire(e.now)
		return d.Endpoint.Load.Requests() == 1
	},
	"Decision.Retry": func(t *testing.T, left bool) bool { // the request is where it went
		d := newEmbedder(t, left).schedule(about("ships"))
		if !left {
			d.Retry(d.Fallbacks[0], types.Outcome{Status: 503})
		}
		return d.Endpoint.Load.Requests() == 0 && d.Fallbacks[0].Load.Requests() == 1
	},
	"Outcome.Status": func(t *testing.T, left bool) bool { // who fails is left alone for a while
		e := newEmbedder(t, left)
		broken := e.serve(about("ships"), ok)
		for range 40 {
			d := e.schedule(about("ships"))
			e.now = e.now.Add(10 * time.Millisecond)
			out := types.Outcome{}
			if d.Endpoint.Address == broken && !left {
				out.Status = 500
			}
			d.Done(out)
		}
		for _, ep := range e.l.Endpoints() {
			if _, out := ep.Load.Out(e.now); out {
				return true
			}
		}
		return false
	},
	"Outcome.Usage": func(t *testing.T, left bool) bool { // how long answers are is learned
		e := newEmbedder(t, left)
		for i := range 200 {
			out := ok
			if !left {
				out.Usage = types.Usage{PromptTokens: types.Known(3000), CompletionTokens: types.Known(10)}
			}
			e.serve(about(fmt.Sprint(i)), out)
		}
		req := about("more")
		return e.schedule(req).Endpoint.Load.ContextTokens() < int64(req.Prompt.Tokens)+100
	},
	"Scheduler.Forget": func(t *testing.T, left bool) bool { // a restarted server has nothing cached
		e := newEmbedder(t, left, discovered("a")...)
		e.serve(about("ships"), ok)
		if !left {
			e.s.Forget(e.l.Endpoints()[0])
		}
		return e.schedule(about("ships")).Endpoint.Load.PrefillTokens() > 1000
	},
}

// continues reports whether a request goes to the server with the answer that it continues,
// although that has become busy.
func continues(e *embedder, response, previous string) bool {
	at := e.serve(about("ships"), types.Outcome{Status: 200, ResponseID: response})
	for _, ep := range e.l.Endpoints() {
		n := types.Known(0)
		if ep.Address == at {
			n = types.Known(100)
		}
		e.l.Update(ep.Address, types.Metrics{Waiting: n, Running: n, KVUsage: types.Known(0.5)})
	}
	next := &types.Request{Model: "m", Prompt: types.TextPrompt("And then?"), PreviousID: previous}
	return e.schedule(next).Endpoint.Address == at
}

// avoids reports whether none of several different requests goes to an address.
func (e *embedder) avoids(address string) bool {
	for i := range 8 {
		if e.serve(about(fmt.Sprint(i)), ok) == address {
			return false
		}
	}
	return true
}

func avoidsBusy(t *testing.T, left bool, m types.Metrics) bool {
	specs := discovered("a", "b")
	specs[0].Metrics, specs[1].Metrics = m, types.Metrics{UpdatedAt: m.UpdatedAt, Waiting: types.Known(0), Running: types.Known(0), KVUsage: types.Known(0)}
	if left {
		specs[0].Metrics, specs[1].Metrics = types.Metrics{}, types.Metrics{}
	}
	e := newEmbedder(t, left, specs...)
	for i := range 2 {
		if d := e.schedule(about(fmt.Sprint(i))); d.Endpoint.Address == "a:8000" {
			return false
		}
	}
	return true
}

// Each row of the table in docs/embed.md is true: what it says is lost without the field
// or call is there with it.
func TestEmbedTable(t *testing.T) {
	page, err := os.ReadFile("../docs/embed.md")
	require.NoError(t, err)
	rows := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z][A-Za-z.]+)` ").FindAllStringSubmatch(string(page), -1) {
		rows[row[1]] = true
		require.Contains(t, needs, row[1], "a row that nobody tries")
	}
	for name, try := range needs {
		t.Run(name, func(t *testing.T) {
			require.True(t, rows[name], "there is no row for it")
			require.True(t, try(t, false), "with it")
			require.False(t, try(t, true), "without it")
		})
	}
}
