package flags

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/inferpick/inferpick/examples/envoy/internal/commandline"
	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/strictjson"
)

// inEnvoy are the defaults that are others in Envoy's process: a port that nobody asked for would be a surprise there.
var inEnvoy = []string{"--grpc-addr=-", "--health-addr=-", "--metrics-addr=-"}

// unfit are the flags that make no sense in Envoy's process, and why.
var unfit = []struct {
	why   string
	names []string
}{
	{
		"requests come in Envoy's own process, and there is no port for it",
		[]string{"grpc-addr", "grpc-port", "tls", "tls-cert", "tls-key", "tls-client-ca", "secure-serving", "cert-path", "enable-cert-reload"},
	},
	{"Envoy itself ends requests that are idle: by stream_idle_timeout, and the timeouts of its routes", []string{"stream-idle-timeout"}},
	{"bodies are read where they pass, and there are no modes of sending them", []string{"request-body-mode", "response-body-mode"}},
	{"it is Envoy that drains, before it ends this", []string{"drain-delay"}},
	{"it is for a command line, to look at what it prints", []string{"check", "version", "help", "h"}},
	{
		"what is logged goes to Envoy's log, by the level of its logger dynamic_modules (--component-log-level)",
		[]string{"log-level", "log-format", "v", "zap-log-level", "zap-encoder", "zap-devel", "zap-stacktrace-level", "zap-time-encoding"},
	},
}

// joined are the flags whose value is a list with commas between. Of those that may be repeated pflag knows it.
var joined = []string{"pools", "peers-without", "tls-cipher-suites", "endpoint-selector", "endpoint-target-ports"}

// Arguments returns the command line, for Parse, that a JSON object says whose fields are flags by their names, without
// dashes: the configuration of the module inside Envoy.
//
//	{"config": "/etc/inferpick", "metrics-addr": "127.0.0.1:9090", "explain": true, "peers": ["a:9004", "b:9004"]}
//
// Values are strings, numbers, booleans, and lists where a flag may be repeated or is a list. Beside Parse's, these are
// errors, all of which are told: flags that are unknown, there twice, null, or make no sense in Envoy's process. What is
// not said is as for the picker, but that nothing is listened on: neither health nor metrics are served.
func Arguments(object []byte) ([]string, error) {
	doc, err := strictjson.Parse(object, strictjson.Options{})
	if err != nil {
		return nil, err
	}
	value, err := doc.Value()
	if err != nil {
		return nil, err
	}
	fields, ok := value.(map[string]any)
	if !ok {
		return nil, check.Errors{{Value: value, Want: "an object of flags by their names"}}
	}
	_, known := newFlags()
	var errs check.Errors
	args, said := slices.Clone(inEnvoy), map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		flag, problem := fit(known, name)
		if flag != nil && said[flag.Name] != "" {
			problem = "is " + said[flag.Name] + ", which is there, too"
		}
		if problem != "" {
			errs = append(errs, &check.Error{Field: name, Problem: problem})
			continue
		}
		said[flag.Name] = name
		values, want := valuesOf(flag, fields[name])
		if want != "" {
			errs = append(errs, &check.Error{Field: name, Value: fields[name], Want: want})
		}
		for _, v := range values {
			args = append(args, "--"+flag.Name+"="+v)
		}
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return args, nil
}

// fit returns the flag of a name, or what is wrong with that.
func fit(known *pflag.FlagSet, name string) (_ *pflag.Flag, problem string) {
	for _, u := range unfit {
		if slices.Contains(u.names, dashed(name)) {
			return nil, "is of no use here: " + u.why
		}
	}
	if flag := known.Lookup(name); flag != nil {
		return flag, ""
	}
	problem = "is no flag of the picker"
	if near := commandline.Nearest(known, name); near != "" {
		problem += "; the nearest is " + near
	}
	return nil, problem
}

// valuesOf returns what a flag is to be set to, one after the other, or what is wanted in the place of a value.
func valuesOf(flag *pflag.Flag, value any) (values []string, want string) {
	list, ok := value.([]any)
	if !ok {
		text, want := textOf(value)
		return []string{text}, want
	}
	kind := flag.Value.Type()
	isJoined := slices.Contains(joined, flag.Name)
	if kind != "stringSlice" && kind != "stringArray" && !isJoined {
		return nil, "one value"
	}
	for _, item := range list {
		text, want := textOf(item)
		if _, isBool := item.(bool); want != "" || isBool || kind != "stringArray" && strings.Contains(text, ",") {
			return nil, "a list of strings, without commas in them"
		}
		values = append(values, text)
	}
	if isJoined && len(values) > 0 {
		values = []string{strings.Join(values, ",")}
	}
	return values, ""
}

// exact is up to where each integer is a number in JSON of its own, as Envoy has them.
const exact = 1 << 53

// textOf is a value as on a command line.
func textOf(value any) (text, want string) {
	switch v := value.(type) {
	case string:
		return v, ""
	case bool:
		return strconv.FormatBool(v), ""
	case json.Number:
		f, err := v.Float64()
		switch {
		case err != nil || math.Abs(f) > exact:
			return "", fmt.Sprintf("at most %d, beyond which numbers are not exact: write it as a string", exact)
		case f == math.Trunc(f):
			return strconv.FormatInt(int64(f), 10), ""
		}
		return strconv.FormatFloat(f, 'f', -1, 64), ""
	case nil:
		return "", "a value; without the field it is the default"
	}
	return "", "a string, a number, true or false"
}
