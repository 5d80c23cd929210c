package director_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// TestAnswer: the list has what manifests and servers name, of the pool if there is one, and
// exactly these names are answered.
func TestAnswer(t *testing.T) {
	named := newStore(t, 1, datastore.Options{})
	other := types.NamespacedName{Namespace: "default", Name: "other"}
	served := datastore.New(datastore.Options{})
	for _, p := range []types.NamespacedName{pool, other} {
		require.NoError(t, served.SetEndpoints(p, []datastore.EndpointSpec{{ID: "a", Address: "10.0.0.1:8000"}}))
	}
	served.SetModels(served.Snapshot().Pool(pool).Endpoints()[0].Load, []string{"org/base", "adapter-1", "org/metrics"})
	served.SetModels(served.Snapshot().Pool(other).Endpoints()[0].Load, []string{"theirs"})
	silent := newStore(t, 1, datastore.Options{})
	require.NoError(t, silent.Replace(nil))
	for _, tt := range []struct {
		name  string
		store *datastore.Store
		pool  types.NamespacedName
		want  []string // nil: nothing is known
	}{
		{"manifests", named, types.NamespacedName{}, []string{"bulk", "food"}},
		{"manifests of the pool", named, pool, []string{"bulk", "food"}},
		{"servers of the pool", served, pool, []string{"adapter-1", "org/base", "org/metrics"}},
		{"another pool", served, other, []string{"theirs"}},
		{"nothing is known", silent, types.NamespacedName{}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDirector(t, tt.store, nil)
			for _, path := range []string{"/v1/models", "/v1/models/", "/v1/models?a=b", "/openai/v1/models"} {
				for _, method := range []string{"GET", "HEAD"} {
					a, ok := d.Answer(director.Incoming{Method: method, Path: path, Pool: tt.pool})
					var list struct{ Data []struct{ ID string } }
					_ = json.Unmarshal(a.Body, &list)
					var got []string
					for _, m := range list.Data {
						got = append(got, m.ID)
					}
					if ok != (tt.want != nil) || !slices.Equal(got, tt.want) {
						t.Errorf("%s %s: %v, %s", method, path, ok, a.Body)
					}
				}
			}
			for _, name := range append([]string{"nope", "theirs", "org", "food", "org/base"}, tt.want...) {
				for _, escaped := range []string{name, strings.ReplaceAll(name, "/", "%2F"), strings.ReplaceAll(name, "o", "%6f")} {
					a, ok := d.Answer(director.Incoming{Method: "GET", Path: "/v1/models/" + escaped, Pool: tt.pool})
					switch {
					case tt.want == nil:
						if ok {
							t.Errorf("%s is answered although nothing is known", escaped)
						}
					case slices.Contains(tt.want, name):
						var m struct{ ID, Object string }
						if err := json.Unmarshal(a.Body, &m); !ok || a.Status != 200 || err != nil || m.ID != name || m.Object != "model" {
							t.Errorf("%s: %v, %d %s", escaped, ok, a.Status, a.Body)
						}
					default:
						if !ok || a.Status != 404 || !strings.Contains(string(a.Body), `"code":"model_not_found"`) {
							t.Errorf("%s: %v, %d %s", escaped, ok, a.Status, a.Body)
						}
					}
				}
			}
		})
	}
	d := newDirector(t, named, nil)
	for _, request := range []string{"POST /v1/models", "DELETE /v1/models/food", "GET /v1/model", "GET /health", "GET /v1/modelsx", "OPTIONS /v1/models"} {
		method, path, _ := strings.Cut(request, " ")
		if _, ok := d.Answer(director.Incoming{Method: method, Path: path}); ok {
			t.Errorf("%s was answered", request)
		}
	}
}

// TestAnswersAreAskedForWhereTheyAre: only the server that gave an answer can give it again,
// cancel it or delete it, as clients do that have it made in the background.
func TestAnswersAreAskedForWhereTheyAre(t *testing.T) {
	d := newDirector(t, newStore(t, 8, datastore.Options{}), nil)
	made := map[string]string{}
	for i := range 16 {
		id := fmt.Sprintf("resp_%dAb", i)
		r := mustRoute(t, d, director.Incoming{Path: "/v1/responses", Body: []byte(`{"model":"food","background":true,"input":"hi"}`)})
		r.Response(200, "application/json")
		r.Data([]byte(`{"id":"` + id + `","object":"response","status":"queued"}`))
		r.End()
		made[id] = r.Endpoint().ID
	}
	for id, at := range made {
		for _, request := range []string{
			"GET /v1/responses/" + id, "GET /v1/responses/" + id + "?stream=true", "GET /openai/v1/responses/" + id + "/input_items",
			"POST /v1/responses/" + id + "/cancel", "DELETE /v1/responses/" + strings.Replace(id, "_", "%5F", 1),
		} {
			in := ask(request)
			in.Body = nil
			r := mustRoute(t, d, in)
			if r.Endpoint().ID != at {
				t.Errorf("%s went to %s, the answer is at %s", request, r.Endpoint().ID, at)
			}
			r.Response(200, "application/json")
			r.End()
		}
	}
	for _, request := range []string{"GET /v1/responses/", "GET /v1/responses/resp_x", "GET /v1/responses/" + strings.Repeat("x", 5000)} {
		in := ask(request)
		in.Body = nil
		mustRoute(t, d, in).Done(nil)
	}
}

const defaultModel = `
{"apiVersion":"inference.networking.x-k8s.io/v1alpha2","kind":"InferenceModelRewrite","metadata":{"name":"default"},
 "spec":{"poolRef":{"name":"pool"},"rules":[{"targets":[{"modelRewrite":"base","weight":1}]}]}}`

// TestNoModel: a rewrite for any model gives one, which goes into the body; else it is a 400,
// whatever becomes of unknown models.
func TestNoModel(t *testing.T) {
	for _, unknown := range []datastore.UnknownModels{datastore.PassThrough, datastore.Refuse} {
		store := newStore(t, 1, datastore.Options{UnknownModels: unknown})
		d := newDirector(t, store, nil)
		in := director.Incoming{Path: "/v1/chat/completions", Body: []byte(`{"messages":[]}`)}
		_, err := d.Route(ctx, in)
		isError(t, err, 400, openai.CodeMissing)
		objs, err := types.DecodeManifests([]byte(defaultModel))
		if err == nil {
			err = store.Apply(objs...)
		}
		require.NoError(t, err)
		for _, body := range []string{`{"messages":[]}`, `{}`, `{"model":null,"messages":[]}`, `{"model":"","x":1}`} {
			in.Body, in.Pool = []byte(body), pool
			r, err := d.Route(ctx, in)
			require.NoError(t, err, "%v: %s", unknown, body)
			var sent struct{ Model string }
			if json.Unmarshal(r.Body, &sent) != nil || sent.Model != "base" || r.Request.TargetModel != "base" {
				t.Errorf("%s became %s", body, r.Body)
			}
			r.Done(nil)
		}
	}
}
