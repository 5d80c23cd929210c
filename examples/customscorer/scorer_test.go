package customscorer

import (
	"testing"

	st "github.com/inferpick/inferpick/scheduling/schedulingtest"
)

func TestSameZone(t *testing.T) {
	got := st.Score(t, SameZone("a"), st.Request("hi"), st.Endpoint("near", st.Label("zone", "a")), st.Endpoint("far"))
	if got[0] != 1 || got[1] != 0 {
		t.Errorf("scores of near and far = %v, want 1 and 0", got)
	}
}
