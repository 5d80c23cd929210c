package autoscale

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// Signals is what a gateway knows of the load on a pool, or of one model of it, at one time. What is not known is NaN.
type Signals struct {
	Pool  types.NamespacedName `json:"pool"`
	Model string               `json:"model,omitempty"` // public name; empty: all of the pool
	At    time.Time            `json:"at"`

	Queued        int64         `json:"queued"`       // requests that wait for admission, or for an endpoint
	QueuedTokens  int64         `json:"queuedTokens"` // of their prompts
	OldestWait    time.Duration `json:"oldestWait"`
	Running       int64         `json:"running"`       // requests at servers
	PrefillTokens int64         `json:"prefillTokens"` // prompt tokens that servers still have to compute
	ContextTokens int64         `json:"contextTokens"` // that requests at servers hold

	// Backlog is the seconds that one replica of mean speed takes to compute what is queued and what is owed.
	Backlog    float64 `json:"backlogSeconds"`
	KVUsed     float64 `json:"kvUsed"`     // mean of the servers, 0..1
	Saturation float64 `json:"saturation"` // as admission control has it

	Arrivals      float64 `json:"arrivals"`      // requests per second, of late
	ArrivalWork   float64 `json:"arrivalWork"`   // seconds of one replica's work per second that come in
	ServedWork    float64 `json:"servedWork"`    // the same of what ends
	ArrivalTokens float64 `json:"arrivalTokens"` // prompt tokens per second
	OutputTokens  float64 `json:"outputTokens"`  // per second

	TTFT, TPOT Latency // of late

	Ready             int `json:"ready"`    // replicas that serve
	Starting          int `json:"starting"` // replicas that are there and do not serve yet
	Gateways, Missing int // who answered for this, and who should have
}

// Latency is a quantile over the last minute next to what requests ask for.
type Latency struct {
	P90 float64 `json:"p90"` // seconds
	Met float64 `json:"met"` // share of requests that met their SLO
	N   int64   `json:"n"`
}

// Recommendation is how many replicas there should be, and why.
type Recommendation struct {
	Replicas int    `json:"replicas"`
	Term     string `json:"term"`   // which ruled: backlog, demand, kv, concurrency, slo, idle, min, max, hold
	Reason   string `json:"reason"` // in words
	Terms    []Term `json:"terms"`
}

// Term is what one law asks for.
type Term struct {
	Name     string  `json:"name"`
	Replicas float64 `json:"replicas"` // before rounding
	Why      string  `json:"why"`
}
