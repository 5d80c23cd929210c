package admission

import "time"

// Options say when a pool is full and what becomes of requests then. The zero value
// is good: it has DefaultBands, Default() as Detector, and tenants with equal shares.
type Options struct {
	// Detector says how full endpoints are. Default: Default().
	Detector Detector `json:"-"`
	// Bands are the classes of requests, by priority. Default: DefaultBands().
	Bands []Band `json:"bands,omitempty"`
	// MaxRequests bounds what waits in all bands together; see also Tuning.MaxBytes.
	// Default 10,000.
	MaxRequests int `json:"maxRequests,omitempty"`

	// Fairness says how tenants of one priority share. Default VirtualTokens.
	Fairness Fairness `json:"fairness,omitempty"`
	// Tenants gives tenants weights. If it is not empty, ids that are not in it share
	// one flow with requests that have none; if it is, each id is a flow of its own,
	// which is right only if ids come from the gateway and not from clients.
	Tenants map[string]Tenant `json:"tenants,omitempty"`
	// Budgets bound what tenants and models may use. Optional.
	Budgets []Budget `json:"budgets,omitempty"`

	// WaitForEndpoints is how long requests wait if they come while the pool has no endpoint that
	// could serve them, for scaling from zero: longer than a server takes to start. MaxWait of their
	// band and their SLO, which servers that run can keep, do not count then; Arrival.MaxWait does, and
	// so do the bounds on what waits. Those that wait in vain are refused with NoEndpoint and a
	// RetryAfter. Default 0: they are refused at once.
	WaitForEndpoints time.Duration `json:"waitForEndpoints,omitempty"`
	// Revoke lets a request of a band that may Displace take the place of a running
	// one of negative priority, if that has said how it can be ended (OnRevoke).
	Revoke bool `json:"revoke,omitempty"`

	// Hooks hear of what happens.
	Hooks Hooks `json:"-"`

	Tuning
}

// Tuning is the part of Options that few programs need: weights, bounds on memory, and
// times.
type Tuning struct {
	// Order is that of the requests of one tenant. Default FIFO.
	Order Order `json:"order,omitempty"`
	// InputWeight and OutputWeight are what a token of the prompt and of the output
	// counts as. Defaults 1 and 2, as in VTC.
	InputWeight  float64 `json:"inputWeight,omitempty"`
	OutputWeight float64 `json:"outputWeight,omitempty"`
	// DenoiseWeight is what a token of the latents of a diffusion model counts as, with each pass: a picture of 1,024 x
	// 1,024 in 50 steps has 204,800, as many as one is taken to have that does not say. Budgets count as much.
	// Default 1.
	DenoiseWeight float64 `json:"denoiseWeight,omitempty"`
	// Credit is how many weighted tokens a tenant that sent nothing may be ahead of
	// those that did: enough to go before them with the next request, and no more.
	// Default 8,192; negative: none.
	Credit float64 `json:"credit,omitempty"`
	// Quantum is, with fairness PrefixLocality, how many weighted tokens a tenant is
	// served before it is the next one's turn. Default 16,384.
	Quantum float64 `json:"quantum,omitempty"`
	// OutputTokens is the output of a request that is taken until some have ended.
	// Default 256.
	OutputTokens int `json:"outputTokens,omitempty"`

	// MaxBytes bounds the bodies of what waits in all bands together. Default 1 GiB.
	MaxBytes int64 `json:"maxBytes,omitempty"`
	// MaxBands bounds the priorities that have a queue at one time; requests of one
	// more wait with those of the next lower priority. Default 32.
	MaxBands int `json:"maxBands,omitempty"`
	// MaxLanes bounds the sets of candidates that are told apart at one time, see
	// Arrival.Candidates; requests of one more count as of the whole pool. Default 64.
	MaxLanes int `json:"maxLanes,omitempty"`
	// MaxFlows bounds the tenants that are remembered for each priority. Those of
	// more share the flow of requests that have none. Default 10,000.
	MaxFlows int `json:"maxFlows,omitempty"`

	// MaxPrograms bounds the programs of one tenant that are remembered for each priority; of all
	// tenants together they are at most MaxFlows. Requests of more count as of no program. Default
	// 1,000; negative: no programs are told apart.
	MaxPrograms int `json:"maxPrograms,omitempty"`

	// FlowIdle is after how long a tenant or a program with nothing under way is forgotten. Default
	// 5 minutes. A tenant to which nothing is held against is forgotten earlier.
	FlowIdle time.Duration `json:"flowIdle,omitempty"`
	// MaxRetryAfter bounds what refused clients are told, but for those over a Budget, who
	// are told when that will be enough. Default 1 minute.
	MaxRetryAfter time.Duration `json:"maxRetryAfter,omitempty"`
	// MetricsTTL is the oldest that a reading may be. Default 5 s.
	MetricsTTL time.Duration `json:"metricsTTL,omitempty"`
	// TicketTTL is how long a request that was booked may give no sign of life (Booked,
	// FirstToken or Alive) before its owner is taken to have forgotten it: it is ended then,
	// at the next call, with ErrForgotten. One that gave another than Booked may take up to
	// twice as long. Default 30 minutes.
	TicketTTL time.Duration `json:"ticketTTL,omitempty"`

	// PeerDelay is how long it takes until other gateways have heard a message, where budgets
	// are shared: so much later than they were told they know what was let in here. Default
	// 150 ms.
	PeerDelay time.Duration `json:"peerDelay,omitempty"`
	// MaxAccounts bounds the budgets and tenants of which other gateways are told; of what they
	// say four times as many are kept. Default 50,000.
	MaxAccounts int `json:"maxAccounts,omitempty"`

	// Clock tells the time. Nil: the real one.
	Clock Clock `json:"-"`
}

// Default returns the detector of a Controller that is given none, for one Controller: the
// fullest of LearnedBatch, LearnedBacklog, Utilization with a limit of 16 on the queue and
// of 0.9 on the KV cache, and, for endpoints without readings, LearnedConcurrency.
func Default() Detector {
	return Max{Utilization{Queue: 16, KVUsage: 0.9, ReadingsOnly: true}, new(LearnedBacklog), new(LearnedBatch), new(LearnedConcurrency)}
}
