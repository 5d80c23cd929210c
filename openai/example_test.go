package openai_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

func ExampleParse() {
	body := []byte(`{"model": "food-review", "stream": true, "max_tokens": 100,
	"messages": [{"role": "user", "content": "Is it good?"}], "tools": [{"type": "function"}]}`)

	var req types.Request
	api := openai.APIOf("/v1/chat/completions")
	p, err := openai.Parse(api, "application/json", body, &req, openai.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(api, req.Model, req.Stream, req.MaxTokens, req.Prompt.Tokens)
	for _, s := range req.Prompt.Spans {
		fmt.Printf("%s\n", body[s.Start:s.End])
	}
	fmt.Printf("%s\n", p.SpliceModel(nil, body, "food-review-v2")[:27])
	// Output:
	// chat completions food-review true 100 17
	// [{"type": "function"}]
	// {"role": "user", "content": "Is it good?"}
	// {"model": "food-review-v2",
}

func ExampleError() {
	var req types.Request
	_, err := openai.Parse(openai.ChatCompletions, "", []byte(`{"model": 7}`), &req, openai.Limits{})
	var e *openai.Error
	if errors.As(err, &e) {
		fmt.Println(e.Status, string(e.Body(openai.ChatCompletions)))
	}
	// Output:
	// 400 {"error":{"message":"field \"model\" at line 1 column 11 (byte 10) must be a string, not a number","type":"invalid_request_error","param":"model","code":"invalid_type"}}
}

func ExampleStream() {
	s := openai.NewStream(openai.StreamOptions{
		ContentType: "text/event-stream",
		TargetModel: "food-review-v2",
		Model:       "food-review",
	})
	for _, chunk := range []string{
		`data: {"model":"food-rev`,
		`iew-v2","choices":[{"delta":{"content":"Yes"}}]}` + "\n\n" + `data: {"choices":[],"usa`,
		`ge":{"prompt_tokens":9,"completion_tokens":1}}` + "\n\n" + "data: [DONE]\n\n",
	} {
		fmt.Printf("%s", s.Feed([]byte(chunk)))
	}
	fmt.Printf("%s", s.Close())
	fmt.Println(s.FirstToken(), s.Done(), s.Usage().PromptTokens.Or(0), s.Usage().CompletionTokens.Or(0))
	// Output:
	// data: {"model":"food-review","choices":[{"delta":{"content":"Yes"}}]}
	//
	// data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1}}
	//
	// data: [DONE]
	//
	// true true 9 1
}

func ExampleErrorBody() {
	fmt.Println(string(openai.ErrorBody(404, `the model "x" is not served here`, "model", "model_not_found")))
	fmt.Println(string(openai.ErrorBody(503, "no server is ready; try again later", "", "")))
	// Output:
	// {"error":{"message":"the model \"x\" is not served here","type":"invalid_request_error","param":"model","code":"model_not_found"}}
	// {"error":{"message":"no server is ready; try again later","type":"service_unavailable","param":null,"code":null}}
}

func ExampleMessagesErrorBody() {
	fmt.Println(string(openai.MessagesErrorBody(429, "the pool is full")))
	// Output:
	// {"type":"error","error":{"type":"rate_limit_error","message":"the pool is full"}}
}

func ExampleModelList() {
	fmt.Println(string(openai.ModelList([]string{"food-review"}, time.Unix(1760000000, 0), "inferpick")))
	// Output:
	// {"object":"list","data":[{"id":"food-review","object":"model","created":1760000000,"owned_by":"inferpick"}]}
}
