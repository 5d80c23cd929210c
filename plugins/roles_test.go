package plugins_test

import (
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
)

// The interfaces that plugins implement. A method of an optional interface with a wrong signature
// would silently not be called. For Cost see cost.go.
var (
	_ = []scheduling.Filter{
		plugins.AdapterPresent{}, plugins.AttributeFilter{}, plugins.ContextLengthFilter{},
		new(plugins.Ejection), plugins.Fresh{}, plugins.HasCapacity{}, plugins.Healthy{}, plugins.Labels{},
		plugins.LeastKV{}, plugins.LeastQueue{}, plugins.LoRASoftAffinity{}, plugins.LowQueue{},
		new(plugins.ModelServed), new(plugins.PrefixAffinity), new(plugins.PreviousAnswer),
		new(plugins.SLOAdmitter), plugins.Shed{}, new(plugins.Tree),
	}
	_ = []scheduling.Scorer{
		plugins.ActiveRequests{}, plugins.AttributeScorer{}, plugins.ContextLength{},
		plugins.InFlightRequests{}, plugins.KVCache{}, plugins.LoRAAffinity{}, plugins.LoadAware{},
		new(plugins.NoHitLRU), new(plugins.PrefixCache), plugins.QueueDepth{}, plugins.RunningRequests{},
		new(plugins.SessionAffinity), plugins.TokenLoad{},
	}
	_ = []scheduling.Picker{
		plugins.MaxScore{}, plugins.PowerOfTwo{}, plugins.Random{}, new(plugins.RoundRobin),
		plugins.WeightedRandom{},
	}
	_ = []scheduling.Ranker{
		plugins.MaxScore{},
	}
	_ = []scheduling.Tracker{
		new(plugins.Ejection), new(plugins.NoHitLRU), new(plugins.PrefixCache),
		new(plugins.PreviousAnswer), new(plugins.RoundRobin), new(plugins.SessionAffinity),
	}
	_ = []scheduling.Forgetter{
		new(plugins.Ejection), new(plugins.NoHitLRU), new(plugins.PrefixCache),
		new(plugins.PreviousAnswer), new(plugins.SessionAffinity),
	}
	_ = []scheduling.Screener{
		new(plugins.Ejection), plugins.Fresh{}, plugins.Healthy{}, new(plugins.ModelServed),
		new(plugins.PreviousAnswer), plugins.Shed{},
	}
	_ = []scheduling.Constrainer{
		plugins.AdapterPresent{}, plugins.ContextLengthFilter{}, plugins.Labels{},
		new(plugins.ModelServed), new(plugins.PreviousAnswer),
	}
	_ = []scheduling.Describer{
		plugins.ActiveRequests{}, plugins.AdapterPresent{}, plugins.AttributeFilter{},
		plugins.AttributeScorer{}, plugins.ContextLength{}, new(plugins.Ejection), plugins.Fresh{},
		plugins.HasCapacity{}, plugins.Healthy{}, plugins.InFlightRequests{}, plugins.KVCache{},
		plugins.Labels{}, plugins.LoRAAffinity{}, plugins.LoadAware{}, new(plugins.ModelServed),
		new(plugins.NoHitLRU), new(plugins.PrefixAffinity), new(plugins.PrefixCache),
		new(plugins.PreviousAnswer), plugins.QueueDepth{}, plugins.RunningRequests{},
		new(plugins.SessionAffinity), plugins.TokenLoad{},
	}
	_ = []scheduling.Impatient{
		new(plugins.Ejection),
	}
	_ = []scheduling.CacheEstimator{
		new(plugins.PrefixCache),
	}
)
