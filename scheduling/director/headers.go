package director

import (
	"crypto/sha256"
	"encoding/hex"
	"net/textproto"
	"strconv"
	"strings"
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

// maxID bounds ids that clients send. Of a longer one the beginning is kept, for people, and a
// hash of all of it, so that ids that begin alike stay different.
const maxID = 256

func getID(h map[string][]string, name string) string { return boundedID(get(h, name)) }

func boundedID(v string) string {
	if len(v) <= maxID {
		return v
	}
	sum := sha256.Sum256([]byte(v))
	return v[:maxID-1-2*len(sum)] + "#" + hex.EncodeToString(sum[:])
}

// readSLO reads the targets of a request.
func readSLO(h map[string][]string) (slo types.SLO, err error) {
	if slo.TTFT, err = millis(h, HeaderTTFT); err != nil {
		return slo, err
	}
	slo.TPOT, err = millis(h, HeaderTPOT)
	return slo, err
}

// maxMillis bounds times that requests ask for: a day.
const maxMillis = 24 * 60 * 60 * 1000

// millis reads a time in milliseconds: digits, perhaps with a decimal point. 0 if there is none.
func millis(h map[string][]string, name string) (time.Duration, error) {
	s := get(h, name)
	if s == "" {
		return 0, nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if strings.Trim(s, "0123456789.") != "" || err != nil || !(v > 0 && v <= maxMillis) {
		return 0, &Error{Status: 400, Code: CodeBadHeader, Param: name,
			Message: "header " + name + " is " + strconv.Quote(s[:min(len(s), 40)]) + ", want milliseconds as a decimal number above 0 and at most " + strconv.Itoa(maxMillis)}
	}
	return time.Duration(v * float64(time.Millisecond)), nil
}

// retryAfter reads a Retry-After: seconds, or a date. 0 if there is none that makes sense.
func retryAfter(h map[string][]string) time.Duration {
	s := strings.TrimSpace(get(h, "Retry-After"))
	if s == "" {
		return 0
	}
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, maxMillis*time.Millisecond)
	}
	for _, layout := range []string{time.RFC1123, time.RFC850, time.ANSIC} { // as RFC 9110 has it, section 5.6.7
		if at, err := time.Parse(layout, s); err == nil {
			return min(max(time.Until(at), 0), maxMillis*time.Millisecond)
		}
	}
	return 0
}
