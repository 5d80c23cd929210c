package director_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// jobRig is a director in front of three servers, and what becomes of its requests.
type jobRig struct {
	testing.TB
	*director.Director
	store    *datastore.Store
	finished []scheduling.Event
	tenant   string
}

func newJobRig(t testing.TB, change func(*director.Options, *scheduling.Profile)) *jobRig {
	j := &jobRig{TB: t, store: newStore(t, 3, datastore.Options{})}
	p := plugins.Default()
	p.Hooks.Finished = func(e scheduling.Event) { j.finished = append(j.finished, e) }
	var o director.Options
	if change != nil {
		change(&o, &p)
	}
	s, err := scheduling.New(p)
	require.NoError(t, err)
	j.Director = newDirector(t, j.store, func(into *director.Options) { o.Store, o.Scheduler = j.store, s; *into = o })
	return j
}

// ask sends a request, has its server answer, and returns where it went.
func (j *jobRig) ask(method, path, body string, status int, answer string) *types.Endpoint {
	j.Helper()
	h := http.Header{"Content-Type": {"application/json"}}
	r, err := j.Route(ctx, director.Incoming{Method: method, Path: path, Header: h, Body: []byte(body), FairnessID: j.tenant})
	require.NoError(j, err)
	at := r.Endpoint()
	r.ResponseHeader(status, h)
	require.Equal(j, answer, string(r.Data([]byte(answer))))
	require.Empty(j, r.End())
	return at
}

// put puts a film in.
func (j *jobRig) put(id string) *types.Endpoint {
	j.Helper()
	return j.ask("POST", "/v1/videos", `{"prompt":"a cat","size":"832x480"}`, 200, `{"id":"`+id+`","object":"video","status":"queued"}`)
}

// poll asks for it.
func (j *jobRig) poll(id, status string) *types.Endpoint {
	j.Helper()
	return j.ask("GET", "/v1/videos/"+id, "", 200, `{"id":"`+id+`","object":"video","status":"`+status+`","error":{"message":"none, or out of memory"}}`)
}

// TestJobGoesToItsServer: whatever is asked about what a server keeps goes to that one, however busy it is.
func TestJobGoesToItsServer(t *testing.T) {
	j := newJobRig(t, nil)
	tests := []struct {
		name                 string
		method, path, answer string // that makes it
		asks                 []string
	}{
		{"film", "POST", "/v1/videos", `{"id":"video_1","object":"video","status":"queued","created_at":1,"expires_at":9999999999}`,
			[]string{"GET /v1/videos/video_1", "GET /v1/videos/video_1/content?variant=video", "POST /v1/videos/video_1/remix", "GET /v1/videos/video%5F1", "HEAD /v1/videos/video_1", "DELETE /v1/videos/video_1"}},
		{"film by a prefix", "POST", "/openai/v1/videos", `{"id":"video_2","status":"queued"}`, []string{"GET /openai/v1/videos/video_2"}},
		{"mesh", "POST", "/v1/meshes", `{"id":"0d2e-7","object":"mesh","status":"queued"}`, []string{"GET /v1/meshes/0d2e-7", "GET /v1/meshes/0d2e-7/content", "DELETE /v1/meshes/0d2e-7"}},
		{"file", "POST", "/v1/files", `{"id":"file-1","object":"file","purpose":"batch"}`,
			[]string{"GET /v1/files/file-1", "GET /v1/files/file-1/content", `POST /v1/batches {"input_file_id":"file-1","endpoint":"/v1/chat/completions"}`, "DELETE /v1/files/file-1",
				`POST /v1/videos {"prompt":"x","image_reference":{"file_id":"file-1"}}`}},
		{"batch", "POST", "/v1/batches", `{"id":"batch_1","object":"batch","status":"completed","output_file_id":"file-out","error_file_id":"file-err"}`,
			[]string{"GET /v1/batches/batch_1", "POST /v1/batches/batch_1/cancel", "GET /v1/files/file-out/content", "GET /v1/files/file-err"}},
		{"batch that was asked for again", "GET", "/v1/batches/batch_9", `{"id":"batch_9","object":"batch","status":"completed","output_file_id":"file-late"}`,
			[]string{"GET /v1/files/file-late/content"}},
		{"picture", "POST", "/v1/images/generations", `{"created":1,"data":[{"url":"/v1/images/img-1/content"},{"url":"http://10.1.1.1:30000/v1/images/img-2/content"}]}`,
			[]string{"GET /v1/images/img-1/content", "GET /v1/images/img-2/content"}},
		{"conversation", "POST", "/v1/conversations", `{"id":"conv_1","object":"conversation"}`, []string{"GET /v1/conversations/conv_1/items", `POST /v1/responses {"model":"food","input":"hi","conversation":"conv_1"}`, `POST /v1/responses {"model":"food","input":"hi","stream":true,"conversation":{"id":"conv_1"}}`, "DELETE /v1/conversations/conv_1"}},
		{"response", "POST", "/v1/responses", `{"id":"resp_1","object":"response","status":"completed"}`,
			[]string{"GET /v1/responses/resp_1", "GET /v1/responses/resp_1/input_items", "POST /v1/responses/resp_1/cancel", `POST /v1/responses {"model":"food","input":"go on","previous_response_id":"resp_1"}`}},
		{"upload", "POST", "/v1/uploads", `{"id":"upload_1","object":"upload","status":"pending"}`, []string{"POST /v1/uploads/upload_1/parts", "POST /v1/uploads/upload_1/complete"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := ""
			if tt.method == "POST" {
				body = `{"model":"food","prompt":"a cat","input":"a cat"}`
			}
			at := j.ask(tt.method, tt.path, body, 200, tt.answer)
			for _, ask := range tt.asks {
				method, path, _ := strings.Cut(ask, " ")
				path, body, _ := strings.Cut(path, " ")
				// All others are idle, and have been for long.
				at.Load.Book(types.Booking{Requests: 50, PrefillTokens: 1 << 20, ContextTokens: 1 << 20, Denoise: 1 << 30})
				got := j.ask(method, path, body, 200, `{"ok":true}`)
				at.Load.Release(types.Booking{Requests: 50, PrefillTokens: 1 << 20, ContextTokens: 1 << 20, Denoise: 1 << 30})
				require.Equal(t, at.ID, got.ID, ask)
			}
		})
	}
}

// TestJobOfAnother: tenants learn nothing of each other's, and ids that are no ids bind nothing.
func TestJobOfAnother(t *testing.T) {
	j := newJobRig(t, func(*director.Options, *scheduling.Profile) {})
	j.tenant = "a"
	at := j.put("video_1")
	elsewhere := func(ask func() *types.Endpoint, what string) {
		for range 50 {
			if ask() != at {
				return
			}
		}
		t.Fatal(what + " goes to the server of another's job")
	}
	for range 20 {
		require.Equal(t, at, j.poll("video_1", "in_progress"))
	}
	elsewhere(func() *types.Endpoint {
		j.tenant += "b" // who is answered once is answered there again
		return j.poll("video_1", "completed")
	}, "a poll of another tenant")
	require.Equal(t, 1, j.Jobs(), "it says nothing of the other's")
	j.tenant = "a"
	long := strings.Repeat("x", 10_000)
	for _, path := range []string{"/v1/videos", "/v1/videos/", "/v1/videos/" + long, "/v1/videos?after=video_1", "/v1/files", "/v1/batches"} {
		elsewhere(func() *types.Endpoint { return j.ask("GET", path, "", 200, "{}") }, path)
	}
	require.Equal(t, 1, j.Jobs())
	j.ask("DELETE", "/v1/videos/video_1", "", 200, `{"id":"video_1","object":"video.deleted","deleted":true}`)
	require.Zero(t, j.Jobs())
	zeroLedgers(t, endpoints(j.store))
}

// TestJobStaysBooked until something says that it is done, and its polls take no place.
func TestJobStaysBooked(t *testing.T) {
	for name, end := range map[string]func(*jobRig, *types.Endpoint){
		"completed": func(j *jobRig, _ *types.Endpoint) { j.poll("video_1", "completed") },
		"failed":    func(j *jobRig, _ *types.Endpoint) { j.poll("video_1", "failed") },
		"cancelled": func(j *jobRig, _ *types.Endpoint) { j.poll("video_1", "cancelled") },
		"deleted":   func(j *jobRig, _ *types.Endpoint) { j.ask("DELETE", "/v1/videos/video_1", "", 204, "") },
		"unknown": func(j *jobRig, _ *types.Endpoint) {
			j.ask("GET", "/v1/videos/video_1", "", 404, `{"detail":"Video not found"}`)
		},
		"fetched": func(j *jobRig, _ *types.Endpoint) { j.ask("GET", "/v1/videos/video_1/content", "", 200, "MP4") },
		"gone": func(j *jobRig, at *types.Endpoint) {
			require.NoError(j, j.store.SetEndpoints(pool, []datastore.EndpointSpec{{ID: "other", Address: "10.9.9.9:1"}}))
		},
		"twice": func(j *jobRig, at *types.Endpoint) { // a server that answers the same id for another: the first one is over
			for j.put("video_1") != at {
			}
			j.poll("video_1", "completed")
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJobRig(t, nil)
			at := j.put("video_1")
			require.EqualValues(t, 1, at.Load.Requests())
			before := at.Load.Held()
			for _, poll := range []func(){
				func() { j.poll("video_1", "queued") },
				func() { j.poll("video_1", "in_progress") },
				func() {
					j.ask("GET", "/v1/videos/video_1/content", "", 404, `{"detail":"Generation is still in-progress"}`)
				},
				func() { j.ask("GET", "/v1/videos/video_1", "", 500, "oops") },
				func() { j.ask("GET", "/v1/videos/video_1", "", 200, "no JSON") },
				func() { j.ask("GET", "/v1/videos/video_1", "", 200, `{"id":"video_2","status":"completed"}`) },
			} {
				poll()
				require.Equal(t, before, at.Load.Held())
				require.Equal(t, 1, j.Jobs())
			}
			r, err := j.Route(ctx, director.Incoming{Method: "GET", Path: "/v1/videos/video_1"})
			require.NoError(t, err)
			require.Equal(t, before, at.Load.Held(), "a poll takes no place")
			r.Done(nil)
			end(j, at)
			require.Zero(t, j.Jobs())
			require.Zero(t, at.Load.Held())
			for _, e := range j.finished {
				require.False(t, e.Outcome.Failed() && e.Request.Work.Kind != types.Fetches, "%+v", e.Outcome)
			}
			require.EqualValues(t, 0, at.Load.Held().Requests)
		})
	}
}

// TestJobLetsGo of its body at once, and is learned from when it is done.
func TestJobLetsGo(t *testing.T) {
	j := newJobRig(t, nil)
	h := http.Header{"Content-Type": {"application/json"}}
	r, err := j.Route(ctx, director.Incoming{Method: "POST", Path: "/v1/videos", Header: h, Body: []byte(`{"prompt":"a cat"}`)})
	require.NoError(t, err)
	r.ResponseHeader(200, h)
	r.Data([]byte(`{"id":"video_1","object":"video","status":"queued"}`))
	require.False(t, r.Settled())
	r.End()
	require.True(t, r.Settled())
	require.Empty(t, r.Request.Body)
	require.Empty(t, r.Body)
	require.Empty(t, j.finished)
	j.poll("video_1", "completed")
	require.Equal(t, 200, j.finished[0].Outcome.Status)
	require.False(t, j.finished[0].Outcome.Cancelled && j.finished[0].Outcome.Duration > time.Second)
}

// TestJobAtAnotherServer: what a server says of a job that it does not have counts for nothing.
func TestJobAtAnotherServer(t *testing.T) {
	j := newJobRig(t, func(_ *director.Options, p *scheduling.Profile) {
		*p = scheduling.Profile{Picker: &plugins.RoundRobin{}}
	})
	at := j.put("video_1")
	require.NotEqual(t, at, j.poll("video_1", "completed"))
	require.NotEqual(t, at, j.ask("GET", "/v1/videos/video_1", "", 404, ""))
	require.Equal(t, 1, j.Jobs())
	require.Equal(t, at, j.poll("video_1", "completed"))
	require.Zero(t, j.Jobs())
}

// TestJobsAreBounded in number and time, and answers that are no jobs are not followed.
func TestJobsAreBounded(t *testing.T) {
	j := newJobRig(t, func(o *director.Options, _ *scheduling.Profile) {
		o.Jobs = director.JobOptions{Max: 3, Time: 50 * time.Millisecond}
	})
	for i := range 10 {
		j.put(fmt.Sprint("video_", i))
	}
	require.Equal(t, 3, j.Jobs())
	total := int64(0)
	for _, ep := range endpoints(j.store) {
		total += ep.Load.Requests()
	}
	require.EqualValues(t, 3, total)
	time.Sleep(60 * time.Millisecond)
	j.poll("video_9", "in_progress") // for ever
	require.Equal(t, 2, j.Jobs())
	j.put("video_10")
	require.Equal(t, 1, j.Jobs())
	j.poll("video_10", "completed")
	zeroLedgers(t, endpoints(j.store))

	for _, answer := range []string{
		`{"id":"video_1","object":"video","status":"completed"}`, `{"id":"video_1","object":"video","status":"failed","error":{"message":"x"}}`,
		`{"object":"video","status":"queued"}`, `{"id":"` + strings.Repeat("x", 10_000) + `","status":"queued"}`, `{"created":1,"data":[{"b64_json":"AA=="}]}`,
		`{"id":"video_1","status":"queued","prompt":"` + strings.Repeat("x", 100_000) + `"}`, "MP4", "",
	} {
		j.ask("POST", "/v1/videos", `{"prompt":"a cat"}`, 200, answer)
		require.Zero(t, j.Jobs(), "%.80s", answer)
	}
	j.ask("POST", "/v1/videos", `{"prompt":"a cat"}`, 429, `{"id":"video_1","object":"video","status":"queued"}`)
	j.ask("POST", "/v1/batches", `{"input_file_id":"f"}`, 200, `{"id":"batch_1","object":"batch","status":"validating"}`)
	j.ask("POST", "/v1/chat/completions", `{"model":"food","messages":[]}`, 200, `{"id":"c","object":"chat.completion","status":"queued"}`)
	require.Zero(t, j.Jobs())
	zeroLedgers(t, endpoints(j.store))

	_, err := director.New(director.Options{Store: j.store, Jobs: director.JobOptions{Max: -1}})
	require.ErrorContains(t, err, "Options.Jobs")
}

// TestBackgroundResponse: one that its server has only taken is a job as well.
func TestBackgroundResponse(t *testing.T) {
	j := newJobRig(t, nil)
	at := j.ask("POST", "/v1/responses", `{"model":"food","input":"think","background":true}`, 200, `{"id":"resp_1","object":"response","status":"queued"}`)
	require.EqualValues(t, 1, at.Load.Requests())
	require.Equal(t, at, j.ask("GET", "/v1/responses/resp_1", "", 200, `{"id":"resp_1","object":"response","status":"in_progress"}`))
	require.EqualValues(t, 1, at.Load.Requests())
	require.Equal(t, at, j.ask("GET", "/v1/responses/resp_1", "", 200, `{"id":"resp_1","object":"response","status":"failed","error":{"message":"server_error"}}`))
	zeroLedgers(t, endpoints(j.store))
	for _, e := range j.finished {
		require.False(t, e.Outcome.Failed(), "%+v", e.Outcome)
	}
}

// TestJobThatNobodyAsksFor ends while nothing else comes: what is told of servers has it seen that it is over.
func TestJobThatNobodyAsksFor(t *testing.T) {
	for name, change := range map[string]func(*director.Options, *scheduling.Profile){
		"by its scheduler": func(_ *director.Options, p *scheduling.Profile) { p.BookingTTL = 20 * time.Millisecond },
		"by the director":  func(o *director.Options, _ *scheduling.Profile) { o.Jobs.Time = 20 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			j := newJobRig(t, change)
			at := j.put("video_1")
			j.store.SetModels(at.Load, []string{"a"})
			require.EqualValues(t, 1, at.Load.Requests())
			for _, model := range []string{"b", "c"} { // the first may find that it was alive until now
				time.Sleep(30 * time.Millisecond)
				j.store.SetModels(at.Load, []string{model})
			}
			require.Zero(t, at.Load.Held())
			require.Zero(t, j.Jobs())
			require.False(t, j.finished[0].Outcome.Failed())
		})
	}
}

// TestJobAskedAbout: that a browser asks whether it may fetch a film says nothing of whether there is one.
func TestJobAskedAbout(t *testing.T) {
	j := newJobRig(t, nil)
	at := j.put("video_1")
	require.Equal(t, at, j.ask("OPTIONS", "/v1/videos/video_1/content", "", 200, ""))
	require.Equal(t, at, j.ask("OPTIONS", "/v1/videos/video_1", "", 404, ""))
	require.Equal(t, 1, j.Jobs())
	require.Equal(t, at, j.ask("HEAD", "/v1/videos/video_1/content", "", 200, ""))
	require.Zero(t, j.Jobs())
}

// TestStreamThatWasLeft: a response in the background goes on where it is when its client has gone, and is asked for again.
func TestStreamThatWasLeft(t *testing.T) {
	j := newJobRig(t, nil)
	for i := range 20 {
		r, err := j.Route(ctx, director.Incoming{Path: "/v1/responses", Body: []byte(`{"model":"food","input":"hi","stream":true,"background":true}`)})
		require.NoError(t, err)
		id := fmt.Sprint("resp_", i)
		r.Response(200, "text/event-stream")
		r.Data([]byte(`data: {"type":"response.created","response":{"id":"` + id + `","object":"response","status":"queued"}}` + "\n\n"))
		r.Done(context.Canceled)
		require.Equal(t, r.Endpoint(), j.ask("GET", "/v1/responses/"+id+"?stream=true&starting_after=0", "", 200, ""))
	}
	zeroLedgers(t, endpoints(j.store))
}

// TestJobIsNotRevoked once its server has taken it: nothing that could be ended is under way here.
func TestJobIsNotRevoked(t *testing.T) {
	var asked []string
	j := newJobRig(t, func(o *director.Options, _ *scheduling.Profile) {
		o.Admission = func(types.NamespacedName) *admission.Options {
			return &admission.Options{Detector: admission.Concurrency{Requests: 1}, Revoke: true, Hooks: admission.Hooks{
				Revoked: func(k *admission.Ticket) { asked = append(asked, k.Request().ID) },
			}}
		}
	})
	in := director.Incoming{Path: "/v1/videos", Pool: pool, Body: []byte(`{"prompt":"a cat"}`), Objective: "low"}
	objs, err := types.DecodeManifests([]byte(`{"apiVersion":"inference.networking.x-k8s.io/v1alpha2","kind":"InferenceObjective","metadata":{"name":"low"},"spec":{"priority":-5,"poolRef":{"name":"pool"}}}
		{"apiVersion":"inference.networking.x-k8s.io/v1alpha2","kind":"InferenceObjective","metadata":{"name":"high"},"spec":{"priority":100,"poolRef":{"name":"pool"}}}`))
	require.NoError(t, err)
	require.NoError(t, j.store.Apply(objs...))
	for i := range 3 {
		r, err := j.Route(ctx, in)
		require.NoError(t, err)
		require.Equal(t, -5, r.Request.Priority)
		r.OnRevoke(func(why *director.Error) { r.Done(why) })
		r.Response(200, "application/json")
		r.Data(fmt.Appendf(nil, `{"id":"video_%d","object":"video","status":"queued"}`, i))
		r.End()
	}
	in.Objective, in.MaxWait = "high", 20*time.Millisecond
	_, err = j.Route(ctx, in)
	require.Error(t, err)
	require.Empty(t, asked)
	require.Equal(t, 3, j.Jobs())
	for i := range 3 {
		j.poll(fmt.Sprint("video_", i), "completed")
	}
	r, err := j.Route(ctx, in)
	require.NoError(t, err)
	r.Done(nil)
	zeroLedgers(t, endpoints(j.store))
}
