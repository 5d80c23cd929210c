package autoscale

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// Signals is what is known of the load on a pool, or of one model of it, at one time: by one gateway, or by several
// together (see Merge). Counts are of what the gateways themselves have queued and sent; figures of servers are as
// these report them, whoever sent the requests.
//
// Work is measured in seconds of one replica of mean speed: a prompt token takes Speed.Token of them, and a token of
// output Speed.Sequence, which is what it adds to a step. What a step takes that serves nobody, Speed.Step, is no
// work, but bounds how much of it a replica can do at a given time per token.
type Signals struct {
	Pool  types.NamespacedName `json:"pool"`
	Model string               `json:"model,omitempty"` // public name; empty: all of the pool
	At    time.Time            `json:"at"`

	// What waits and what runs.
	Queued        int64         `json:"queued"`        // requests that wait to be let in, or for an endpoint
	QueuedTokens  int64         `json:"queuedTokens"`  // of their prompts
	OldestWait    time.Duration `json:"oldestWait"`    // nanoseconds
	Running       int64         `json:"running"`       // requests at servers
	PrefillTokens int64         `json:"prefillTokens"` // prompt tokens that servers still have to compute
	ContextTokens int64         `json:"contextTokens"` // that requests at servers hold, or will

	// Backlog is the seconds that one replica takes to compute the prompts that are queued and owed.
	Backlog Figure `json:"backlogSeconds"`

	// What servers say: means over the ready ones. Only of a pool.
	KVUsed     Figure `json:"kvUsed"`         // part of the KV cache in use, 0..1
	Batch      Figure `json:"batch"`          // requests in the batch of a server
	Waiting    Figure `json:"engineWaiting"`  // requests queued in a server
	Slots      Figure `json:"maxConcurrency"` // requests that a server can run at once, by types.Capacity
	Saturation Figure `json:"saturation"`     // as admission control has it, 0..1

	// What comes and goes, of late. Refused requests have come, too, unless for a budget.
	Arrivals      Figure `json:"arrivals"`           // requests per second
	ArrivalTokens Figure `json:"arrivalTokens"`      // prompt tokens per second
	ArrivalWork   Figure `json:"arrivalWork"`        // seconds of work per second, over RateWindow
	RecentWork    Figure `json:"recentArrivalWork"`  // the same over RecentWindow
	WorkNoise     Figure `json:"arrivalWorkNoise"`   // standard error of ArrivalWork by chance alone
	RecentNoise   Figure `json:"recentArrivalNoise"` // the same of RecentWork
	ServedWork    Figure `json:"servedWork"`         // seconds of work per second of requests that ended
	OutputTokens  Figure `json:"outputTokens"`       // per second, of requests that ended
	Refused       Figure `json:"refused"`            // of the arrivals, those that were refused, per second

	TTFT Latency `json:"ttft"` // of late, against SLOs
	TPOT Latency `json:"tpot"`

	// Speed is that of a replica in the mean. Zero: not known yet.
	Speed types.Speed `json:"speed"`

	// Replicas. Only of a pool.
	Ready int `json:"ready"` // that serve
	// Starting is how many replicas are there that do not serve yet. Below 0: nobody knows, and those that were asked
	// for of late are taken to be on their way.
	Starting int       `json:"starting"`
	Variants []Variant `json:"variants,omitempty"` // by name, if the pool has several kinds of replicas

	// Idle is for how long nothing has come, been queued or run.
	Idle time.Duration `json:"idle"` // nanoseconds

	Gateways int `json:"gateways"`          // that answered for this
	Missing  int `json:"missing,omitempty"` // that should have, and did not
}

// Latency is a quantile over the last minute, next to what requests ask for.
type Latency struct {
	P90 Figure `json:"p90"` // seconds
	Met Figure `json:"met"` // part of the requests that met their SLO, or that of the Policy
	N   int64  `json:"n"`   // requests that this is of
}

// Variant is the replicas of one kind in a pool.
type Variant struct {
	Name        string      `json:"name"`
	Ready       int         `json:"ready"`
	Starting    int         `json:"starting"`    // below 0: nobody knows
	CostPerHour float64     `json:"costPerHour"` // 0: not known
	Speed       types.Speed `json:"speed"`       // zero: not known
}

// The times over which a Collector averages what comes.
const (
	RateWindow   = 60 * time.Second
	RecentWindow = 10 * time.Second
)

// Merge returns the signals of several gateways in front of one pool as one: own are those of each that answered, for
// the same pool and model, at least one, and missing is how many should have answered and did not.
func Merge(own []Signals, missing int) Signals { return mergeSignals(own, missing) }
