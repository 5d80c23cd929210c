package simulation_test

import (
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// A policy that asks for output lengths or engine state does not compile.
func TestPoliciesCannotPeek(t *testing.T) {
	out, err := exec.Command("go", "build", "-o", t.TempDir()+"/peek", "./testdata/peek").CombinedOutput()
	require.Error(t, err, "a policy that peeks compiles")
	for _, field := range []string{"req.Output undefined", "ep.Engine undefined"} {
		require.Contains(t, string(out), field)
	}
}

// Nothing that a policy is handed leads to a Job or an engine by its exported
// fields; what the simulator keeps with a request is under a key that is not
// exported.
func TestNothingExportedLeadsToTheJob(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(rt reflect.Type) {
		for rt.Kind() == reflect.Pointer || rt.Kind() == reflect.Slice || rt.Kind() == reflect.Map {
			rt = rt.Elem()
		}
		if seen[rt] {
			return
		}
		seen[rt] = true
		if strings.Contains(rt.PkgPath(), "simulation") {
			t.Errorf("a policy can reach %v", rt)
		}
		if rt.Kind() == reflect.Struct {
			for i := range rt.NumField() {
				if f := rt.Field(i); f.IsExported() {
					walk(f.Type)
				}
			}
		}
	}
	walk(reflect.TypeFor[types.Request]())
	walk(reflect.TypeFor[types.Endpoint]())
	walk(reflect.TypeFor[types.Outcome]())
	if seen[reflect.TypeFor[simulation.Job]()] {
		t.Error("a policy can reach the job")
	}
}
