package director

import (
	"math"
	"net/textproto"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Request headers that are read, in the canonical form of net/http. The names
// are those of the Gateway API Inference Extension.
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

// Headers between gateways and endpoint pickers, which no client may set.
const (
	HeaderDestination = "X-Gateway-Destination-Endpoint"
	HeaderSubset      = "X-Gateway-Destination-Endpoint-Subset"
	HeaderServed      = "X-Gateway-Destination-Endpoint-Served"
	HeaderFallback    = "X-Gateway-Destination-Endpoint-Fallback"
)

// ControlHeaders returns the headers that no client may set, in canonical form.
func ControlHeaders() []string {
	return []string{HeaderDestination, HeaderSubset, HeaderServed, HeaderFallback}
}

// StripControlHeaders removes ControlHeaders from h, however they are spelled.
func StripControlHeaders(h map[string][]string) {
	for name := range h {
		switch textproto.CanonicalMIMEHeaderKey(name) {
		case HeaderDestination, HeaderSubset, HeaderServed, HeaderFallback:
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

// maxID bounds ids that clients send: beyond it they are cut, for they are labels.
const maxID = 256

func getID(h map[string][]string, name string) string {
	v := get(h, name)
	return v[:min(len(v), maxID)]
}

// readSLO reads the targets of a request.
func readSLO(h map[string][]string) (slo types.SLO, err error) {
	if slo.TTFT, err = millis(h, HeaderTTFT); err != nil {
		return slo, err
	}
	slo.TPOT, err = millis(h, HeaderTPOT)
	return slo, err
}

func millis(h map[string][]string, name string) (time.Duration, error) {
	s := get(h, name)
	if s == "" {
		return 0, nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v > 0 && v <= math.MaxInt64/float64(time.Millisecond)) {
		return 0, &Error{Status: 400, Code: CodeBadHeader, Param: name,
			Message: "header " + name + " is " + strconv.Quote(s[:min(len(s), 40)]) + ", want milliseconds as a number above 0"}
	}
	return time.Duration(v * float64(time.Millisecond)), nil
}
