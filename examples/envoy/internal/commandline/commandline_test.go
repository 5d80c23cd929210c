package commandline_test

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/internal/commandline"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		args           string
		config         string
		number, letter int
		debug          bool
		err            string
	}{
		{args: "-config a -number 5 -debug", config: "a", number: 5, debug: true},
		{args: "--config=a --number=5 --debug=false", config: "a", number: 5},
		{args: "-config=a -number -5 -debug=true", config: "a", number: -5, debug: true},
		{args: "-config config -v4", config: "config", letter: 4},
		{args: "-config -x -v 4", config: "-x", letter: 4},
		{args: "-config - -v=4", config: "-", letter: 4},
		{args: "--v=4", letter: 4},
		{args: "-nonsense", err: "unknown flag -nonsense"},
		{args: "--nonsense=1", err: "unknown flag -nonsense"},
		{args: "-confg a", err: "unknown flag -confg; the nearest is -config"},
		{args: "--numbre=1", err: "unknown flag -numbre; the nearest is -number"},
		{args: "-debug x", err: `unexpected argument "x"`},
		{args: "-number many", err: "number"},
		{args: "-config", err: "config"},
		{args: "-h", err: pflag.ErrHelp.Error()},
		{args: "-help", err: pflag.ErrHelp.Error()},
		{args: "--help", err: pflag.ErrHelp.Error()},
	} {
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		fs.Usage = func() {}
		config, number, debug := fs.String("config", "", ""), fs.Int("number", 0, ""), fs.Bool("debug", false, "")
		letter := fs.IntP("v", "v", 0, "")
		err := commandline.Parse(fs, strings.Fields(tt.args))
		if tt.err != "" {
			require.ErrorContains(t, err, tt.err, tt.args)
			continue
		}
		require.NoError(t, err, tt.args)
		require.Equal(t, [...]any{tt.config, tt.number, tt.letter, tt.debug}, [...]any{*config, *number, *letter, *debug}, tt.args)
	}
}
