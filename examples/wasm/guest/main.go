//go:build wasip1

// The guest is the picker as a WebAssembly module that a host calls: a reactor, which has no
// main of its own. Build it by
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o picker.wasm ./guest
//
// A host writes what it has to say to the input, and calls a function with the lengths of its
// parts. The result says where the output is (the upper half), and how long (the lower one);
// the highest bit of the length is set if the output is the text of an error.
package main

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"time"
	"unsafe"

	"github.com/inferpick/inferpick/examples/wasm/picker"
)

var p *picker.Picker
var input, output []byte

func main() {}

//go:wasmexport start
func start(seed uint64) { p = picker.New(seed, time.Now) }

// reserve returns where the host may write n bytes of input, for the next call.
//
//go:wasmexport input
func reserve(n uint32) uint32 {
	input = slices.Grow(input[:0], int(n))[:n]
	return address(input)
}

func address(b []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// result keeps the output until the next one, and returns where it is.
func result(out []byte, err error) uint64 {
	var failed uint64
	if err != nil {
		out, failed = []byte(err.Error()), 1<<31
	}
	output = out
	return uint64(address(out))<<32 | failed | uint64(len(out))
}

// setEndpoints takes a list of picker.Reading in JSON.
//
//go:wasmexport set_endpoints
func setEndpoints(n uint32) uint64 {
	var readings []picker.Reading
	err := json.Unmarshal(input[:n], &readings)
	if err == nil {
		err = p.SetEndpoints(readings)
	}
	return result(nil, err)
}

// schedule takes a path and a body, and outputs the choice in words: ticket, endpoint,
// fallbacks.
//
//go:wasmexport schedule
func schedule(path, body uint32) uint64 {
	choice, err := p.Schedule(string(input[:path]), input[path:path+body])
	words := binary.LittleEndian.AppendUint32(nil, choice.Ticket)
	for _, endpoint := range append([]int{choice.Endpoint}, choice.Fallbacks...) {
		words = binary.LittleEndian.AppendUint32(words, uint32(endpoint))
	}
	return result(words, err)
}

// explain takes the same, and outputs a table.
//
//go:wasmexport explain
func explain(path, body uint32) uint64 {
	table, err := p.Explain(string(input[:path]), input[path:path+body])
	return result([]byte(table), err)
}

//go:wasmexport first_token
func firstToken(ticket uint32) { p.FirstToken(ticket) }

// done takes the fields of a picker.End.
//
//go:wasmexport done
func done(ticket, result uint32, status, cached, output int32) {
	p.Done(picker.End{Ticket: ticket, Result: picker.Result(result), Status: status, CachedTokens: cached, OutputTokens: output})
}
