package engines_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/inferpick/inferpick/integration/engines/vllm"
)

// An adapter that some servers have is asked for there alone, and what servers have is
// listed, without a manifest.
func TestAdapters(t *testing.T) {
	all := several(t, 2)
	have, lack := with(t, all, vllm.AdapterName)
	if len(have) == 0 || len(lack) == 0 {
		t.Skipf("%d servers have the adapter %s and %d do not: some of both are needed", len(have), vllm.AdapterName, len(lack))
	}
	quiet(t, all)
	g := before(t, all)

	t.Run("listed", func(t *testing.T) {
		within(t, 10*time.Second, "both models in the list", func() bool {
			models, err := listed(g.URL)
			if err != nil {
				t.Fatal(err)
			}
			return slices.Contains(models, vllm.ModelName) && slices.Contains(models, vllm.AdapterName)
		})
		models, _ := listed(g.URL)
		t.Logf("models: %q", models)
	})
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("asked/stream=%t", stream), func(t *testing.T) {
			var questions []question
			for i := range 24 {
				questions = append(questions, question{model: vllm.AdapterName, prompt: fmt.Sprintf("adapter %d", i), tokens: 4, stream: stream})
			}
			answers := askAll(g.URL, questions, 6)
			allGood(t, answers)
			for server, n := range count(answers) {
				if !slices.Contains(addresses(have), server) {
					t.Errorf("%s answered %d, and does not have the adapter", server, n)
				}
			}
			t.Logf("the adapter: %v", count(answers))
		})
	}
	t.Run("base model everywhere", func(t *testing.T) {
		var questions []question
		for i := range 24 {
			questions = append(questions, question{prompt: fmt.Sprintf("base %d", i), tokens: 4})
		}
		answers := askAll(g.URL, questions, len(questions))
		allGood(t, answers)
		if got := count(answers); len(got) != len(all) {
			t.Errorf("the base model: %v, want all %d servers", got, len(all))
		}
	})
}

// listed returns the ids of GET /v1/models.
func listed(url string) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/models", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var list struct{ Data []struct{ ID string } }
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return nil, err
	}
	var names []string
	for _, m := range list.Data {
		names = append(names, m.ID)
	}
	return names, nil
}
