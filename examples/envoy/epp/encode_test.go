package epp_test

import (
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/internal/envoyside"
)

// stepsYAML is a pool whose servers are for single steps of a request, by a label, and the configuration
// of llm-d for them.
func stepsYAML(label string) string {
	endpoints := `---
apiVersion: inferpick.io/v1alpha1
kind: StaticEndpoints
metadata: {name: steps}
spec:
  poolRef: {name: llama}
  endpoints:
`
	for _, e := range [][2]string{{"1", "decode"}, {"2", "prefill"}, {"3", "encode"}, {"4", "encode"}, {"5", "encode"}} {
		endpoints += "  - {id: " + e[1] + e[0] + ", address: 10.0.0." + e[0] + ":8000, labels: {" + label + ": " + e[1] + ", rev: " + map[bool]string{true: "old", false: "new"}[e[0] == "5"] + "}, metrics: {disabled: true}}\n"
	}
	return poolYAML("llama") + modelYAML("chat", "llama", "llama-8b") + endpoints + pickerHead + `plugins:
- {type: disaggregatedset-rollout-screener, parameters: {revisionGating: {mode: sum, revisionLabelKey: rev}}}
- {type: max-score-picker, parameters: {maxNumOfEndpoints: 3}}
- {type: always-disagg-pd-decider}
- {type: always-disagg-multimodal-decider}
- {type: in-flight-requests-scorer}
- {type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider, encode: always-disagg-multimodal-decider}}}
schedulingProfiles:
- {name: decode, plugins: [{pluginRef: in-flight-requests-scorer}]}
- {name: prefill, plugins: [{pluginRef: in-flight-requests-scorer}]}
- {name: encode, plugins: [{pluginRef: in-flight-requests-scorer}, {pluginRef: max-score-picker}]}
`
}

const photo = `{"model": "chat", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}]}`

// TestSteps: who computes the prompt and who encodes is told to the side-car: servers of the same revision,
// of the subset that the gateway allows, and those that have the least to do.
func TestSteps(t *testing.T) {
	t.Parallel()
	for _, label := range []string{"llm-d.ai/role", "tier"} {
		r := start(t, stepsYAML(label), func(o *epp.Options) {
			if label != "llm-d.ai/role" {
				o.RoleLabel = label
			}
		})
		c := r.client()
		ask := func(body string, subset ...any) (prefill, encoders string, end func()) {
			x := open(t, c)
			m := requestHeaders("x-encoder-hosts-ports", "10.9.9.9:1")
			if subset != nil {
				list, err := structpb.NewStruct(map[string]any{"x-gateway-destination-endpoint-subset": subset})
				require.NoError(t, err)
				m.MetadataContext = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.lb.subset_hint": list}}
			}
			x.send(m)
			x.send(envoyside.RequestBody(body, true))
			h := x.recv().GetRequestHeaders().GetResponse().GetHeaderMutation()
			for _, set := range h.GetSetHeaders() {
				switch set.Header.Key {
				case "x-prefiller-host-port":
					prefill = string(set.Header.RawValue)
				case "x-encoder-hosts-ports":
					encoders = string(set.Header.RawValue)
				}
			}
			require.Equal(t, encoders == "", slices.Contains(h.GetRemoveHeaders(), "x-encoder-hosts-ports"))
			x.recv()
			return prefill, encoders, x.finish
		}
		text := strings.Replace(photo, "image_url", "text", 1)
		text = strings.Replace(text, `"image_url": {"url": "data:image/png;base64,aGk="}`, `"text": "hello"`, 1)

		prefill, encoders, end := ask(text)
		require.Equal(t, "10.0.0.2:8000", prefill)
		require.Empty(t, encoders)
		end()
		// Of the old revision there is nobody who answers.
		_, first, end := ask(photo)
		require.ElementsMatch(t, []string{"10.0.0.3:8000", "10.0.0.4:8000"}, strings.Split(first, ","))
		_, second, end2 := ask(photo)
		require.NotEqual(t, strings.Split(first, ",")[0], strings.Split(second, ",")[0], "the first is busy")
		end()
		end2()
		_, encoders, end = ask(photo, "10.0.0.1:8000", "10.0.0.4")
		require.Equal(t, "10.0.0.4:8000", encoders)
		end()
		eventually(t, "nothing is booked", func() bool {
			for _, ep := range r.Store().Snapshot().Pools()[0].Endpoints() {
				if ep.Load.Requests() != 0 {
					return false
				}
			}
			return r.Open() == 0
		})
	}
}
