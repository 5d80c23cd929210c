package director

import (
	"crypto/sha256"
	"encoding/hex"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Request headers that are read, in the canonical form of net/http. The names
// are those of the Gateway API Inference Extension. All but HeaderRequestID and those of
// the session and the program, which are labels, are read only with Options.TrustRequestHeaders.
const (
	HeaderObjective = "X-Gateway-Inference-Objective"   // name of an InferenceObjective
	HeaderFairness  = "X-Gateway-Inference-Fairness-Id" // the tenant
	HeaderRewrite   = "X-Gateway-Model-Name-Rewrite"    // target model
	HeaderRequestID = "X-Request-Id"
	HeaderTTFT      = "X-Slo-Ttft-Ms" // target time to first token, milliseconds
	HeaderTPOT      = "X-Slo-Tpot-Ms" // target time per output token, milliseconds
	// HeaderMaxWait is how long the request may wait to be let in, milliseconds; it can only
	// make it shorter than its band allows.
	HeaderMaxWait = "X-Inferpick-Max-Wait-Ms"
	// HeaderSession is the default of Options.SessionHeader.
	HeaderSession = "X-Session-Id"
)

// The names that llm-d has for them. They are read as well, and go before the others.
const (
	HeaderLLMDObjective = "X-Llm-D-Inference-Objective"
	HeaderLLMDFairness  = "X-Llm-D-Inference-Fairness-Id"
	HeaderLLMDRewrite   = "X-Llm-D-Model-Name-Rewrite"
	HeaderLLMDTTFT      = "X-Llm-D-Slo-Ttft-Ms"
	HeaderLLMDTPOT      = "X-Llm-D-Slo-Tpot-Ms"
	HeaderLLMDMaxWait   = "X-Llm-D-Inference-Ttl" // a number with a unit: 2s, 150ms
)

// Headers between gateways and endpoint pickers, which no client may set.
const (
	HeaderDestination = "X-Gateway-Destination-Endpoint"
	HeaderSubset      = "X-Gateway-Destination-Endpoint-Subset"
	HeaderServed      = "X-Gateway-Destination-Endpoint-Served"
	HeaderFallback    = "X-Gateway-Destination-Endpoint-Fallback"
)

// sidecarHeaders are those by which a picker tells llm-d's proxy in front of a server
// which other servers to ask. From a client it would ask any address.
var sidecarHeaders = []string{
	"X-Prefiller-Host-Port", "X-Encoder-Hosts-Ports", "X-Kv-Cache-Source-Host-Port", "X-Data-Parallel-Host-Port",
	"X-Llm-D-Prefiller-Host-Port", "X-Llm-D-Encoder-Hosts-Ports", "X-Llm-D-Kv-Cache-Source-Host-Port",
}

var controlHeaders = append([]string{
	HeaderDestination, HeaderSubset, HeaderServed, HeaderFallback, "X-Gateway-Destination-Endpoint-Scores", types.HeaderRank,
}, sidecarHeaders...)

// ControlHeaders returns the headers that no client may set, in canonical form: those
// between gateways and endpoint pickers, those between llm-d's picker and its proxies, and
// what else disagg.ReservedHeader knows.
func ControlHeaders() []string { return slices.Clone(controlHeaders) }

// StripControlHeaders removes ControlHeaders from h, however they are spelled, also with
// underscores, which some servers take for hyphens.
func StripControlHeaders(h map[string][]string) {
	for name := range h {
		if slices.Contains(controlHeaders, textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))) {
			delete(h, name)
		}
	}
}

// get returns the first value of a header, empty if there is none. name is in
// canonical form.
func get(h map[string][]string, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// maxID bounds ids that clients send.
const maxID = 256

// boundID returns an id of at most maxID bytes. In place of what is beyond the bound is a
// hash of the whole, so that ids which differ go on to differ.
func boundID(id string) string {
	if len(id) <= maxID {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	hash := hex.EncodeToString(sum[:16])
	return id[:maxID-1-len(hash)] + "~" + hash
}

func getID(h map[string][]string, name string) string { return boundID(get(h, name)) }

// first returns the value of the first of names that is there, and its name.
func first(h map[string][]string, names ...string) (value, name string) {
	for _, name := range names {
		if v := get(h, name); v != "" {
			return v, name
		}
	}
	return "", ""
}

// readMaxWait reads how long a request may wait, 0 if nothing says so.
func readMaxWait(h map[string][]string) (time.Duration, error) {
	s := strings.TrimSpace(get(h, HeaderLLMDMaxWait))
	if s == "" {
		return millis(first(h, HeaderMaxWait))
	}
	d, err := time.ParseDuration(s)
	if err == nil && d > 0 && d <= maxMillis*time.Millisecond {
		return d, nil
	}
	return 0, badHeader(HeaderLLMDMaxWait, s, "a time above 0 and at most 24h, with a unit: 2s, 150ms")
}

func badHeader(name, value, want string) error {
	return &Error{Status: 400, Code: CodeBadHeader, Param: name,
		Message: "header " + name + " is " + strconv.Quote(value[:min(len(value), 40)]) + ", want " + want}
}

// maxMillis bounds what a header gives in milliseconds: a day.
const maxMillis = 24 * 60 * 60 * 1000

// millis reads milliseconds, 0 if there are none, in the header called name.
func millis(s, name string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	v, ok := decimal(s)
	if d := time.Duration(v * float64(time.Millisecond)); ok && v <= maxMillis && d > 0 {
		return d, nil
	}
	return 0, badHeader(name, s, "milliseconds as a decimal number above 0 and at most "+strconv.Itoa(maxMillis))
}

// decimal reads a plain decimal number: digits, and perhaps a point and more digits.
// One that is too large for its purpose is still a number, but never infinite.
func decimal(s string) (float64, bool) {
	whole, fraction, point := strings.Cut(s, ".")
	if !digits(whole) || point && !digits(fraction) || len(s) > 40 {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil
}

func digits(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}
