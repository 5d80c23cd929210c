package disagg_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/types"
)

// A request for two engines that speak NIXL: what the first answers goes on to the second.
func ExampleNIXL() {
	protocol := disagg.NIXL(disagg.Options{})
	h, err := protocol.Begin(context.Background(), disagg.Request{
		API: openai.Completions, Path: "/v1/completions", ID: "attempt-1",
		Body:    []byte(`{"prompt":"Once upon a time","max_tokens":200,"stream":true}`),
		Prefill: types.NewEndpoint("p", "10.0.0.1:8000"), Decode: types.NewEndpoint("d", "10.0.0.2:8000"),
	})
	if errors.Is(err, disagg.ErrUnsupported) {
		return // it is served by one engine
	}
	fmt.Println("to 10.0.0.1:", string(h.Prefill().Body))

	answer := `{"choices":[{"text":",","finish_reason":"length"}],"kv_transfer_params":{"remote_engine_id":"e-1"},` +
		`"usage":{"prompt_tokens_details":{"cached_tokens":3}}}`
	decode, err := h.Decode([]byte(answer))
	if err != nil {
		fmt.Println(err) // another prefill engine may be tried
		return
	}
	fmt.Println("to 10.0.0.2:", string(decode.Body))
	fmt.Println("cached:", decode.Cached.Or(0))

	// Output:
	// to 10.0.0.1: {"prompt":"Once upon a time","max_tokens":1,"stream":false,"kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null}}
	// to 10.0.0.2: {"prompt":"Once upon a time","max_tokens":200,"stream":true,"kv_transfer_params":{"remote_engine_id":"e-1"}}
	// cached: 3
}

func ExampleReserved() {
	body := []byte(`{"model":"m","messages":[],"kv_transfer_params":{"remote_host":"10.9.9.9"}}`)
	if name, found := disagg.Reserved(openai.ChatCompletions, body); found {
		fmt.Printf("400: field %q is not for clients\n", name)
	}
	// Output: 400: field "kv_transfer_params" is not for clients
}
