package admission_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// task is a request of an agent's task.
func task(id, tenant, program string) *types.Request {
	req := request(id, 0, tenant)
	req.ProgramID = program
	return req
}

// An agent that asks for twenty things at once has the other programs of its tenant wait for few of them, and other
// tenants not at all longer.
func TestFanOutOfAnAgent(t *testing.T) {
	for _, tt := range []struct {
		name          string
		o             admission.Options
		other, tenant int // by when the last of each was let in, at the latest
	}{
		{"share alike", admission.Options{}, 14, 7},
		{"least attained", admission.Options{Tuning: admission.Tuning{Order: admission.LeastAttained}}, 28, 7},
		{"no programs", admission.Options{Tuning: admission.Tuning{MaxPrograms: -1}}, 46, 7},
		{"first come", admission.Options{Fairness: admission.FirstCome}, 46, 46},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Credit, tt.o.OutputTokens = -1, 50
			r := newRig(t, 1, tt.o)
			r.fill(0, 1)
			for i := range 40 {
				r.offer(task(fmt.Sprint("agent", i), "busy", "agent"))
			}
			for i := range 3 {
				r.offer(task(fmt.Sprint("chat", i), "busy", "chat"))
				r.offer(task(fmt.Sprint("other", i), "other", "agent"))
			}
			r.check()
			last := func(order []string, of string) (n int) {
				for i, id := range order {
					if strings.HasPrefix(id, of) {
						n = i + 1
					}
				}
				return n
			}
			order := r.drain()
			require.Len(t, order, 46)
			require.LessOrEqual(t, last(order, "chat"), tt.other, "%v", order)
			require.LessOrEqual(t, last(order, "other"), tt.tenant, "%v", order)
			if tt.name == "no programs" {
				require.Greater(t, last(order, "chat"), 40)
			}
		})
	}
}

func TestExplainProgram(t *testing.T) {
	r := newRig(t, 1, admission.Options{Tuning: admission.Tuning{Credit: -1, OutputTokens: 50}})
	for range 5 { // what the agent has had
		r.run(r.offer(task("a", "t", "agent")))
	}
	r.fill(0, 1)
	for range 5 {
		r.offer(task("a", "t", "agent"))
	}
	r.offer(task("c", "t", "chat"))
	c := r.offer(task("c", "t", "chat"))
	got := c.Explain()
	require.Equal(t, "chat", got.Program)
	require.Equal(t, 1, got.OwnProgram)
	require.Less(t, got.OwnTenant, 6)
	require.Equal(t, got.LeastProgram, got.ProgramCounter)
	require.Contains(t, got.String(), `1 of its own are of program "chat"`)
	foreseen := r.c.Explain(admission.Arrival{Request: task("n", "t", "new")})
	require.Equal(t, "queued", foreseen.Verdict)
	require.Equal(t, "new", foreseen.Program)
	r.check()
	r.c.Close()
	require.Equal(t, "chat", c.refusal.Program)
	require.Equal(t, "t", c.refusal.Tenant)
}
