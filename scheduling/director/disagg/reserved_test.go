package disagg_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
)

func TestReserved(t *testing.T) {
	for _, tt := range []struct {
		body, name string
		found      bool
	}{
		{`{"model":"m","messages":[{"kv_transfer_params":{}}],"rid":"x","prompt_token_ids":[1]}`, "", false},
		{`{"kv_transfer_params":null,"metadata":{"bootstrap_host":"x"}}`, "", false},
		{`{"kv_transfer_params":{}}`, "kv_transfer_params", true},
		{`{"kv_transfer_params":{"a":1},"kv_transfer_params":null}`, "kv_transfer_params", true},
		{` {"kv\u005ftransfer_params":""}`, "kv_transfer_params", true},
		{"\xef\xbb\xbf{\"ec_transfer_params\":{}}", "ec_transfer_params", true},
		{`{"bootstrap_host":"10.0.0.1"}`, "bootstrap_host", true},
		{`{"bootstrap_port":1}`, "bootstrap_port", true},
		{`{"bootstrap_room":0}`, "bootstrap_room", true},
		{`{"disaggregated_params":{}}`, "disaggregated_params", true},
		{`{"disagg_prefill_dp_rank":0}`, "disagg_prefill_dp_rank", true},
		{`{"routed_dp_rank":0}`, "routed_dp_rank", true},
		{`{"data_parallel_rank":0}`, "data_parallel_rank", true},
		// What vLLM hands on to its connectors.
		{`{"vllm_xargs":{"kv_transfer_params":"x"}}`, "vllm_xargs.kv_transfer_params", true},
		{`{"sampling_params":{"extra_args":{"kv_transfer_params":{}}}}`, "sampling_params.extra_args.kv_transfer_params", true},
		{`{"sampling_params":{"extra_args":{}},"sampling_params":{"extra_args":{"ec_transfer_params":{}}},"x":1}`, "sampling_params.extra_args.ec_transfer_params", true},
		{`{"sampling_params":{"extra_args":{"x":{"kv_transfer_params":{}}}}}`, "", false},
		// Engines in Python read more than JSON is.
		{`{"x":NaN,"kv_transfer_params":{}}`, "", true},
		{`{"x":`, "", true},
		{"\xff\xfe{\x00}\x00", "", true},
		{"{\x00}\x00", "", true},
		{"\x00{\x00}", "", true},
		{"\x00\x00\x00{", "", true},
		{" \x00{\x00", "", true},
		// What is no object.
		{``, "", false}, {`[]`, "", false}, {`x`, "", false}, {"--boundary\r\n", "", false}, {`"{"`, "", false},
	} {
		name, found := disagg.Reserved(openai.Other, []byte(tt.body))
		if name != tt.name || found != tt.found {
			t.Errorf("Reserved(%q) = %q, %v, want %q, %v", tt.body, name, found, tt.name, tt.found)
		}
	}
	_, found := disagg.Reserved(openai.GRPCGenerate, []byte("\x00\x00\x00\x00\x01x"))
	require.False(t, found)
}

// What a hand-over writes, no client may.
func TestLegsAreReserved(t *testing.T) {
	for _, name := range disagg.Names() {
		h := begin(t, protocol(t, name, options()), request(openai.ChatCompletions, `{}`))
		_, found := disagg.Reserved(openai.ChatCompletions, h.Prefill().Body)
		require.True(t, found, name)
		for header := range h.Prefill().Header {
			require.Equal(t, strings.EqualFold(header, "x-data-parallel-rank"), disagg.ReservedHeader(header), header)
		}
	}
	for _, header := range strings.Fields("x-data-parallel-rank X-Prefiller-Host-Port X-ENCODER-HOSTS-PORTS x-data-parallel-host-port x-kv-cache-source-host-port") {
		require.True(t, disagg.ReservedHeader(header), header)
	}
}

// Against a reader of tokens: what is reserved is found wherever it stands, and nothing else is.
func FuzzReserved(f *testing.F) {
	for _, seed := range []string{
		`{"kv_transfer_params":{}}`, `{"a":[{"bootstrap_room":1}]}`, `{"sampling_params":{"extra_args":{"kv_transfer_params":1}}}`,
		`{"vllm_xargs":{"vllm_xargs":{"vllm_xargs":{"routed_dp_rank":1}}}}`, `{"routed\u005fdp_rank":null}`, `{}x`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		_, found := disagg.Reserved(openai.Other, []byte(body))
		text := strings.TrimLeft(body, " \t\r\n")
		if !strings.HasPrefix(text, "{") {
			return
		}
		if !json.Valid([]byte(body)) {
			require.True(t, found, "%q is no JSON", body)
			return
		}
		if want := holdsReserved(json.NewDecoder(strings.NewReader(body)), 0); found != want {
			t.Fatalf("Reserved(%q) = %v, want %v", body, found, want)
		}
	})
}

// holdsReserved reads an object.
func holdsReserved(d *json.Decoder, depth int) (found bool) {
	const names = " kv_transfer_params ec_transfer_params bootstrap_host bootstrap_port bootstrap_room bootstrap_pair_key" +
		" decode_tp_size disagg_prefill_dp_rank routed_dp_rank data_parallel_rank disaggregated_params "
	_, _ = d.Token()
	for d.More() {
		token, _ := d.Token()
		key := token.(string)
		var value json.RawMessage
		_ = d.Decode(&value)
		isName := key != "" && !strings.Contains(key, " ") && strings.Contains(names, " "+key+" ")
		found = found || isName && string(value) != "null"
		switch key {
		case "sampling_params", "extra_args", "vllm_xargs":
			if depth < 2 && value[0] == '{' && holdsReserved(json.NewDecoder(strings.NewReader(string(value))), depth+1) {
				found = true
			}
		}
	}
	return found
}
