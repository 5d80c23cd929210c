package director_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/types"
)

const twoImages = `{"model":"food","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"a"}},{"type":"image_url","image_url":{"url":"b"}}]}]}`

var encodeRoles = []string{"e1 encode", "e2 encode", "p1 prefill", "d1 decode"}

// encoding is a stage by the default policy.
func encoding(t testing.TB) *director.Encoding {
	s, err := scheduling.New(plugins.Default())
	require.NoError(t, err)
	nixl := disagg.EncoderNIXL(disagg.Options{})
	return &director.Encoding{Encoder: func(_, _ *types.Endpoint) disagg.Encoder { return nixl }, Scheduler: s}
}

// encode returns a director with an encode stage, and a route of two images.
func encode(t *testing.T, change func(*director.Encoding), roles ...string) (*director.Director, *director.Route) {
	t.Helper()
	e := encoding(t)
	if change != nil {
		change(e)
	}
	d, store := apart(t, disagg.NIXL(disagg.Options{}), func(o *director.Options) { o.Encode = e }, roles...)
	r, err := d.Route(t.Context(), director.Incoming{Path: "/v1/chat/completions?x=1", Body: []byte(twoImages), Header: map[string][]string{"X-Request-Id": {"c"}}, Split: true})
	require.NoError(t, err)
	t.Cleanup(func() {
		r.Done(nil)
		for _, ep := range store.Snapshot().Pool(pool).Endpoints() {
			require.Equal(t, types.Booking{}, ep.Load.Held(), ep.ID)
		}
	})
	return d, r
}

func answerOf(hash string) []byte {
	return fmt.Appendf(nil, `{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"length"}],"ec_transfer_params":{"%s": {"n":1.0}}}`, hash)
}

// A data plane of its own makes the prefill leg of what encoders answer.
func TestEncodes(t *testing.T) {
	var told director.EncodeStats
	_, r := encode(t, func(e *director.Encoding) { e.OnDone = func(_ *director.Route, s director.EncodeStats) { told = s } }, encodeRoles...)
	e := r.Encodes()
	require.NotNil(t, e)
	require.Nil(t, r.Encodes(), "it is asked once")
	require.Equal(t, []int{2, 2, 4 << 20}, []int{e.Len(), e.AtOnce(), e.MaxAnswer()})
	require.Equal(t, 30*time.Second, e.Timeout())
	require.Nil(t, e.Begin(t.Context(), 2))
	require.Nil(t, e.Begin(t.Context(), -1))
	first, second := e.Begin(t.Context(), 0), e.Begin(t.Context(), 1)
	require.NotEqual(t, first.Endpoint().ID, second.Endpoint().ID, "what the first has to do is booked")
	require.Equal(t, int64(1), first.Endpoint().Load.Requests())
	require.Equal(t, "/v1/chat/completions?x=1", first.Leg().Path)
	require.Regexp(t, `^c-[A-Z2-7]{16}-enc-0$`, first.Leg().Header["X-Request-Id"])
	require.Equal(t, `{"model":"food-v1","max_tokens":1,"stream":false,"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"b"}}]}]}`, string(second.Leg().Body))
	second.Failed(errors.New("gone"), false)
	second.Cancelled() // the first call counts
	again := e.Begin(t.Context(), 1)
	require.Equal(t, first.Endpoint().ID, again.Endpoint().ID, "another one")
	for i, l := range []*director.EncodeLeg{first, again} {
		answer, err := l.Answer(200, nil, answerOf([]string{"a", "b"}[i]))
		require.NoError(t, err)
		require.Nil(t, answer)
	}
	require.Nil(t, e.Begin(t.Context(), 1), "two have tried")
	e.Done()
	e.Done()
	require.Equal(t, director.EncodeStats{Items: 2, Encoded: 2, Legs: 3}, told)
	require.Nil(t, e.Begin(t.Context(), 0), "it is over")
	legs, err := r.Legs(t.Context())
	require.NoError(t, err)
	_, leg := legs.Prefill()
	require.Contains(t, string(leg.Body), `,"ec_transfer_params":{"a":{"n":1.0},"b":{"n":1.0}}`)
	_, err = legs.PrefillAnswer(200, nil, []byte(`{"choices":[{"finish_reason":"length"}],"kv_transfer_params":{"x":1}}`))
	require.NoError(t, err)
	require.NotContains(t, string(legs.Decode().Body), "ec_transfer_params")
	require.Nil(t, r.EncodedBody())
}

// An item weighs at an encoder what it weighs in the prompt, by its size and the model's family.
func TestEncodeWeight(t *testing.T) {
	families, err := openai.ParseFamilies([]byte(`{"families":[{"models":["food-v1"],"video":{"seconds":100}}]}`))
	require.NoError(t, err)
	e := encoding(t)
	d, store := apart(t, disagg.NIXL(disagg.Options{}), func(o *director.Options) { o.Encode, o.Families = e, families }, "e1 encode", "p1 prefill", "d1 decode")
	small, large := pngPart(256, 128), pngPart(1024, 512)
	far := `{"type":"image_url","image_url":{"url":"http://far/picture"}}`
	body := `{"model":"food","messages":[{"role":"user","content":[` + strings.Join([]string{small, far, small, large,
		`{"type":"video_url","video_url":{"url":"http://far/film"}}`, `{"type":"input_audio","input_audio":{"format":"wav","data":"AA"}}`}, ",") + `]}]}`
	r, err := d.Route(t.Context(), director.Incoming{Path: "/v1/chat/completions", Body: []byte(body), Split: true})
	require.NoError(t, err)
	defer r.Done(nil)
	var want, got []int64
	for i, m := range r.Request.Prompt.Media {
		if i != 2 { // the first again
			want = append(want, int64(m.Tokens))
		}
	}
	require.Equal(t, int64(256*128/32/32), want[0])
	require.Equal(t, int64(1024*512/32/32), want[2])
	items := r.Encodes()
	for i := range items.Len() {
		l := items.Begin(t.Context(), i)
		got = append(got, l.Endpoint().Load.Held().PrefillTokens)
		l.Cancelled()
	}
	require.Equal(t, want, got)
	items.Done()
	require.Zero(t, store.Snapshot().Pool(pool).Endpoints()[0].Load.Requests())
}

// pngPart is a part of a message with a picture of a size.
func pngPart(width, height uint32) string {
	png := binary.BigEndian.AppendUint32([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), width)
	png = append(binary.BigEndian.AppendUint32(png, height), make([]byte, 400)...)
	return `{"type":"image_url","image_url":{"url":"data:image/png;base64,` + base64.StdEncoding.EncodeToString(png) + `"}}`
}

// An endpoint that answers alone gets it with the request, once.
func TestEncodedBody(t *testing.T) {
	_, r := encode(t, nil, "e1 encode", "x1 ")
	e := r.Encodes()
	for i := range e.Len() {
		_, err := e.Begin(t.Context(), i).Answer(200, nil, answerOf("a"))
		require.NoError(t, err)
	}
	e.Done()
	legs, err := r.Legs(t.Context())
	require.NoError(t, err)
	require.Nil(t, legs)
	require.Equal(t, strings.TrimSuffix(string(r.Body), "}")+`,"ec_transfer_params":{"a":{"n":1.0}}}`, string(r.EncodedBody()))
	require.Nil(t, r.EncodedBody())
	require.NotContains(t, string(r.Body), "ec_transfer_params")
}

// What an encoder has answered is judged as an answer.
func TestEncodeAnswers(t *testing.T) {
	const bad = `{"error":{"message":"cannot identify image file","code":400}}`
	for name, c := range map[string]struct {
		status int
		body   string
		client bool
		err    string
	}{
		"the client's fault":           {status: 400, body: bad, client: true},
		"the client's fault in a 200":  {status: 200, body: bad, client: true},
		"the encoder's":                {status: 500, body: `{}`, err: "500"},
		"the encoder's in a 200":       {status: 200, body: `{"error":{"message":"x","code":500}}`, err: "x"},
		"not as the others":            {status: 404, body: `{}`, err: "404"},
		"busy":                         {status: 429, body: `{}`, err: "429"},
		"a redirect":                   {status: 302, err: "302"},
		"no answer":                    {status: 200, body: `hello`, err: "no JSON object"},
		"something else for the other": {status: 200, body: `{"choices":[],"ec_transfer_params":1}`, err: "want an object"},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := encode(t, nil, encodeRoles...)
			e := r.Encodes()
			l := e.Begin(t.Context(), 0)
			answer, err := l.Answer(c.status, map[string][]string{"Content-Type": {"application/json"}, "Content-Length": {"9"}}, []byte(c.body))
			e.Done()
			if !c.client {
				require.Nil(t, answer)
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, &director.Answer{Status: c.status, Header: map[string][]string{"Content-Type": {"application/json"}}, Body: []byte(c.body)}, answer)
			l.FromEncoder()
			r.ResponseHeader(answer.Status, answer.Header)
			require.Equal(t, c.body, string(r.Data(answer.Body))+string(r.End()))
			require.Equal(t, 400, r.Status())
		})
	}
}

// Whoever ends the request ends the legs that nobody has ended.
func TestEncodeIsAbandoned(t *testing.T) {
	for _, end := range []func(*director.Route, *director.Encodes){
		func(r *director.Route, _ *director.Encodes) { r.Done(errors.New("gone")) },
		func(_ *director.Route, e *director.Encodes) { e.Done() },
	} {
		_, r := encode(t, nil, encodeRoles...)
		e := r.Encodes()
		l := e.Begin(t.Context(), 0)
		require.Equal(t, int64(1), l.Endpoint().Load.Requests())
		end(r, e)
		require.Zero(t, l.Endpoint().Load.Requests())
		require.Nil(t, e.Begin(t.Context(), 1))
		answer, err := l.Answer(200, nil, answerOf("a"))
		require.Nil(t, answer)
		require.NoError(t, err)
	}
}

// A request that a gateway restricts to some endpoints is encoded within them.
func TestEncodeSubset(t *testing.T) {
	d, _ := encode(t, nil, encodeRoles...)
	r, err := d.Route(t.Context(), director.Incoming{Path: "/v1/chat/completions", Body: []byte(twoImages), HasSubset: true, Subset: []string{"10.0.0.2", "10.0.0.4"}})
	require.NoError(t, err)
	defer r.Done(nil)
	e := r.Encodes()
	for i := range 2 {
		l := e.Begin(t.Context(), i)
		require.Equal(t, "e2", l.Endpoint().ID)
		l.Cancelled()
	}
}

func TestEncodingOptions(t *testing.T) {
	for want, change := range map[string]func(*director.Encoding){
		"Encode.Encoder is required":                            func(e *director.Encoding) { e.Encoder = nil },
		"Encode.Scheduler is required":                          func(e *director.Encoding) { e.Scheduler = nil },
		"Encode.Timeout is -1s, want more than 0":               func(e *director.Encoding) { e.Timeout = -time.Second },
		"Encode.MaxItems is -1, want more than 0, or 0 for":     func(e *director.Encoding) { e.MaxItems = -1 },
		"Encode.MaxParams is -2, want more than 0, or 0 for":    func(e *director.Encoding) { e.MaxParams = -2 },
		"Encode.AtOnce is -3, want more than 0, or 0 for":       func(e *director.Encoding) { e.AtOnce = -3 },
		"Encode.MaxBytes is -4, want more than 0, or 0 for":     func(e *director.Encoding) { e.MaxBytes = -4 },
		"Encode.MaxAnswer is -5, want more than 0, or 0 for th": func(e *director.Encoding) { e.MaxAnswer = -5 },
	} {
		e := encoding(t)
		change(e)
		_, err := director.New(director.Options{Store: newStore(t, 1, datastore.Options{}), Encode: e})
		require.ErrorContains(t, err, want)
	}
}

// Requests without media pay nothing for the stage.
func TestEncodesAllocations(t *testing.T) {
	d, _ := encode(t, nil, encodeRoles...)
	r, err := d.Route(t.Context(), director.Incoming{Path: "/v1/chat/completions", Body: conversation(1 << 10)})
	require.NoError(t, err)
	defer r.Done(nil)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if r.Encodes() != nil || r.EncodedBody() != nil {
			t.Error("there is nothing to be encoded")
		}
	}))
}

// tracker counts what it is told.
type tracker struct{ picked, first, finished, forgotten []string }

func (t *tracker) Picked(_ *types.Request, ep *types.Endpoint)     { t.picked = append(t.picked, ep.ID) }
func (t *tracker) FirstToken(_ *types.Request, ep *types.Endpoint) { t.first = append(t.first, ep.ID) }
func (t *tracker) Finished(_ *types.Request, ep *types.Endpoint, _ types.Outcome) {
	t.finished = append(t.finished, ep.ID)
}
func (t *tracker) Forget(ep *types.Endpoint) { t.forgotten = append(t.forgotten, ep.ID) }

// What is learned of times is not of those in which encoders were waited for; and of an encoder it is the
// time of its one token.
func TestEncodeTimes(t *testing.T) {
	var own, others tracker
	store := newStore(t, 0, datastore.Options{})
	require.NoError(t, store.SetEndpoints(pool, []datastore.EndpointSpec{
		{ID: "x", Address: "10.0.0.1:8000"}, {ID: "e", Address: "10.0.0.2:8000", Labels: map[string]string{types.RoleLabel: "encode"}},
	}))
	scheduler := func(t *tracker) *scheduling.Scheduler {
		return scheduling.Must(scheduling.New(scheduling.Profile{Picker: plugins.MaxScore{}, Trackers: []scheduling.Tracker{t}}))
	}
	e := encoding(t)
	e.Scheduler = scheduler(&others)
	d, err := director.New(director.Options{Store: store, Scheduler: scheduler(&own), Encode: e})
	require.NoError(t, err)
	defer d.Close()
	r, err := d.Route(t.Context(), director.Incoming{Path: "/v1/chat/completions", Body: []byte(twoImages)})
	require.NoError(t, err)
	stage := r.Encodes()
	_, err = stage.Begin(t.Context(), 0).Answer(200, nil, answerOf("a"))
	require.NoError(t, err)
	stage.Done()
	require.Equal(t, tracker{picked: []string{"x", "x"}, finished: []string{"x"}}, own)
	require.Equal(t, tracker{picked: []string{"e"}, first: []string{"e"}, finished: []string{"e"}}, others)
	r.Done(nil)
	require.NoError(t, store.SetEndpoints(pool, []datastore.EndpointSpec{{ID: "x", Address: "10.0.0.1:8000"}}))
	require.Equal(t, []string{"e"}, others.forgotten)
}

// choosy cannot hand over what p1 has.
type choosy struct{ disagg.Protocol }

func (c choosy) Begin(ctx context.Context, r disagg.Request) (disagg.Handover, error) {
	if r.Prefill.ID == "p1" {
		return nil, fmt.Errorf("%w: not that one", disagg.ErrPrefill)
	}
	return c.Protocol.Begin(ctx, r)
}

// What was made for one endpoint does not go to another.
func TestEncodedForAnother(t *testing.T) {
	e := encoding(t)
	d, _ := apart(t, choosy{disagg.NIXL(disagg.Options{})}, func(o *director.Options) { o.Encode = e }, "e1 encode", "p1 prefill", "p2 prefill", "d1 decode")
	r, err := d.Route(t.Context(), director.Incoming{Path: "/v1/chat/completions", Body: []byte(twoImages), Split: true})
	require.NoError(t, err)
	defer r.Done(nil)
	stage := r.Encodes()
	_, err = stage.Begin(t.Context(), 0).Answer(200, nil, answerOf("a"))
	require.NoError(t, err)
	stage.Done()
	legs, err := r.Legs(t.Context())
	require.NoError(t, err)
	ep, leg := legs.Prefill()
	require.Equal(t, "p2", ep.ID)
	require.NotContains(t, string(leg.Body), "ec_transfer_params")
}

// Nor to one that answers alone since there is no hand-over for it.
func TestEncodedForNobody(t *testing.T) {
	e := encoding(t)
	d, _ := apart(t, nil, func(o *director.Options) {
		o.Encode, o.Handover = e, func(_, _ *types.Endpoint) disagg.Protocol { return nil }
	}, encodeRoles...)
	r, err := d.Route(t.Context(), director.Incoming{Path: "/v1/chat/completions", Body: []byte(twoImages), Split: true})
	require.NoError(t, err)
	defer r.Done(nil)
	stage := r.Encodes()
	_, err = stage.Begin(t.Context(), 0).Answer(200, nil, answerOf("a"))
	require.NoError(t, err)
	stage.Done()
	legs, err := r.Legs(t.Context())
	require.NoError(t, err)
	require.Nil(t, legs)
	require.Nil(t, r.EncodedBody())
}

// By the default policy an image goes to the encoder that has encoded it before.
func TestEncodeAgain(t *testing.T) {
	d, _ := encode(t, nil, "e1 encode", "e2 encode", "e3 encode", "e4 encode", "d1 decode")
	image := fmt.Sprintf(`{"type":"image_url","image_url":{"url":"data:image/png;base64,%s"}}`, strings.Repeat("abcdefgh", 1<<10))
	var before string
	for range 5 {
		r, err := d.Route(t.Context(), director.Incoming{Path: "/v1/chat/completions", Body: []byte(`{"model":"food","messages":[{"role":"user","content":[` + image + `]}]}`)})
		require.NoError(t, err)
		e := r.Encodes()
		l := e.Begin(t.Context(), 0)
		_, err = l.Answer(200, nil, answerOf("a"))
		require.NoError(t, err)
		e.Done()
		r.Done(nil)
		if before != "" {
			require.Equal(t, before, l.Endpoint().ID)
		}
		before = l.Endpoint().ID
	}
}

// With the stage no client may say what encoders say, whoever is in the pool.
func TestEncodeReserves(t *testing.T) {
	d, err := director.New(director.Options{
		Store: newStore(t, 1, datastore.Options{}), Scheduler: scheduling.Must(scheduling.New(plugins.Default())), Encode: encoding(t),
	})
	require.NoError(t, err)
	defer d.Close()
	_, err = d.Route(t.Context(), director.Incoming{Path: "/v1/chat/completions", Body: []byte(`{"model":"food","ec_transfer_params":{"a":1}}`)})
	require.Equal(t, director.CodeReserved, director.AsError(err).Code)
}
