package suite_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/simulator/suite"
)

func drawn(t *testing.T, number int, families ...string) []suite.Scenario {
	t.Helper()
	list := ""
	for i, f := range families {
		if i > 0 {
			list += ","
		}
		list += fmt.Sprintf("%q", f)
	}
	s, err := suite.Parse(fmt.Appendf(nil, `{"duration": "10s", "capacity": "least-req", "draw": {"number": %d, "each": 2, "families": [%s]}}`, number, list))
	require.NoError(t, err)
	require.Equal(t, []uint64{uint64(number)}, s.Seeds)
	return s.Scenarios
}

// Whatever the number, what is drawn makes sense.
func TestDraw(t *testing.T) {
	for number := 1; number <= 200; number++ {
		all := drawn(t, number, suite.Families()...)
		require.Len(t, all, 2*len(suite.Families()))
		for _, s := range all {
			require.NotEmpty(t, s.Family)
			require.True(t, s.Fleet.Replicas >= 4 && s.Fleet.Replicas <= 40, s.Fleet.Replicas)
		}
		require.Empty(t, twice(t, all), "number %d", number)
	}
	same := cmpopts.IgnoreUnexported(suite.Scenario{})
	require.Empty(t, cmp.Diff(drawn(t, 3, "chat", "rag"), drawn(t, 3, "chat", "rag"), same))
	require.Empty(t, cmp.Diff(drawn(t, 3, "rag"), drawn(t, 3, "chat", "rag")[2:], same), "a family does not depend on the others")
	require.NotEmpty(t, cmp.Diff(drawn(t, 3, "rag"), drawn(t, 4, "rag"), same))
}

// Each scenario is played with as many seeds as the draw says, unless the suite names them.
func TestDrawSeeds(t *testing.T) {
	for text, want := range map[string][]uint64{
		`"draw": {"number": 7, "families": ["chat"]}`:                           {7},
		`"draw": {"number": 7, "families": ["chat"], "seeds": 3}`:               {7, 8, 9},
		`"seeds": [1], "draw": {"number": 7, "families": ["chat"], "seeds": 3}`: {1},
	} {
		s, err := suite.Parse([]byte(`{"duration": "10s", "capacity": "least-req", ` + text + `}`))
		require.NoError(t, err)
		require.Equal(t, want, s.Seeds, text)
	}
}

// Large fleets may be played for less time.
func TestDrawLarge(t *testing.T) {
	s, err := suite.Parse([]byte(`{"duration": "80s", "capacity": "least-req", "draw": {"number": 1, "each": 20, "families": ["chat"], "large": "50s"}}`))
	require.NoError(t, err)
	large := 0
	for _, c := range s.Scenarios {
		if c.Fleet.Replicas > suite.LargeFleet {
			large++
			require.Equal(t, suite.Duration(50*time.Second), c.Duration)
		} else {
			require.Zero(t, c.Duration)
		}
	}
	require.True(t, large > 2 && large < 18, large)
}

// No case is drawn that is in another file, or twice.
func TestNoCaseTwice(t *testing.T) {
	var all []suite.Scenario
	for _, file := range []string{"tuning.json", "held-out.json"} {
		all = append(all, load(t, file).Scenarios...)
	}
	require.Empty(t, twice(t, all))
	drawn := len(all)
	for _, file := range []string{"suite.json", "robust.json"} { // these may have one twice, by another name
		for _, s := range load(t, file).Scenarios {
			require.Empty(t, twice(t, append(all[:drawn:drawn], s)), file)
		}
	}
}

func load(t *testing.T, file string) *suite.Suite {
	t.Helper()
	s, err := suite.Load(file)
	require.NoError(t, err)
	return s
}

// twice returns the names of scenarios that are another one by another name.
func twice(t *testing.T, all []suite.Scenario) (names []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, s := range all {
		name := s.Name
		s.Name, s.Family = "", ""
		what, err := json.Marshal(s)
		require.NoError(t, err)
		if seen[string(what)] {
			names = append(names, name)
		}
		seen[string(what)] = true
	}
	return names
}

// README.md says of each family what it draws and in which half it is.
func TestFamiliesTable(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	tuned, heldOut := load(t, "tuning.json").Draw.Families, load(t, "held-out.json").Draw.Families
	require.ElementsMatch(t, suite.Families(), heldOut)
	for _, name := range suite.Families() {
		half := "held out only"
		if slices.Contains(tuned, name) {
			half = "tuned on"
		}
		require.Regexp(t, "(?m)^\\| `"+name+"` \\|.*\\| "+half+" \\|$", string(readme))
	}
}

func TestDrawErrors(t *testing.T) {
	for draw, want := range map[string]string{
		`{"number": 1}`:                                                        "draw.families is empty, want some of adapters",
		`{"number": 1, "families": ["cats"]}`:                                  `draw.families has "cats", want some of`,
		`{"number": 1, "families": ["chat"], "each": 101}`:                     "draw.each is 101",
		`{"number": 1, "families": ["chat"], "replicas": [9, 3]}`:              "draw.replicas is [9 3]",
		`{"number": 1, "families": ["chat"], "replicas": [3, 100000]}`:         "draw.replicas is [3 100000]",
		`{"number": 1, "families": ["chat"], "chat": true}`:                    `chat`,
		`{"number": 1, "families": ["chat", "rag", "chat"]}`:                   `draw.families has "chat" twice`,
		`{"number": 1, "families": ["chat"], "seeds": -1}`:                     "draw.seeds is -1, want 1 to 100",
		`{"number": 1, "families": ["chat"], "replicas": [4, 4], "each": 100}`: `draw.each is 100, and of the family "chat" there are 40 different`,
	} {
		_, err := suite.Parse(fmt.Appendf(nil, `{"duration": "10s", "capacity": "least-req", "draw": %s}`, draw))
		require.ErrorContains(t, err, want, draw)
	}
}

func TestFaultErrors(t *testing.T) {
	for fault, want := range map[string]string{
		`{"at": "1s", "kind": "melt", "replicas": [0]}`:             `kind is "melt", want die, restart, hang, remove, add, die-gateway, restart-gateway or replace-gateway`,
		`{"at": "1s", "kind": "hang", "replicas": [0]}`:             "for is 0s for the kind hang",
		`{"at": "1s", "kind": "die", "for": "1s", "replicas": [0]}`: "for is 1s for the kind die",
		`{"at": "1s", "kind": "die", "replicas": [10]}`:             "replicas has 10, want 0 to 9",
		`{"at": "1s", "kind": "add", "replicas": [10, 12]}`:         "replicas has 12, want 11, the next one",
	} {
		_, err := suite.Parse(fmt.Appendf(nil, `{"seeds": [1], "duration": "10s", "capacity": "least-req",
			"scenarios": [{"name": "a", "workload": {"kind": "sharegpt"}, "faults": [%s]}]}`, fault))
		require.ErrorContains(t, err, `scenario "a": faults[0]: `+want)
	}
}
