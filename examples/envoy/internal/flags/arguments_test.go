package flags

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// arguments is Arguments without what it always begins with.
func arguments(t *testing.T, object string) []string {
	t.Helper()
	args, err := Arguments([]byte(object))
	require.NoError(t, err, object)
	require.Equal(t, inEnvoy, args[:len(inEnvoy)])
	return args[len(inEnvoy):]
}

func TestArguments(t *testing.T) {
	for object, want := range map[string][]string{
		`{}`:                                                {},
		` {"config": "/etc/x"} `:                            {"--config=/etc/x"},
		`{"config": "-x y=z"}`:                              {"--config=-x y=z"},
		`{"config": ""}`:                                    {"--config="},
		`{"max-body": 33554432}`:                            {"--max-body=33554432"},
		`{"max-body": 3.3554432e7}`:                         {"--max-body=33554432"},
		`{"max-body": 3.3554432E+07}`:                       {"--max-body=33554432"},
		`{"max-body": 33554432.0}`:                          {"--max-body=33554432"},
		`{"max-body": "33554432"}`:                          {"--max-body=33554432"},
		`{"max-body": 9007199254740992}`:                    {"--max-body=9007199254740992"},
		`{"max-body": -1}`:                                  {"--max-body=-1"},
		`{"max-body": -0.0}`:                                {"--max-body=0"},
		`{"max-body": 0.5}`:                                 {"--max-body=0.5"}, // Parse says what is wrong with it
		`{"explain": true, "pprof": false}`:                 {"--explain=true", "--pprof=false"},
		`{"explain": "true"}`:                               {"--explain=true"},
		`{"peers": ["a:9004", "b:9004"]}`:                   {"--peers=a:9004", "--peers=b:9004"},
		`{"peers": "a:9004,b:9004"}`:                        {"--peers=a:9004,b:9004"},
		`{"peers": []}`:                                     {},
		`{"allow-path": ["/a,b", "/c"]}`:                    {"--allow-path=/a,b", "--allow-path=/c"},
		`{"peers-without": ["load", "notes"], "pools": []}`: {"--peers-without=load,notes"},
		`{"endpoint-target-ports": [8000, 8.001e3]}`:        {"--endpoint-target-ports=8000,8001"},
		`{"maxBody": 5, "poolName": "x"}`:                   {"--max-body=5", "--pool-name=x"}, // as of old pickers
		`{"metrics-addr": ":9090", "health-addr": "-"}`:     {"--health-addr=-", "--metrics-addr=:9090"},
	} {
		got := arguments(t, object)
		require.Empty(t, cmp.Diff(want, append([]string{}, got...)), object)
	}
}

func TestBadArguments(t *testing.T) {
	for object, want := range map[string][]string{
		``:                               {"is empty, want a JSON object"},
		"config: /etc/x":                 {"is no JSON"},
		`{"config": "x"} {}`:             {"is no JSON"},
		`{"config": "x",}`:               {"is no JSON"},
		`"config"`:                       {"want an object of flags"},
		`["config"]`:                     {"want an object of flags"},
		`null`:                           {"want an object of flags"},
		`{"config": null}`:               {"config is null, want a value"},
		`{"config": {"a": "b"}}`:         {"config is ", "want a string, a number, true or false"},
		`{"config": ["x"]}`:              {"config is ", "want one value"},
		`{"explain": [true]}`:            {"explain is ", "want one value"},
		`{"peers": ["a", true]}`:         {"peers is ", "want a list of strings"},
		`{"peers": [["a"]]}`:             {"peers is ", "want a list of strings"},
		`{"peers": [null]}`:              {"peers is ", "want a list of strings"},
		`{"peers": ["a:1,b:1"]}`:         {"peers is ", "without commas"},
		`{"max-body": 1e300}`:            {"max-body is 1e300, want at most 9007199254740992", "as a string"},
		`{"max-body": 1e999}`:            {"max-body is 1e999, want at most 9007199254740992"},
		`{"max-body": 9007199254740994}`: {"max-body is 9007199254740994, want at most"},
		`{"config": "x", "config": "y"}`: {"config", "is there twice"},
		`{"maxBody": 1, "max-body": 2}`:  {"maxBody", "max-body", "is there, too"},
		`{"confg": "x"}`:                 {"confg is no flag of the picker; the nearest is config"},
		`{"max_body": 5}`:                {"max_body", "is no flag of the picker; the nearest is max-body"},
		`{"config=x": "y"}`:              {"config=x", "is no flag of the picker"},
		`{"-config": "y"}`:               {"-config", "is no flag of the picker"},
		`{"": "y"}`:                      {"is no flag of the picker"},
		`{"qqqqqqqqqqqq": "y"}`:          {"qqqqqqqqqqqq is no flag of the picker"},
		`{"grpc-addr": ":9002", "log-level": "debug", "confg": 1, "explain": null}`: { // all of it is told
			"grpc-addr is of no use here: requests come in Envoy's own process", "log-level is of no use here", "--component-log-level",
			"confg is no flag", "explain is null",
		},
	} {
		args, err := Arguments([]byte(object))
		require.Error(t, err, object)
		require.Nil(t, args, object)
		for _, one := range want {
			// Names that are not words are in quotes and brackets.
			require.Contains(t, strings.NewReplacer(`["`, "", `"]`, "").Replace(err.Error()), one, object)
		}
	}
}

// TestArgumentsOfEveryFlag: each flag is either taken or refused with a reason; those of which the usage says that they
// are lists are so here.
func TestArgumentsOfEveryFlag(t *testing.T) {
	_, known := newFlags()
	names := map[string]bool{"help": true, "h": true}
	lists := regexp.MustCompile("commas between|may be repeated")
	known.VisitAll(func(flag *pflag.Flag) {
		names[flag.Name] = true
		object := func(value any) []byte {
			data, err := json.Marshal(map[string]any{flag.Name: value})
			require.NoError(t, err)
			return data
		}
		args, err := Arguments(object("x"))
		if err != nil {
			require.ErrorContains(t, err, "is of no use here: ", flag.Name)
			return
		}
		require.Equal(t, "--"+flag.Name+"=x", args[len(args)-1])
		_, err = Arguments(object([]string{"x", "y"}))
		if flag.Name == "endpoint-selector" || flag.Name == "endpoint-target-ports" {
			require.NoError(t, err, "whose usage is not told")
			return
		}
		require.Equal(t, lists.MatchString(flag.Usage), err == nil, "%s: %s: %v", flag.Name, flag.Usage, err)
	})
	for _, u := range unfit {
		for _, name := range u.names {
			require.True(t, names[name], "%s is no flag", name)
		}
	}
}

// TestArgumentsParse: what comes out is what Parse reads.
func TestArgumentsParse(t *testing.T) {
	args, err := Arguments([]byte(`{
		"config": "/etc/inferpick", "metrics-addr": "127.0.0.1:9090", "explain": true, "max-body": 3.3554432e+07, "peers": ["a:9004", "b:9004"],
		"peers-insecure": true, "peers-without": ["load", "notes"], "allow-path": ["/a", "/b"], "drain-timeout": "5s", "unknown-models": "refuse",
		"namespaces": ["m", "n"], "pools": ["m/a", "n/b"], "kubernetes": true
	}`))
	require.NoError(t, err)
	f, err := Parse(args, new(bytes.Buffer))
	require.NoError(t, err)
	o := &f.Options
	require.Equal(t, [...]any{"/etc/inferpick", "-", "-", "127.0.0.1:9090", true, 32 << 20, 5 * time.Second, true},
		[...]any{o.Config, o.GRPCAddr, o.HealthAddr, o.MetricsAddr, o.Explain, o.MaxBody, o.DrainTimeout, o.RefuseUnknownModels})
	require.Equal(t, []string{"a:9004", "b:9004"}, f.peers.Addresses)
	require.True(t, f.peers.without.Load && f.peers.without.Notes && !f.peers.without.Accounts)
	require.Equal(t, []string{"/a", "/b"}, o.AllowPaths)
	require.Equal(t, []string{"m", "n"}, f.kube.source.Namespaces)
	require.Len(t, f.kube.pools, 2)
	require.Empty(t, f.notes)

	// What would be served nowhere is told.
	args, err = Arguments([]byte(`{"config": "x", "explain": true, "pprof": true, "metrics-token-file": "t"}`))
	require.NoError(t, err)
	f, err = Parse(args, new(bytes.Buffer))
	require.NoError(t, err)
	require.Equal(t, "-", f.Options.MetricsAddr)
	require.Len(t, f.notes, 3)
	require.Contains(t, f.notes[0], "-explain has no effect: ")

	// A value that is none is Parse's to tell.
	args, err = Arguments([]byte(`{"config": "x", "max-body": "many"}`))
	require.NoError(t, err)
	_, err = Parse(args, new(bytes.Buffer))
	require.ErrorContains(t, err, "max-body")
}
