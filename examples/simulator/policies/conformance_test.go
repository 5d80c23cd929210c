package policies_test

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// profile returns a new profile of p, with made up truths where it needs to know
// them.
func profile(p simulation.Policy) scheduling.Profile {
	if p.Clairvoyant != nil {
		return p.Clairvoyant(flat{})
	}
	return p.Profile()
}

// flat is a world in which every engine has an empty cache.
type flat struct{}

func (flat) Cached(*types.Request, *types.Endpoint) int { return 0 }

func TestConformance(t *testing.T) {
	for _, p := range policies.All() {
		t.Run(p.Name, func(t *testing.T) {
			one := profile(p)
			for i, f := range one.Filters {
				t.Run("filter="+f.Name, func(t *testing.T) {
					schedulingtest.TestFilter(t, func() scheduling.Filter { return profile(p).Filters[i].Filter })
				})
			}
			for i, s := range one.Scorers {
				t.Run("scorer="+s.Name, func(t *testing.T) {
					schedulingtest.TestScorer(t, func() scheduling.Scorer { return profile(p).Scorers[i].Scorer })
				})
			}
			t.Run("picker", func(t *testing.T) {
				schedulingtest.TestPicker(t, func() scheduling.Picker { return profile(p).Picker })
			})
		})
	}
}

// Every policy makes a scheduler that decides for any fleet, names fallbacks, sheds
// nobody, and leaves the ledgers empty.
func TestSchedules(t *testing.T) {
	for _, p := range policies.All() {
		c := newClock()
		s := start(t, profile(p), c)
		eps := schedulingtest.Fleet(40)
		for _, ep := range eps {
			ep.Metrics.Waiting = types.Known(1000) // far beyond saturation
		}
		before := ledgers(eps)
		var open []*scheduling.Decision
		for i := range 300 {
			c.wait(10 * time.Millisecond)
			req := blocks("system", 4, i%7, 20)
			req.Priority = types.PrioritySheddable
			d, err := s.Schedule(ctx, req, eps)
			require.NoError(t, err, "%s", p.Name)
			// Fewer are named once servers have failed, and by rules that are filters.
			if i == 0 && len(d.Fallbacks) != plugins.DefaultFallbacks && p.Name != "gie-0.3" {
				t.Errorf("%s: %d fallbacks, want %d", p.Name, len(d.Fallbacks), plugins.DefaultFallbacks)
			}
			if d.Endpoint.State != types.Ready {
				t.Errorf("%s: took %s, which is %v", p.Name, d.Endpoint.ID, d.Endpoint.State)
			}
			switch i % 4 {
			case 0:
				d.FirstToken()
			case 1:
				d.Done(types.Outcome{Status: 503})
			case 2:
				if len(d.Fallbacks) > 0 {
					d.Retry(d.Fallbacks[0], types.Outcome{Err: io.ErrUnexpectedEOF})
				}
			}
			open = append(open, d)
		}
		for _, d := range open {
			d.Done(types.Outcome{Status: 200})
		}
		if after := ledgers(eps); !slices.Equal(before, after) || s.Open() != 0 {
			t.Errorf("%s: ledgers %v afterwards, want %v", p.Name, after, before)
		}
	}
}

func ledgers(eps []*types.Endpoint) []types.Booking {
	var all []types.Booking
	for _, ep := range eps {
		all = append(all, types.Booking{Requests: ep.Load.Requests(), PrefillTokens: ep.Load.PrefillTokens(), ContextTokens: ep.Load.ContextTokens()})
	}
	return all
}

// A server that does not answer is left out at once by every policy, and tried again
// after a while.
func TestEjects(t *testing.T) {
	for _, p := range policies.All() {
		c := newClock()
		s := start(t, profile(p), c)
		eps := idle(c, 3)
		send(t, s, blocks("x", 10), eps[0]).Done(types.Outcome{Err: io.ErrUnexpectedEOF})
		struckOut := func() bool { return explain(t, s, blocks("x", 10), eps).Candidates[0].FilteredBy == "ejection" }
		require.True(t, struckOut(), "%s: after a failure", p.Name)
		c.wait(time.Minute)
		require.False(t, struckOut(), "%s: a minute later", p.Name)
	}
}

// With one seed the same requests go the same ways.
func TestDeterminism(t *testing.T) {
	for _, p := range policies.All() {
		run := func() (ways []string) {
			c := newClock()
			s := start(t, profile(p), c)
			eps := idle(c, 8)
			var open []*scheduling.Decision
			for i := range 400 {
				c.wait(10 * time.Millisecond)
				d, err := s.Schedule(ctx, blocks(i%5, 10, i, 5), eps)
				require.NoError(t, err)
				ways = append(ways, fmt.Sprint(d.Endpoint.ID, d.Fallbacks[0].ID))
				if open = append(open, d); len(open) > 30 {
					open[0].FirstToken()
					open[0].Done(types.Outcome{})
					open = open[1:]
				}
			}
			return ways
		}
		a, b := run(), run()
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s: two runs with the same seed differ", p.Name)
		}
		used := map[byte]bool{}
		for _, way := range a {
			used[way[0]] = true
		}
		if len(used) < 4 {
			t.Errorf("%s: 400 requests of 5 kinds went to %d of 8 equal endpoints", p.Name, len(used))
		}
	}
}

// Endpoints that are gone or have restarted are forgotten by who keeps anything.
func TestForgets(t *testing.T) {
	for _, p := range policies.All() {
		c := newClock()
		s := start(t, profile(p), c)
		eps := idle(c, 3)
		d := send(t, s, blocks("x", 10), eps[0])
		s.Forget(eps[0])
		d.FirstToken()
		d.Done(types.Outcome{Status: 200})
		if a, b := explain(t, s, blocks("x", 10), eps).Candidates[0].Total, explain(t, s, blocks("x", 10), eps).Candidates[1].Total; a != b && p.Name != "chwbl" {
			t.Errorf("%s: total %v after it was forgotten, %v of one that was never used", p.Name, a, b)
		}
	}
}

func TestByName(t *testing.T) {
	all, err := policies.ByName("all")
	if err != nil || len(all) != len(policies.All()) {
		t.Errorf("ByName(all) = %d policies, %v, want %d", len(all), err, len(policies.All()))
	}
	two, err := policies.ByName("dynamo, least-req")
	if err != nil || len(two) != 2 || two[0].Name != "dynamo" || two[1].Name != "least-req" {
		t.Errorf("ByName(dynamo, least-req) = %v, %v", two, err)
	}
	for list, part := range map[string]string{
		"":                  `unknown policy ""`,
		"least-req,":        `unknown policy ""`,
		"least-req,magic":   `unknown policy "magic"`,
		"p2c,p2c":           `"p2c" is there twice`,
		"all,classic+lora":  `"classic+lora" is there twice`,
		"Classic-223":       "random, round-robin, least-req, p2c",
		"classic+in-flight": "",
	} {
		_, err := policies.ByName(list)
		if part == "" && err != nil || part != "" && (err == nil || !strings.Contains(err.Error(), part)) {
			t.Errorf("ByName(%q) = %v, want %q in it", list, err, part)
		}
	}
	names := policies.Names()
	if len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(names) {
		t.Errorf("names are not unique: %v", names)
	}
	for _, p := range policies.All() {
		if (p.Profile == nil) == (p.Clairvoyant == nil) {
			t.Errorf("%s has both constructors or none", p.Name)
		}
	}
}

func ExampleByName() {
	chosen, err := policies.ByName("least-req,classic-223,llmd-precise")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, p := range chosen {
		fmt.Println(p.Name, p.Clairvoyant != nil)
	}
	_, err = policies.ByName("fastest")
	fmt.Println(strings.HasPrefix(err.Error(), `policies: unknown policy "fastest", want a list of: all, default`))
	// Output:
	// least-req false
	// classic-223 false
	// llmd-precise true
	// true
}
