package simulation

import "github.com/inferpick/inferpick/scheduling"

// Report is what a run came to. Times are in seconds, so that the JSON reads
// well. Jobs that arrived during Warmup are in no figure but the totals.
type Report struct {
	Policy string
	Seed   uint64

	// Simulated is how long the run took in simulated time, seconds.
	Simulated float64
	// Arrived, Completed, Failed, Shed, Cancelled count jobs. Failed ones were lost
	// to faults, Shed ones refused by the policy, Cancelled ones given up by the
	// client, Unfinished ones still running when Drain was over.
	Arrived, Completed, Failed, Shed, Cancelled, Unfinished int
	// OfferedRate is the jobs that arrived per second.
	OfferedRate float64

	// TTFT, TPOT and NTPOT are of jobs that produce tokens.
	TTFT  Distribution // time to first token, seconds
	TPOT  Distribution // time per output token after the first, seconds
	NTPOT Distribution // end-to-end time / output tokens, seconds
	E2E   Distribution // end-to-end time of all jobs, seconds
	// Latency is the end-to-end time of jobs that produce none, and all of whose answer comes at once:
	// that Pool or Denoise.
	Latency Distribution `json:",omitzero"`
	// ItemRate is how many inputs or pictures of those were completed per second.
	ItemRate float64 `json:",omitempty"`

	// OutputRate and InputRate are tokens per second, and RequestRate jobs per
	// second, from the end of Warmup to the last completion.
	OutputRate, InputRate, RequestRate float64
	// Throughput is output tokens per second of all jobs that were completed from the end
	// of Warmup to the last arrival: what the fleet did while there was more to do, without
	// the time in which it ran empty.
	Throughput float64
	// Goodput is the part of jobs that were served and met their SLO, and Config.Goodput where
	// they have none, 0..1.
	Goodput float64
	// PrefixHits is the part of prompt tokens found in a prefix cache, 0..1.
	PrefixHits float64
	// Encoded is how many tokens of media encoders computed, as a part of those in the prompts of all jobs: the rest
	// was cached, as tokens or as outputs of the encoder.
	Encoded     float64 `json:",omitempty"`
	Preemptions int
	// Imbalance is the mean over time of (max-mean)/mean of the replicas' running and
	// waiting sequences.
	Imbalance float64

	// Steady tells whether the fleet kept up: if it is false, latencies grew for as
	// long as jobs arrived, and percentiles say how long the run was rather than how
	// good the policy is. Why says how it was seen.
	Steady bool
	Why    string `json:",omitempty"`

	// Classes are the jobs by priority, highest first.
	Classes []ClassReport `json:",omitempty"`
	// Tenants are the jobs by tenant, by name: of the first 64 that sent any. Their
	// Priority is that of their first job.
	Tenants []TenantReport `json:",omitempty"`

	// Apart is the jobs whose prompt another replica computed than the one that answered, if
	// there are replicas that can.
	Apart *ApartReport `json:",omitempty"`

	// Sharing is what gateways told each other, if Policy.Sharer.
	Sharing *SharingReport `json:",omitempty"`

	// Scaling is what Config.Scaling came to, if there is one. Replicas are all that ever served then.
	Scaling *ScalingReport `json:",omitempty"`

	Replicas []ReplicaReport
	Timeline []Sample `json:",omitempty"`

	// Explanation is why Config.ExplainJob went where it went.
	Explanation *scheduling.Explanation `json:",omitempty"`
	// Decision is the time that decisions took, in microseconds, if Config.CPU.
	Decision *Distribution `json:",omitempty"`
}

// ClassReport is the jobs of one kind, such as those of one priority.
type ClassReport struct {
	Priority                                    int
	Arrived, Completed, Failed, Shed, Cancelled int
	// Met is how many were served within their SLO; of those that have none, how many
	// were served.
	Met int
	// Wait is the time until they were sent to a server, and TTFT that to the first
	// token, of completed ones, seconds. Latency is that of those without first tokens.
	Wait, TTFT Distribution
	Latency    Distribution `json:",omitzero"`
	// Tokens is prompt and output tokens of completed ones.
	Tokens int
}

// TenantReport is the jobs of one tenant.
type TenantReport struct {
	Tenant string
	ClassReport
}

// ReplicaReport is one replica's part.
type ReplicaReport struct {
	Name        string
	Role        string `json:",omitempty"`
	Jobs        int    // those that it answered
	Prompts     int    `json:",omitempty"` // that it computed for others
	Received    int    `json:",omitempty"` // tokens that others had computed
	Tokens      int    // produced
	HitTokens   int
	Preemptions int
	Busy        float64 // part of the time in which a step was under way
}

// ApartReport is the jobs that two replicas served. Times are in seconds.
type ApartReport struct {
	Jobs int
	// Share is the part of the completed jobs, 0..1.
	Share float64
	// Prefill is from the decision until the gateway has the answer of the one that computes the
	// prompt, Wait from then until the other has made room for it, Config.Hop included, and Transfer
	// from then until it is there.
	Prefill, Wait, Transfer Distribution
	// LeasesEnded counts prompts that were computed, and that nobody fetched in time.
	LeasesEnded int
}

// SharingReport is what gateways told each other.
type SharingReport struct {
	// Messages and Bytes were sent, each counted once, however many others there are, and Largest is how many
	// bytes one message had at most.
	Messages, Bytes, Largest int
	// Lost is how many messages did not come, counted for each gateway that they were to come to.
	Lost int
}

// Sample is the state of the fleet at one moment.
type Sample struct {
	At      float64   // seconds
	Running []int     // for each replica
	Waiting []int     // for each replica
	KV      []float64 // for each replica, 0..1
}

// Distribution is the shape of many values.
type Distribution struct {
	Count                    int
	Mean, P50, P90, P99, Max float64
}
