package gateway_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/sharingtest"
	"github.com/inferpick/inferpick/scheduling/trail"
	"github.com/inferpick/inferpick/types"
)

// follower has weak pointers to the memory of bodies, and what was kept of their requests.
type follower struct {
	mu     sync.Mutex
	bodies map[string][]weak.Pointer[byte]
	kept   []any
}

// memory returns s in memory of its own.
func (f *follower) memory(name, s string) []byte {
	b := []byte(s)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bodies[name] = append(f.bodies[name], weak.Make(&b[0]))
	return b
}

// keep keeps what is known of a request but its body, for as long as somebody may.
func (f *follower) keep(req *types.Request) {
	f.keepAll(req.ID, req.Model, req.TargetModel, req.FairnessID, req.SessionID, req.ProgramID, req.CacheSalt, req.PreviousID,
		req.EngineSession, req.Prompt.Media, req.Work)
}

func (f *follower) keepAll(all ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept = append(f.kept, all...)
}

// held returns of how many bodies the memory is not free, by name.
func (f *follower) held() map[string]int {
	for range 4 { // pools give things up in the second one
		runtime.GC()
	}
	held := map[string]int{}
	for name, bodies := range f.bodies {
		for _, p := range bodies {
			if p.Value() != nil {
				held[name]++
			}
		}
	}
	return held
}

// asked is a request, and what its server answers.
type asked struct {
	path, contentType, body string
	status                  int
	answer                  string
}

// Whatever is kept of requests, none of it keeps their bodies: neither what the parts of a gateway learn and count, nor
// what they tell.
func TestBodiesAreLetGo(t *testing.T) {
	f := &follower{bodies: map[string][]weak.Pointer[byte]{}}
	stories, err := trail.New(trail.Options{})
	require.NoError(t, err)
	g := lifetimeGateway(t, f, stories)
	defer g.Close()

	for i := range 3 {
		for name, a := range everyAsked(i) {
			f.ask(t, g, name, a, i)
		}
		f.exchange(t, g, i)
		f.early(t, g, i)
		f.waiting(t, g, i)
	}
	require.NotEmpty(t, stories.Recent("tenant", 100))
	require.NotEmpty(t, page(t, g))
	// What a goroutine has not let go of yet, it will; what is kept stays.
	held := f.held()
	for began := time.Now(); len(held) > 0 && time.Since(began) < 20*time.Second; held = f.held() {
		time.Sleep(10 * time.Millisecond)
	}
	require.Empty(t, held)
	runtime.KeepAlive(f.kept)
	runtime.KeepAlive(g)
	runtime.KeepAlive(stories)
}

// lifetimeGateway is a gateway with all that keeps something.
func lifetimeGateway(t *testing.T, f *follower, stories *trail.Trail) *gateway.Gateway {
	p := plugins.Agents()
	prefix, err := plugins.NewPrefixCache(plugins.PrefixOptions{})
	require.NoError(t, err)
	p.Scorers = append(p.Scorers, scheduling.Weighted{Name: "prefix", Scorer: prefix, Weight: 0.1})
	p.Hooks = stories.Hooks(scheduling.Hooks{Finished: func(e scheduling.Event) { f.keepAll(e.Outcome) }})
	network := sharingtest.NewNetwork(sharingtest.NetworkOptions{})
	g := newGateway(t, servers{}, gateway.Options{
		Profile: p, Servers: gateway.Addresses("a:1", "b:1"), Pool: types.NamespacedName{Name: "llama"},
		Sharing:   &sharing.Options{Name: "one", Transport: network.Open("one")},
		Autoscale: &gateway.Autoscale{Options: autoscale.Options{}},
		Store:     datastore.Options{UnknownModels: datastore.Refuse, StickySessions: true},
		Admission: func() *admission.Options { return &admission.Options{Detector: admission.Concurrency{Requests: 10}} },
		Director: director.Options{
			RestoreModel: true, Lineage: 1000, EngineSessions: func(types.NamespacedName) bool { return true },
			OnRefused: func(req *types.Request, _ types.NamespacedName, err *director.Error) {
				stories.Refused(req, err.Error(), err.Status)
				f.keep(req)
				f.keepAll(err)
			},
		},
	})
	objects, err := types.DecodeManifests([]byte(`{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel",
		"metadata": {"name": "m"}, "spec": {"modelName": "public", "poolRef": {"name": "llama"}, "targetModels": [{"name": "tiny"}]}}`))
	require.NoError(t, err)
	require.NoError(t, g.Store.Apply(objects...))
	return g
}

// everyAsked are requests of all kinds, with long bodies, the i-th of each.
func everyAsked(i int) map[string]asked {
	long := strings.Repeat(fmt.Sprintf("%d times. ", i), 10_000)
	picture := base64.StdEncoding.EncodeToString([]byte(long))
	messages := `"messages":[{"role":"user","content":"` + long + `"}]`
	ids := fmt.Sprintf(`"session_id":"s%[1]d","conversation_id":"c%[1]d","prompt_cache_key":"k%[1]d","cache_salt":"salt%[1]d","metadata":{"program_id":"p%[1]d"},`, i)
	chat := func(body string) asked {
		return asked{"/v1/chat/completions", "application/json", body, 200, `{"id":"chatcmpl-` + long + `","model":"tiny","choices":[{"message":{"content":"` + long + `"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}`}
	}
	response := func(body, state string) asked {
		return asked{"/v1/responses", "application/json", body, 200, fmt.Sprintf(`{"id":"resp_%d%s","object":"response","status":"%s","model":"tiny","output":[],"x":"%s"}`, i, state, state, long[:50_000])}
	}
	form := func(fields string) string {
		return "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n" + long + "\r\n" + fields + "--b--\r\n"
	}
	model := "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\npublic\r\n"
	const isForm = "multipart/form-data; boundary=b"
	return map[string]asked{
		"chat":         chat(`{"model":"public",` + ids + messages + `}`),
		"chat, escape": chat(`{"m\u006fdel":"\u0070ublic","cache_salt":"\u0061",` + messages + `,"prompt_cache_key":"\u0062"}`),
		"chat, unnamed": chat(`{` + messages + `,"model":"public","tools":[{"type":"function","function":{"name":"` + long +
			`"}}]}`),
		"a picture":                chat(`{"model":"public","messages":[{"role":"user","content":[{"type":"text","text":"What?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + picture + `"}}]}]}`),
		"a picture by its address": chat(`{"model":"public","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x/` + long + `"}}]}]}`),
		"a stream": {"/v1/chat/completions", "application/json", `{"model":"public","stream":true,` + messages + `}`, 200,
			"data: {\"id\":\"a\",\"model\":\"tiny\",\"choices\":[{\"delta\":{\"content\":\"" + long + "\"}}]}\n\ndata: [DONE]\n\n"},
		"an error": {"/v1/chat/completions", "application/json", `{"model":"public",` + messages + `}`, 400, `{"error":{"message":"` + long + `","code":"` + long + `","type":"` + long + `"}}`},
		"busy":     {"/v1/chat/completions", "application/json", `{"model":"public",` + messages + `}`, 503, long},
		"response": response(fmt.Sprintf(`{"model":"public","previous_response_id":"resp_%d","conversation":{"id":"conv_%d"},"input":"%s"}`, i-1, i, long), "completed"),
		"a job":    response(`{"model":"public","background":true,"input":"`+long+`"}`, "queued"),
		"message": {"/v1/messages", "application/json", fmt.Sprintf(`{"model":"public","max_tokens":5,"metadata":{"user_id":"user_%d_account__session_%d"},%s}`, i, i, messages), 200,
			`{"id":"msg_1","type":"message","model":"tiny","content":[],"stop_reason":"end_turn"}`},
		"embeddings": {"/v1/embeddings", "application/json", `{"model":"public","input":["` + long + `"]}`, 200, `{"data":[]}`},
		"rerank":     {"/v1/rerank", "application/json", `{"model":"public","query":"q","documents":["` + long + `"]}`, 200, `{"results":[]}`},
		"speech":     {"/v1/audio/speech", "application/json", `{"model":"public","voice":"v","input":"` + long + `"}`, 200, long},
		"form":       {"/v1/audio/transcriptions", isForm, form(model), 200, `{"text":"` + long + `"}`},
		"a film":     {"/v1/videos", "application/json", `{"model":"public","prompt":"` + long + `"}`, 200, fmt.Sprintf(`{"id":"video_%d","object":"video","status":"queued"}`, i)},
		"file":       {"/v1/files", isForm, form(""), 200, fmt.Sprintf(`{"id":"file-%d","object":"file"}`, i)},
		"batch":      {"/v1/batches", "application/json", fmt.Sprintf(`{"input_file_id":"file-%d","endpoint":"/v1/chat/completions","x":"%s"}`, i, long), 200, fmt.Sprintf(`{"id":"batch_%d","object":"batch","status":"validating","output_file_id":"file-out%d","x":"%s"}`, i, i, long[:50_000])},
		"gRPC":       {"/vllm.grpc.engine.VllmEngine/Generate", "application/grpc", "\x00\x00\x00\x00\x05\x0a\x03abc", 200, "\x00\x00\x00\x00\x00"},
		"unread":     {"/v1/unknown", "text/plain", long, 200, long},

		"no JSON":         chat(`{"model":"public","x":"` + long),
		"no model":        chat(`{` + messages + `}`),
		"another model":   chat(`{"model":"unknown",` + ids + messages + `}`),
		"a long model":    chat(`{"model":"` + long + `"}`),
		"a wrong type":    chat(`{"model":"public","stream":"` + long + `"}`),
		"a long id":       chat(`{"model":"public","prompt_cache_key":"` + long + `"}`),
		"a wrong picture": chat(`{"model":"public","messages":"` + long + `"}`),
	}
}

// ask plays a data plane. What is refused only passes.
func (f *follower) ask(t *testing.T, g *gateway.Gateway, name string, a asked, i int) {
	h := http.Header{"Content-Type": {a.contentType}, "X-Request-Id": {fmt.Sprint(name, i)}}
	r, err := g.Director.Route(t.Context(), director.Incoming{
		Path: a.path, Header: h, Body: f.memory(name, a.body), FairnessID: "tenant", Pieces: i%2 == 0, Explain: i == 0,
	})
	if err != nil {
		f.keepAll(err, director.AsError(err).Body())
		return
	}
	f.keep(&r.Request)
	f.keepAll(r.Pool, r.Resolution, r.Explanation, r.Admission, r.Endpoint())
	if i == 1 {
		r.Failed(fmt.Errorf("refused"), true)
		r.Next()
	}
	r.ResponseHeader(a.status, map[string][]string{"Content-Type": {"application/json"}})
	r.Data(f.memory(name+": the answer", a.answer))
	r.End()
}

// exchange is a request that comes in pieces.
func (f *follower) exchange(t *testing.T, g *gateway.Gateway, i int) {
	body := everyAsked(i)["chat"].body
	x, answer := g.Director.Begin(t.Context(), director.Incoming{Path: "/v1/chat/completions", KeepBody: i%2 == 0, Pieces: true})
	require.Nil(t, answer)
	require.Nil(t, x.Body(f.memory("first piece", body[:20_000]), false))
	require.Nil(t, x.Body(f.memory("last piece", body[20_000:]), true))
	f.keep(&x.Route().Request)
	x.ResponseHeader(200, nil)
	x.ResponseBody(f.memory("piece of an answer", "{}"), true)
	x.Close(nil)
}

// early is a request that is decided by its beginning, and becomes a job. Only where nobody waits to be let in that is done.
func (f *follower) early(t *testing.T, g *gateway.Gateway, i int) {
	s, err := scheduling.New(plugins.Default())
	require.NoError(t, err)
	d, err := director.New(director.Options{Store: g.Store, Scheduler: s})
	require.NoError(t, err)
	f.keepAll(d)
	a := everyAsked(i)["a job"]
	body := f.memory("early", a.body)
	in := director.Incoming{Path: a.path, Body: body[: 8<<10 : 8<<10]}
	r := d.RouteEarly(t.Context(), in, int64(len(body)))
	require.NotNil(t, r)
	require.True(t, r.Complete(body))
	r.ResponseHeader(a.status, map[string][]string{"Content-Type": {"application/json"}})
	r.Data(f.memory("early: the answer", a.answer))
	r.End()
}

// waiting are requests that find no room: one gives up, one gets in.
func (f *follower) waiting(t *testing.T, g *gateway.Gateway, i int) {
	ask := func(ctx context.Context, name string) (*director.Route, error) {
		return g.Director.Route(ctx, director.Incoming{Path: "/v1/chat/completions", Body: f.memory(name, everyAsked(i)["chat"].body)})
	}
	var open []*director.Route
	for range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		r, err := ask(ctx, "gives up")
		cancel()
		if err == nil {
			open = append(open, r)
		} else if len(open) > 0 { // else it took longer than that although there was room
			f.keepAll(err)
			break
		}
	}
	require.NotEmpty(t, open)
	require.Less(t, len(open), 200, "the gateway is never full")
	waits := make(chan *director.Route)
	go func() {
		r, err := ask(t.Context(), "waits")
		if err != nil {
			t.Error(err)
		}
		waits <- r
	}()
	for len(open) > 0 {
		open[0].Done(nil)
		open = open[1:]
	}
	r := <-waits
	if r != nil {
		r.Done(nil)
	}
}
