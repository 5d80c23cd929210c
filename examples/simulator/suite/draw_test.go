package suite_test

import (
	"fmt"
	"testing"

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
			require.True(t, s.Fleet.Replicas >= 4 && s.Fleet.Replicas <= 20, s.Fleet.Replicas)
		}
	}
	same := cmpopts.IgnoreUnexported(suite.Scenario{})
	require.Empty(t, cmp.Diff(drawn(t, 3, "chat", "rag"), drawn(t, 3, "chat", "rag"), same))
	require.Empty(t, cmp.Diff(drawn(t, 3, "rag"), drawn(t, 3, "chat", "rag")[2:], same), "a family does not depend on the others")
	require.NotEmpty(t, cmp.Diff(drawn(t, 3, "rag"), drawn(t, 4, "rag"), same))
}

func TestDrawErrors(t *testing.T) {
	for draw, want := range map[string]string{
		`{"number": 1}`:                                                "draw.families is empty, want some of adapters",
		`{"number": 1, "families": ["cats"]}`:                          `draw.families has "cats", want some of`,
		`{"number": 1, "families": ["chat"], "each": 101}`:             "draw.each is 101",
		`{"number": 1, "families": ["chat"], "replicas": [9, 3]}`:      "draw.replicas is [9 3]",
		`{"number": 1, "families": ["chat"], "replicas": [3, 100000]}`: "draw.replicas is [3 100000]",
		`{"number": 1, "families": ["chat"], "chat": true}`:            `chat`,
	} {
		_, err := suite.Parse(fmt.Appendf(nil, `{"duration": "10s", "capacity": "least-req", "draw": %s}`, draw))
		require.ErrorContains(t, err, want, draw)
	}
}

func TestFaultErrors(t *testing.T) {
	for fault, want := range map[string]string{
		`{"at": "1s", "kind": "melt", "replicas": [0]}`:             `kind is "melt", want die, restart, hang or remove`,
		`{"at": "1s", "kind": "hang", "replicas": [0]}`:             "for is 0s for the kind hang",
		`{"at": "1s", "kind": "die", "for": "1s", "replicas": [0]}`: "for is 1s for the kind die",
		`{"at": "1s", "kind": "die", "replicas": [10]}`:             "replicas has 10, want 0 to 9",
	} {
		_, err := suite.Parse(fmt.Appendf(nil, `{"seeds": [1], "duration": "10s", "capacity": "least-req",
			"scenarios": [{"name": "a", "workload": {"kind": "sharegpt"}, "faults": [%s]}]}`, fault))
		require.ErrorContains(t, err, `scenario "a": faults[0]: `+want)
	}
}
