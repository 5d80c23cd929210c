package inferpick_test

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	inferpick "github.com/inferpick/inferpick/examples/grpc"
	"github.com/inferpick/inferpick/types"
)

func Example() {
	conn, err := grpc.NewClient("dns:///llama:9000",
		append(inferpick.DialOptions(inferpick.Name, nil), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Println(conn.Target())
	// Output: dns:///llama:9000
}

func ExampleDialOptions() {
	describe := func(method string, message any, req *types.Request) {
		if m, ok := message.(*wrapperspb.StringValue); ok {
			req.Prompt = types.TextPrompt(m.Value) // or types.TokenPrompt(ids)
			req.MaxTokens = 256
		}
	}
	options := inferpick.DialOptions(inferpick.Name, describe)
	fmt.Println(len(options))
	// Output: 3
}

func ExampleWithRequest() {
	ctx := inferpick.WithRequest(context.Background(), types.Request{Priority: 10, SessionID: "session"})
	fmt.Println(ctx.Err())
	// Output: <nil>
}
