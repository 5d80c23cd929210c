//go:build wasip1

// The guest is the picker as a WebAssembly module that a host calls: a reactor, which has no
// main of its own. Build it by
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o picker.wasm ./guest
//
// A host writes what it has to say to the input, and calls a function with the lengths of its
// parts. What is below 0 says that the output is the text of an error.
package main

import (
	"encoding/json"
	"time"
	"unsafe"

	"github.com/inferpick/inferpick/examples/wasm/picker"
	"github.com/inferpick/inferpick/scheduling"
)

var (
	p             *picker.Picker
	input, output []byte
	choice        [2 + scheduling.MaxFallbacks]uint32 // ticket, endpoint, fallbacks
)

const failed = -1

func main() {}

// start makes the picker, and returns where choices are written.
//
//go:wasmexport start
func start(seed uint64) uint32 {
	var err error
	if p, err = picker.New(seed, time.Now); err != nil {
		panic(err) // the profile is a fixed one
	}
	return uint32(uintptr(unsafe.Pointer(&choice)))
}

// reserve returns where the host may write n bytes of input, until it is called again.
//
//go:wasmexport input
func reserve(n uint32) uint32 {
	input = make([]byte, n)
	return address(input)
}

// result returns where the output is, and its length in the lower half.
//
//go:wasmexport output
func result() uint64 { return uint64(address(output))<<32 | uint64(len(output)) }

func address(b []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

func refuse(err error) int32 {
	output = []byte(err.Error())
	return failed
}

// setEndpoints takes a list of picker.Reading in JSON.
//
//go:wasmexport set_endpoints
func setEndpoints(n uint32) int32 {
	var readings []picker.Reading
	if err := json.Unmarshal(input[:n], &readings); err != nil {
		return refuse(err)
	}
	if err := p.SetEndpoints(readings); err != nil {
		return refuse(err)
	}
	return 0
}

// schedule takes a path and a body, and returns how many words of the choice it wrote.
//
//go:wasmexport schedule
func schedule(path, body uint32) int32 {
	c, err := p.Schedule(string(input[:path]), input[path:path+body])
	if err != nil {
		return refuse(err)
	}
	choice[0], choice[1] = c.Ticket, uint32(c.Endpoint)
	for i, fallback := range c.Fallbacks {
		choice[2+i] = uint32(fallback)
	}
	return int32(2 + len(c.Fallbacks))
}

// explain takes the same, and outputs a table.
//
//go:wasmexport explain
func explain(path, body uint32) int32 {
	table, err := p.Explain(string(input[:path]), input[path:path+body])
	if err != nil {
		return refuse(err)
	}
	output = []byte(table)
	return 0
}

//go:wasmexport first_token
func firstToken(ticket uint32) { p.FirstToken(ticket) }

// done takes the fields of a picker.End.
//
//go:wasmexport done
func done(ticket, result uint32, status, cached, output int32) {
	p.Done(picker.End{Ticket: ticket, Result: picker.Result(result), Status: status, CachedTokens: cached, OutputTokens: output})
}
