package telemetry

import (
	"cmp"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

// Defaults of Options.
const (
	DefaultMaxModels      = 500
	DefaultMaxEndpoints   = 2000
	DefaultMaxQueueSeries = 1000
	DefaultMaxBytes       = 4 << 20
	DefaultQueueThreshold = 5
	DefaultKVThreshold    = 0.8
)

// Options say what is measured, and how much of it at most. The zero value is
// good, and has no metrics of pools.
type Options struct {
	// Pools yields every pool with its endpoints as they are now, for what is
	// exported of pools. It is called by each Gather, by several at once if that
	// is. Optional.
	Pools iter.Seq2[types.NamespacedName, []*types.Endpoint]

	// Admissions yields what the admission control of every pool that has one is like
	// now, for what is exported of queues. It is called as Pools is. Optional; of a
	// director.Director it is
	//
	//	func(yield func(types.NamespacedName, admission.Stats) bool) {
	//		for pool, c := range d.Admissions() {
	//			if !yield(pool, c.Stats()) {
	//				return
	//			}
	//		}
	//	}
	Admissions iter.Seq2[types.NamespacedName, admission.Stats]

	// Sharing says what a gateway shares with its peers, for what is exported of them. It is
	// called as Pools is. Optional; of a gateway.Gateway it is g.Sharing.Stats.
	Sharing func(now time.Time) sharing.Stats

	// Rollouts returns where rollouts are, for what is exported of them. It is called as Pools is.
	// Optional; of a gateway.Gateway that has some it is g.Rollouts.Status.
	Rollouts func() []rollout.Status

	// Autoscale yields what is recommended for each pool, the signals of the pool and those of its models: of an
	// autoscale.Autoscaler its Recommended. It is called as Pools is. Optional.
	Autoscale func(yield func(autoscale.Recommendation, autoscale.Signals, []autoscale.Signals) bool)

	// Now is the clock: the one of the schedulers whose hooks these are. Default
	// time.Now.
	Now func() time.Time

	// MetricsTTL is the age beyond which a reading of an endpoint is unknown.
	// Default scheduling.DefaultMetricsTTL.
	MetricsTTL time.Duration

	// MaxModels bounds the pairs of a model and its target that have series of
	// their own, and the rewrites. The first to come have them; the others count
	// under the names "other". Where models need no manifest, clients choose the
	// names, and can fill it. Default DefaultMaxModels.
	MaxModels int

	// MaxEndpoints bounds the series that name an endpoint, of each family that
	// has such. What is beyond counts under the endpoint "other". Default
	// DefaultMaxEndpoints.
	MaxEndpoints int

	// MaxQueueSeries bounds the series of the times that requests waited, which are told
	// apart by pool, priority, tenant, model and outcome. The first to come have them; the
	// others count under the tenant and the models "other". Default DefaultMaxQueueSeries.
	MaxQueueSeries int

	// MaxBytes bounds a page in the text format, in bytes, but for what configuration makes of it: about
	// 10 KiB for each pool, 100 bytes for each endpoint and 200 for each peer, more where names
	// are long. At least 256 KiB. Models make most of a page: one that is served takes some 40 KB with
	// all its histograms, 55 KB with LegacyNames, and more if its name is long. The first
	// to come have their series, and keep them. A quarter of the page is for counters
	// alone: when the rest is used up, histograms of further models count under the model
	// "other", and when all is, so do requests. Sums over models are right in any case.
	// Who serves more than some 80 models sets more. Default DefaultMaxBytes, 4 MiB.
	MaxBytes int

	// LegacyNames exports the metrics of requests a second time, under the names
	// that version 0.3 of the Inference Extension had for them.
	LegacyNames bool

	// Names are those of the metrics that others have, too. Default NamesGIE.
	Names Names

	// QueueThreshold is the queue of an endpoint, in requests, at which it counts
	// as saturated, and KVThreshold the fraction of its KV cache in use, up to 1.
	// Defaults DefaultQueueThreshold and DefaultKVThreshold.
	QueueThreshold float64
	KVThreshold    float64

	// Version and Commit say which build of the program this is.
	Version, Commit string
}

// Metrics counts what hooks tell it, and exports it. Make it with New. All
// methods may be called from any goroutine; it starts none.
type Metrics struct {
	o Options
	// key is where a request keeps what it counts for, between its first hook and
	// its last.
	key *types.Key[*use]
	// progress is where one keeps what is known of its prompt, if it can be split.
	progress *types.Key[progress]

	room         room
	decisionTime histogram
	pools        table[types.NamespacedName, *pool]
	pairs        table[pairName, *pair]
	other        *pair // in pairs; of those that are too many
	attempts     table[attemptKey, *attempt]
	pruning      sync.Mutex // held while attempts are read and pruned
	rewrites     table[rewrite, *atomic.Uint64]
	waits        table[waitKey, *histogram]
}

// New returns Metrics that count from 0. An error names the option that is out
// of its range.
func New(o Options) (*Metrics, error) {
	wrong := func(field string, value any, want string, byDefault any) error {
		return fmt.Errorf("telemetry: Options.%s is %v, want %s, or 0 for the default of %v", field, value, want, byDefault)
	}
	switch {
	case o.MetricsTTL < 0:
		return nil, wrong("MetricsTTL", o.MetricsTTL, "more than 0", scheduling.DefaultMetricsTTL)
	case o.MaxModels < 0:
		return nil, wrong("MaxModels", o.MaxModels, "more than 0", DefaultMaxModels)
	case o.MaxEndpoints < 0:
		return nil, wrong("MaxEndpoints", o.MaxEndpoints, "more than 0", DefaultMaxEndpoints)
	case o.MaxQueueSeries < 0:
		return nil, wrong("MaxQueueSeries", o.MaxQueueSeries, "more than 0", DefaultMaxQueueSeries)
	case o.MaxBytes != 0 && o.MaxBytes < minBytes:
		return nil, wrong("MaxBytes", o.MaxBytes, fmt.Sprint("at least ", minBytes), DefaultMaxBytes)
	case !(o.QueueThreshold >= 0):
		return nil, wrong("QueueThreshold", o.QueueThreshold, "more than 0", DefaultQueueThreshold)
	case !(o.KVThreshold >= 0 && o.KVThreshold <= 1):
		return nil, wrong("KVThreshold", o.KVThreshold, "more than 0 and at most 1", DefaultKVThreshold)
	case o.Names > NamesBoth:
		return nil, fmt.Errorf("telemetry: Options.Names is %d, want NamesGIE, NamesLLMD or NamesBoth", o.Names)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.MetricsTTL = cmp.Or(o.MetricsTTL, scheduling.DefaultMetricsTTL)
	o.MaxModels = cmp.Or(o.MaxModels, DefaultMaxModels)
	o.MaxEndpoints = cmp.Or(o.MaxEndpoints, DefaultMaxEndpoints)
	o.MaxQueueSeries = cmp.Or(o.MaxQueueSeries, DefaultMaxQueueSeries)
	o.MaxBytes = cmp.Or(o.MaxBytes, DefaultMaxBytes)
	o.QueueThreshold = cmp.Or(o.QueueThreshold, DefaultQueueThreshold)
	o.KVThreshold = cmp.Or(o.KVThreshold, DefaultKVThreshold)
	m := &Metrics{o: o, key: types.NewKey[*use]("telemetry"), progress: types.NewKey[progress]("telemetry prompt"), decisionTime: newHistogram(decisionBuckets)}
	m.room.left.Store(o.Names.within(int64(o.MaxBytes) - fixedBytes))
	m.room.spared = o.Names.within(int64(o.MaxBytes)) / 4
	// A client may call its model "other" too: both count here.
	name := pairName{other, other}
	m.room.spend(m.pairSize(name))
	m.other, _ = m.pairs.add(name, 1, m.newPair)
	return m, nil
}

const (
	minBytes = 256 << 10
	// fixedBytes is more than what all pages have: help and type of all families, and what
	// has no labels.
	fixedBytes = 48 << 10
)
