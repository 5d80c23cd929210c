package flags

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/inferpick/inferpick/examples/envoy/epp"
)

// loaders are what -rollout-loader can be.
var loaders = []string{"auto", "vllm", "sglang", "resolver", "manual"}

// rolloutFlags say whether and how traffic is moved from one adapter to another.
type rolloutFlags struct {
	epp.Rollouts
	on      bool
	keyFile string
}

func (r *rolloutFlags) add(fs *pflag.FlagSet) {
	fs.BoolVar(&r.on, "rollouts", false, "move traffic from one adapter to another, step by step, where the annotation inferpick.dev/rollout of a model or rewrite says so; it needs the rights to get and patch these, and to create events")
	fs.StringVar(&r.Loader, "rollout-loader", "auto", "`name` of how adapters get onto servers: "+strings.Join(loaders, ", "))
	fs.StringVar(&r.keyFile, "rollout-key-file", "", "`file` with the key that servers have to be asked with to load adapters (Authorization: Bearer)")
	fs.StringVar(&r.StateFile, "rollout-state", "", "`file` that keeps where rollouts are over a restart; with -kubernetes the objects do")
	fs.BoolVar(&r.Commands, "rollout-commands", false, "let everybody pause, promote and abort rollouts who reaches -metrics-addr, also where no token is asked for")
}

// check says what is wrong with what the flags say together.
func (r *rolloutFlags) check(kubernetes bool) error {
	switch {
	case !r.on && (r.Loader != "auto" || r.keyFile != "" || r.StateFile != "" || r.Commands):
		return errors.New("there are flags of rollouts, but no -rollouts: want that, or none")
	case !slices.Contains(loaders, r.Loader):
		return fmt.Errorf("-rollout-loader %q, want one of %s", r.Loader, strings.Join(loaders, ", "))
	case kubernetes && r.StateFile != "":
		return errors.New("-rollout-state is for pickers without -kubernetes: there the objects keep where rollouts are")
	}
	return nil
}

// options returns those of rollouts; nil: there are none.
func (r *rolloutFlags) options() (*epp.Rollouts, error) {
	if !r.on {
		return nil, nil
	}
	if r.keyFile != "" {
		key, err := os.ReadFile(r.keyFile)
		if err != nil {
			return nil, fmt.Errorf("-rollout-key-file: %w", err)
		}
		if strings.TrimSpace(string(key)) == "" {
			return nil, fmt.Errorf("-rollout-key-file: %s is empty", r.keyFile)
		}
		r.Header = http.Header{"Authorization": {"Bearer " + strings.TrimSpace(string(key))}}
	}
	return &r.Rollouts, nil
}
