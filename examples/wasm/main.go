// Wasm asks the picker, as a WebAssembly module, where a request would go, and why.
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o picker.wasm ./guest
//	go run . picker.wasm endpoints.json request.json
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/inferpick/inferpick/examples/wasm/host"
	"github.com/inferpick/inferpick/examples/wasm/picker"
)

const path = "/v1/chat/completions"

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: wasm picker.wasm endpoints.json request.json")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, module, endpoints, request string) error {
	var files [3][]byte
	for i, name := range []string{module, endpoints, request} {
		var err error
		if files[i], err = os.ReadFile(name); err != nil {
			return err
		}
	}
	var readings []picker.Reading
	if err := json.Unmarshal(files[1], &readings); err != nil {
		return fmt.Errorf("%s: %w", endpoints, err)
	}
	guest, err := host.Open(ctx, files[0], host.Options{})
	if err != nil {
		return fmt.Errorf("%s: %w", module, err)
	}
	defer guest.Close(ctx)
	if err := guest.SetEndpoints(ctx, readings); err != nil {
		return err
	}
	table, err := guest.Explain(ctx, path, files[2])
	if err != nil {
		return fmt.Errorf("%s: %w", request, err)
	}
	choice, err := guest.Schedule(ctx, path, files[2])
	if err != nil {
		return err
	}
	fmt.Printf("%s\n%s\n", table, readings[choice.Endpoint].Address)
	return guest.Done(ctx, picker.End{Ticket: choice.Ticket, Status: 200})
}
