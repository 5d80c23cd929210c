//go:build wasip1

// The guest is the picker as a WebAssembly module that a host calls: a reactor, which has no
// main of its own. Build it by
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o picker.wasm ./guest
//
// A host writes what it has to say to Input and reads what Output says. Functions return 0,
// or 1 if the output is the text of an error.
package main

import (
	"encoding/json"
	"time"
	"unsafe"

	"github.com/inferpick/inferpick/examples/wasm/picker"
)

var (
	p             *picker.Picker
	input, output []byte
)

func main() {}

// reserve returns where the host may write n bytes of input.
//
//go:wasmexport input
func reserve(n uint32) uint32 {
	if uint32(cap(input)) < n {
		input = make([]byte, n)
	}
	input = input[:n]
	return address(input)
}

// result returns where the output is, and its length in the lower half.
//
//go:wasmexport output
func result() uint64 { return uint64(address(output))<<32 | uint64(len(output)) }

func address(b []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

//go:wasmexport start
func start(seed uint64) uint32 {
	var err error
	p, err = picker.New(seed, time.Now)
	return answer(nil, err)
}

// setEndpoints takes a list of picker.Reading.
//
//go:wasmexport set_endpoints
func setEndpoints() uint32 {
	var readings []picker.Reading
	if err := json.Unmarshal(input, &readings); err != nil {
		return answer(nil, err)
	}
	p.SetEndpoints(readings)
	return answer(nil, nil)
}

// schedule takes a path of n bytes and the body behind it, and gives a picker.Choice.
//
//go:wasmexport schedule
func schedule(n uint32) uint32 {
	choice, err := p.Schedule(string(input[:n]), input[n:])
	if err != nil {
		return answer(nil, err)
	}
	return answer(json.Marshal(choice))
}

// explain takes the same, and gives a table.
//
//go:wasmexport explain
func explain(n uint32) uint32 {
	table, err := p.Explain(string(input[:n]), input[n:])
	return answer([]byte(table), err)
}

//go:wasmexport first_token
func firstToken(ticket uint32) { p.FirstToken(ticket) }

// done takes a picker.End.
//
//go:wasmexport done
func done() uint32 {
	var end picker.End
	if err := json.Unmarshal(input, &end); err != nil {
		return answer(nil, err)
	}
	p.Done(end)
	return answer(nil, nil)
}

func answer(out []byte, err error) uint32 {
	if output = out; err == nil {
		return 0
	}
	output = []byte(err.Error())
	return 1
}
