package exchange

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

// This file is about llm-d's proxies in front of servers, its side-cars: a request goes to that of the
// server that answers, and headers tell it whom to ask before. Clients cannot set them, see
// removedHeaders.

// Headers for side-cars. Newer ones know some under other names, which have the same value.
var (
	keysPrefill  = []string{"x-prefiller-host-port", "x-llm-d-prefiller-host-port"}
	keysEncoders = []string{"x-encoder-hosts-ports", "x-llm-d-encoder-hosts-ports"}
	keysRank     = []string{"x-data-parallel-host-port"}

	keysEngineRank = []string{lower(types.HeaderRank)} // for the engine itself
)

// Splits reports whether side-cars have the prompts of requests for a path computed elsewhere, if they are
// told to. Others they hand over as they are.
func Splits(path string) bool {
	path, _, _ = strings.Cut(path, "?")
	switch openai.APIOf(path) {
	case openai.ChatCompletions, openai.Completions, openai.Responses:
		return true
	}
	return false
}

// Apart is what a side-car is to be told of a request beside who computes the prompt, which the route
// says.
type Apart struct {
	// Encoders are the addresses of those that turn images and other media into embeddings. Nil: who
	// computes the prompt does it.
	Encoders []string
	// Encoded is called once, when they have done it or the request has ended. Optional.
	Encoded func()
	// PrimaryPort is the port at which the side-car takes requests for all data-parallel ranks of its
	// server. 0: requests go to the port of the endpoint.
	PrimaryPort int
}

// prefill returns who is to compute the prompt for the endpoint that answers, nil if that does.
func (x *Exchange) prefill() *types.Endpoint { return x.core.Route().Prefill() }

// tellSidecar appends the names and values of headers for the side-car to pairs.
func (x *Exchange) tellSidecar(pairs []string) []string {
	set := func(keys []string, value string) {
		for _, key := range keys {
			pairs = append(pairs, key, value)
		}
	}
	if p := x.prefill(); p != nil {
		set(keysPrefill, p.Address)
	}
	if len(x.apart.Encoders) > 0 {
		set(keysEncoders, strings.Join(x.apart.Encoders, ","))
	}
	if _, rank, is := x.core.Route().Endpoint().RankHeader(); is {
		set(keysEngineRank, rank)
	}
	if x.apart.PrimaryPort > 0 {
		set(keysRank, x.core.Route().Endpoint().Address)
	}
	return pairs
}

// atPrimary returns the address to which Envoy sends what is for the endpoint, where that is another one;
// else it is empty.
func (x *Exchange) atPrimary() string {
	if x.apart.PrimaryPort == 0 {
		return ""
	}
	return atPort(x.core.Route().Endpoint().Address, x.apart.PrimaryPort)
}

// prefilled tells that the prompt was computed, when an answer with a status begins. The side-car does
// not say when that was, so nobody may learn from the time: it counts as not sent from here. Without it
// the prompt would not be taken to be cached there.
func (x *Exchange) prefilled(status int) {
	if status < 400 {
		x.core.Route().PrefillDone(types.Outcome{Status: status, Unsent: true})
	}
}

// encoded tells that encoders have done their part.
func (x *Exchange) encoded() {
	if f := x.apart.Encoded; f != nil {
		x.apart.Encoded = nil
		f()
	}
}

// removing returns those of removedHeaders that are not set among pairs.
func removing(pairs []string) []string {
	left := removedHeaders
	for i := 0; i < len(pairs); i += 2 {
		if at := slices.Index(left, pairs[i]); at >= 0 {
			left = slices.Concat(left[:at], left[at+1:])
		}
	}
	return left
}

// atPort returns address with another port.
func atPort(address string, port int) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}
