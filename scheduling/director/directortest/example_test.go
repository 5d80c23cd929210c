package directortest_test

import (
	"context"
	"fmt"

	"github.com/inferpick/inferpick/scheduling/director/directortest"
)

// A server that fails twice, then answers; and one that breaks off.
func Example() {
	healthy := directortest.Engine{Tokens: 3}
	server := directortest.Start(directortest.FirstThen(2,
		healthy.Always("busy", directortest.JSON(503, `{"error":{"message":"busy"}}`)),
		healthy.Behaviour()))
	defer server.Close()
	client := directortest.NewClient(server.Addr())
	defer client.Close()

	for range 3 {
		res := client.Do(context.Background(), directortest.Ask{})
		fmt.Println(res.Status)
	}
	_ = server.Set(healthy.Break(directortest.AtMiddle, directortest.Close))
	ask := directortest.Ask{Stream: true}
	res := client.Do(context.Background(), ask)
	whole := healthy.Answer("/v1/chat/completions", ask.Body()).Body()
	fmt.Println(res.Status, res.Err, len(res.Body) < len(whole))
	fmt.Println(server.Requests(), "requests over", server.Connections(), "connection")
	// Output:
	// 503
	// 503
	// 200
	// 200 unexpected EOF true
	// 4 requests over 1 connection
}
