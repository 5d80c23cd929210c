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
// are those of the Gateway API Inference Extension. All but HeaderRequestID and that of
// the session, which are labels, are read only with Options.TrustRequestHeaders.
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

// readSLO reads the targets of a request.
func readSLO(h map[string][]string) (slo types.SLO, err error) {
	if slo.TTFT, err = millis(h, HeaderTTFT); err != nil {
		return slo, err
	}
	slo.TPOT, err = millis(h, HeaderTPOT)
	return slo, err
}

// maxMillis bounds what a header gives in milliseconds: a day.
const maxMillis = 24 * 60 * 60 * 1000

// millis reads a header with milliseconds, 0 if it is not there.
func millis(h map[string][]string, name string) (time.Duration, error) {
	s := get(h, name)
	if s == "" {
		return 0, nil
	}
	v, ok := decimal(s)
	if d := time.Duration(v * float64(time.Millisecond)); ok && v <= maxMillis && d > 0 {
		return d, nil
	}
	return 0, &Error{Status: 400, Code: CodeBadHeader, Param: name,
		Message: "header " + name + " is " + strconv.Quote(s[:min(len(s), 40)]) + ", want milliseconds as a decimal number above 0 and at most " + strconv.Itoa(maxMillis)}
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
