package director_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
)

// TestServersWithoutMetrics, such as Infinity, Whisper servers and SGLang's for diffusion, are told apart by the ledger alone,
// whatever they are asked for.
func TestServersWithoutMetrics(t *testing.T) {
	for name, in := range map[string]director.Incoming{
		"embeddings": {Path: "/v1/embeddings", Body: []byte(`{"model":"m","input":["a","b"]}`)},
		"rerank":     {Path: "/rerank", Body: []byte(`{"query":"q","documents":["a","b"]}`)},
		"pictures":   {Path: "/v1/images/generations", Body: []byte(`{"model":"m","prompt":"a cat","size":"512x512","num_inference_steps":20}`)},
		"films":      {Path: "/v1/videos", Body: []byte(`{"model":"m","prompt":"a cat","size":"832x480","num_frames":17}`)},
		"speech":     {Path: "/v1/audio/speech", Body: []byte(`{"model":"m","input":"hello there","voice":"x"}`)},
		"chat":       {Path: "/v1/chat/completions", Body: chat("m")},
		"session":    {Method: "GET", Path: "/v1/realtime?model=m", HeadersOnly: true, Header: http.Header{"Upgrade": {"websocket"}}},
		"transcription": {Path: "/v1/audio/transcriptions", Header: http.Header{"Content-Type": {"multipart/form-data; boundary=b"}},
			Body: []byte("--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--b--\r\n")},
	} {
		t.Run(name, func(t *testing.T) {
			store := datastore.New(datastore.Options{})
			for _, id := range []string{"a", "b", "c"} {
				require.NoError(t, store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: id, Address: id + ":8000"}))
			}
			p, now := plugins.Default(), time.Now()
			p.Now = func() time.Time { return now } // else what is believed of the first is over before the last comes
			s, err := scheduling.New(p)
			require.NoError(t, err)
			d := newDirector(t, store, func(o *director.Options) { o.Scheduler = s })
			var open []*director.Route
			for range 9 {
				r, err := d.Route(ctx, in)
				require.NoError(t, err)
				open = append(open, r)
			}
			for _, ep := range endpoints(store) {
				require.InDelta(t, 3, ep.Load.Requests(), 2, ep.ID) // more where the prompt has its home
			}
			for _, r := range open {
				r.Done(nil)
			}
			zeroLedgers(t, endpoints(store))
		})
	}
}
