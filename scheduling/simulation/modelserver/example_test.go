package modelserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
)

// The same prompt twice: the second time most of it is in the prefix cache.
func Example() {
	s, err := modelserver.Start(context.Background(), modelserver.Options{
		Name:      "a",
		Models:    []string{"llama"},
		TimeScale: 100, // a hundred times as fast as the real thing
	})
	if err != nil {
		panic(err)
	}
	defer s.Close()

	prompt := strings.Repeat("You are a helpful assistant. ", 20)
	for range 2 {
		resp, err := http.Post(s.URL()+"/v1/completions", "application/json",
			strings.NewReader(fmt.Sprintf(`{"model":"llama","prompt":%q,"max_tokens":5,"ignore_eos":true}`, prompt)))
		if err != nil {
			panic(err)
		}
		var reply struct {
			Choices []struct{ Text string }
			Usage   json.RawMessage
		}
		err = json.NewDecoder(resp.Body).Decode(&reply)
		resp.Body.Close()
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s %s\n", reply.Choices[0].Text, reply.Usage)
	}
	fmt.Println(s.Stats().HitTokens, "tokens of", s.Stats().QueriedTokens, "came from the cache")
	// Output:
	// key out the bee cow  {"prompt_tokens":145,"completion_tokens":5,"total_tokens":150,"prompt_tokens_details":{"cached_tokens":0}}
	// key out the bee cow  {"prompt_tokens":145,"completion_tokens":5,"total_tokens":150,"prompt_tokens_details":{"cached_tokens":144}}
	// 144 tokens of 290 came from the cache
}
