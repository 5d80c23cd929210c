package instance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/flags"
	"github.com/inferpick/inferpick/examples/envoy/module/filter"
)

// settings are what the configuration of a filter says.
type settings struct {
	own  filter.Settings
	args []string // the picker's command line, in the order of its flags
}

// Fields of a configuration that are not flags of the picker.
const (
	fieldPool         = "pool"
	fieldDestinations = "destinations"
)

// parseFilter reads the configuration of a filter.
func parseFilter(config []byte) (s settings, err error) {
	fields, err := parseObject(config)
	if err != nil {
		return s, err
	}
	if s.own, err = take(fields); err != nil {
		return s, err
	}
	rest, err := json.Marshal(fields)
	if err != nil {
		return s, err
	}
	s.args, err = flags.Arguments(rest)
	return s, err
}

// parseRoute reads the configuration of a route.
func parseRoute(config []byte) (*filter.Settings, error) {
	fields, err := parseObject(config)
	if err != nil {
		return nil, err
	}
	own, err := take(fields)
	if err != nil {
		return nil, err
	}
	if others := slices.Sorted(maps.Keys(fields)); len(others) > 0 {
		return nil, fmt.Errorf("a route has no %s, only %s and %s: want it in the filter's configuration", others[0], fieldPool, fieldDestinations)
	}
	return &own, nil
}

// parseObject reads the fields of a Struct: Envoy gives it as JSON, or, before 1.39 that of a route, as it was encoded.
func parseObject(config []byte) (map[string]json.RawMessage, error) {
	if len(bytes.TrimSpace(config)) == 0 {
		return map[string]json.RawMessage{}, nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(config, &fields) == nil && fields != nil {
		return fields, nil
	}
	var encoded structpb.Struct
	if proto.Unmarshal(config, &encoded) == nil && len(encoded.GetFields()) > 0 {
		if object, err := encoded.MarshalJSON(); err == nil && json.Unmarshal(object, &fields) == nil {
			return fields, nil
		}
	}
	return nil, fmt.Errorf("the configuration is %.80q, want a google.protobuf.Struct of fields", config)
}

// take takes from fields what Settings are made of.
func take(fields map[string]json.RawMessage) (s filter.Settings, err error) {
	if pool, err := text(fields, fieldPool); err != nil {
		return s, err
	} else if pool != "" {
		if s.Pool, err = exchange.ParsePool(pool); err != nil {
			return s, fmt.Errorf("%s: %w", fieldPool, err)
		}
	}
	destinations, err := text(fields, fieldDestinations)
	if err != nil {
		return s, err
	}
	if destinations != "" {
		if s.Destinations, err = exchange.ParseDestinations(destinations); err != nil {
			return s, fmt.Errorf("%s: %w", fieldDestinations, err)
		}
	}
	return s, nil
}

// text takes a string or a number from fields, empty if it is not there.
func text(fields map[string]json.RawMessage, name string) (string, error) {
	raw, ok := fields[name]
	if !ok {
		return "", nil
	}
	delete(fields, name)
	var s string
	if json.Unmarshal(raw, &s) == nil && s != "" {
		return s, nil
	}
	var f float64
	if err := json.Unmarshal(raw, &f); err != nil || strings.EqualFold(string(raw), "null") {
		return "", fmt.Errorf("%s is %.80s, want a string or a number", name, raw)
	}
	return strconv.FormatFloat(f, 'f', -1, 64), nil
}
