package rollout

import "github.com/inferpick/inferpick/types"

// finish is how a model ended an answer.
type finish = uint8

const (
	finishTools finish = 4
	finishes           = 6
)

func finishOf(types.Outcome) finish { return 0 }

func finishName(i int) string {
	return [...]string{"unknown", "stop", "length", "filter", "tools", "other"}[i]
}
