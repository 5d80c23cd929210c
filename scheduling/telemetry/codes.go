package telemetry

import (
	"context"
	"errors"
	"strconv"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// code is a value of the label error_code, as an index of codes.
type code int

// codes are all values there can be.
var codes = [...]string{
	// how a request ended that was sent to an endpoint
	codeCancelled:  "cancelled",
	codeTimeout:    "timeout",
	codeConnection: "connection",
	codeCutOff:     "cut_off",
	codeExpired:    "expired",

	// why one was not sent
	codeOther + 0: other,
	codeOther + 1: "other_4xx",
	codeOther + 2: "other_5xx",

	"displaced", "internal", "invalid_form", "invalid_header", "invalid_json",
	"invalid_type", "invalid_value", "missing_required_parameter", "model_not_found",
	"no_endpoint", "queue_full", "queue_timeout", "request_too_large",
	"requests_per_minute", "revoked", "saturated", "shutting_down",
	"string_above_max_length", "tokens_per_minute", "unsupported_encoding",
	"upstream_unavailable",

	// what the endpoint answered
	"upstream_400", "upstream_401", "upstream_403", "upstream_404", "upstream_408",
	"upstream_409", "upstream_413", "upstream_415", "upstream_422", "upstream_424",
	"upstream_429", "upstream_499", "upstream_500", "upstream_501", "upstream_502",
	"upstream_503", "upstream_504", "upstream_4xx", "upstream_5xx",
}

const (
	codeCancelled code = iota
	codeTimeout
	codeConnection
	codeCutOff
	codeExpired
	codeOther
)

// codeOf finds codes by name.
var codeOf = func() map[string]code {
	byName := map[string]code{}
	for i, name := range codes {
		byName[name] = code(i)
	}
	return byName
}()

// upstream are the codes of what an endpoint answered, by status: 400 to 999.
var upstream = func() (of [1000]code) {
	for status := range of {
		class := "upstream_5xx"
		if status < 500 {
			class = "upstream_4xx"
		}
		of[status] = codeOf[class]
		if c, ok := codeOf["upstream_"+strconv.Itoa(status)]; ok {
			of[status] = c
		}
	}
	return of
}()

// refusal returns the code of a refused request. One that is not known is counted
// by the class of its status.
func refusal(name string, status int) code {
	c, ok := codeOf[name]
	switch {
	case ok:
		return c
	case status >= 400 && status < 500:
		return codeOther + 1
	case status >= 500 && status < 600:
		return codeOther + 2
	}
	return codeOther
}

// failure returns the code of how a request ended, and false if it ended well.
func failure(out *types.Outcome) (code, bool) {
	switch {
	case out.Cancelled:
		return codeCancelled, true
	case errors.Is(out.Err, scheduling.ErrExpired):
		return codeExpired, true
	case out.Status >= 400 && out.Status < len(upstream):
		return upstream[out.Status], true
	case out.Err == nil:
		return 0, false
	case errors.Is(out.Err, context.DeadlineExceeded):
		return codeTimeout, true
	case out.Status == 0:
		return codeConnection, true
	}
	return codeCutOff, true
}
