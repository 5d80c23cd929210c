package modelserver_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
)

// adapterCard is what the list of models says of an adapter.
type adapterCard struct {
	ID, Root string
	Parent   *string
}

func cards(t *testing.T, c *http.Client, s *modelserver.Server) map[string]adapterCard {
	t.Helper()
	all := map[string]adapterCard{}
	for _, m := range decode[struct{ Data []adapterCard }](t, get(t, c, s.URL()+"/v1/models")).Data {
		all[m.ID] = m
	}
	return all
}

func TestAdaptersSayWhatVLLMSays(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}}), client(t)
	s.Fault("nowhere", modelserver.AdapterFault{LoadFails: 404})
	s.Fault("wide", modelserver.AdapterFault{LoadFails: 500})
	const load, unload = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
	for _, tt := range []struct {
		path, body string
		status     int
		say        string
	}{
		{load, `{"lora_name":"k","lora_path":"/k"}`, 200, "Success: LoRA adapter 'k' added successfully."},
		{load, `{"lora_name":"k","lora_path":"/k"}`, 400, "The lora adapter 'k' has already been loaded."},
		{load, `{"lora_name":"m","lora_path":"/k"}`, 400, "The lora adapter 'm' conflicts with a served base model."},
		{load, `{"lora_name":"nowhere","lora_path":"/n"}`, 404, "Loading lora nowhere failed: No adapter found for /n"},
		{load, `{"lora_name":"wide","lora_path":"/w"}`, 500, "Call to add_lora method failed"},
		{unload, `{"lora_name":"none"}`, 404, "The lora adapter 'none' cannot be found."},
	} {
		if status, _, body := send(t, c, s.URL()+tt.path, tt.body); status != tt.status || !strings.Contains(body, tt.say) {
			t.Errorf("%s %s: status %d, want %d with %q: %s", tt.path, tt.body, status, tt.status, tt.say, body)
		}
	}
	all := cards(t, c, s)
	if k := all["k"]; len(all) != 2 || k.Root != "/k" || k.Parent == nil || *k.Parent != "m" {
		t.Errorf("models %+v, want m and k of /k", all)
	}
	if !s.Unload("k") || s.Unload("k") {
		t.Error("Unload: want true and then false")
	}
	status, _, _ := send(t, c, s.URL()+load, `{"lora_name":"k","lora_path":"/other"}`)
	if k := cards(t, c, s)["k"]; status != 200 || k.Root != "/other" {
		t.Errorf("loaded again: status %d, %+v", status, k)
	}
}

func TestFixedAdapters(t *testing.T) {
	s, c := start(t, modelserver.Options{Adapters: []string{"a"}, FixedAdapters: true}), client(t)
	if status, _, _ := send(t, c, s.URL()+"/v1/load_lora_adapter", `{"lora_name":"k","lora_path":"/k"}`); status != 404 {
		t.Errorf("load: status %d, want 404", status)
	}
	if status, _, _ := send(t, c, s.URL()+"/v1/unload_lora_adapter", `{"lora_name":"a"}`); status != 404 {
		t.Errorf("unload: status %d, want 404", status)
	}
}

// Whoever gives up waiting has not loaded the adapter.
func TestSlowLoad(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}}), client(t)
	s.Fault("slow", modelserver.AdapterFault{LoadTime: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	url, load := s.URL()+"/v1/load_lora_adapter", `{"lora_name":"slow","lora_path":"/s"}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(load))
	require.NoError(t, err)
	if resp, err := c.Do(req); err == nil {
		t.Errorf("status %d within 50 ms, want none within the hour", resp.StatusCode)
	}
	if _, ok := cards(t, c, s)["slow"]; ok {
		t.Error("it is in the list")
	}
	s.Fault("slow", modelserver.AdapterFault{LoadTime: 20 * time.Millisecond})
	began := time.Now()
	if status, _, body := send(t, c, url, load); status != 200 || time.Since(began) < 20*time.Millisecond {
		t.Errorf("status %d after %v: %s", status, time.Since(began), body)
	}
}

func TestFaultyRequests(t *testing.T) {
	adapters := []string{"good", "bad", "gone", "mute"}
	s, c := start(t, modelserver.Options{Models: []string{"m"}, Adapters: adapters}), client(t)
	s.Fault("bad", modelserver.AdapterFault{Errors: .3, Empty: .5})
	s.Fault("gone", modelserver.AdapterFault{Missing: true})
	s.Fault("mute", modelserver.AdapterFault{Empty: 1})
	ask := func(model string) (int, string) {
		body := fmt.Sprintf(`{"model":%q,"prompt":"hello","x-sim-output-tokens":3}`, model)
		status, _, reply := send(t, c, s.URL()+"/v1/completions", body)
		return status, reply
	}
	type answer struct {
		Choices []struct {
			Text   string
			Finish string `json:"finish_reason"`
		}
		Usage struct {
			Tokens int `json:"completion_tokens"`
		}
	}
	for _, model := range []string{"m", "good"} {
		if status, body := ask(model); status != 200 || len(decode[answer](t, body).Choices[0].Text) != 12 {
			t.Errorf("%s: status %d: %s", model, status, body)
		}
	}
	if status, _ := ask("gone"); status != 404 {
		t.Errorf("missing: status %d, want 404", status)
	}
	if _, ok := cards(t, c, s)["gone"]; !ok {
		t.Error("missing: it is not in the list")
	}
	if status, body := ask("mute"); status != 200 {
		t.Errorf("empty: status %d", status)
	} else if a := decode[answer](t, body); a.Choices[0].Text+a.Choices[0].Finish != "stop" || a.Usage.Tokens != 1 {
		t.Errorf("empty: %s", body)
	}
	for _, path := range []string{"/v1/chat/completions", "/v1/messages", "/v1/responses"} {
		status, _, body := send(t, c, s.URL()+path,
			`{"model":"mute","max_tokens":9,"stream":true,"input":"a","messages":[{"role":"user","content":"a"}]}`)
		if status != 200 || !strings.Contains(body, "data: ") {
			t.Errorf("%s: empty stream: status %d: %s", path, status, body)
		}
	}
	failed, empty := 0, 0
	const n = 400
	for range n {
		switch status, body := ask("bad"); {
		case status == 500:
			failed++
		case decode[answer](t, body).Choices[0].Text == "":
			empty++
		}
	}
	if failed < n*2/10 || failed > n*4/10 || empty < (n-failed)*4/10 || empty > (n-failed)*6/10 {
		t.Errorf("of %d requests %d failed, want 30 %%, and %d of the others were empty, want 50 %%", n, failed, empty)
	}
	s.Fault("bad", modelserver.AdapterFault{})
	for range 20 {
		if status, _ := ask("bad"); status != 200 {
			t.Fatalf("without a fault: status %d", status)
		}
	}
}

// A slow adapter takes so many times as long, streamed or not, and still says all of it.
func TestSlowAdapter(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}, Adapters: []string{"slow"}, TimeScale: 4}), client(t)
	s.Fault("slow", modelserver.AdapterFault{Slowdown: 10})
	for _, stream := range []bool{false, true} {
		took := map[string]time.Duration{}
		for _, model := range []string{"m", "slow"} {
			began := time.Now()
			status, _, body := send(t, c, s.URL()+"/v1/completions",
				fmt.Sprintf(`{"model":%q,"prompt":"hello","x-sim-output-tokens":5,"stream":%t}`, model, stream))
			took[model] = time.Since(began)
			chunks := strings.Count(body, `"text":`)
			if want := map[bool]int{false: 1, true: 6}[stream]; status != 200 || chunks != want {
				t.Errorf("stream %t: status %d, %d texts, want %d: %s", stream, status, chunks, want, body)
			}
		}
		// A token takes 1.5 ms or more: ten times that and five tokens are 75 ms.
		if took["slow"] < 60*time.Millisecond {
			t.Errorf("stream %t: %v, without the fault %v", stream, took["slow"], took["m"])
		}
	}
}
