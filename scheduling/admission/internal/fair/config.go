package fair

import "time"

// Config says who goes first. All of it must be set: there are no defaults.
type Config struct {
	// Classes are the settings of priorities, the highest first; the last has all
	// priorities below the others.
	Classes []Class
	// MaxRequests and MaxBytes bound what waits in all bands together, MaxBands the
	// priorities that have a queue, and MaxFlows the tenants remembered for each.
	MaxRequests        int
	MaxBytes           int64
	MaxBands, MaxFlows int
	// FlowIdle is after how long a tenant with nothing under way is forgotten.
	FlowIdle time.Duration

	// Weights are the shares of tenants. If there are any, tenants that are not in it
	// share one flow; so do all with OneFlow.
	Weights map[string]float64
	OneFlow bool
	// Credit is how many weighted tokens a tenant that comes back may be ahead.
	Credit float64
	// Prefix, if not nil, makes the order that of DLPM: it returns a number that requests
	// have in common whose prompts begin alike, and a tenant is served Quantum tokens of
	// such requests before it is the next one's turn.
	Prefix  func(*Item) uint64
	Quantum float64
	// EarliestDeadline is the order of one tenant's requests; else first come, first
	// served, among the programs that its tenant names.
	EarliestDeadline bool
	// Programs says how these share, and MaxPrograms bounds those that are remembered of each
	// tenant; all together are at most MaxFlows.
	Programs    Programs
	MaxPrograms int

	// InputWeight and OutputWeight are what a token counts as; OutputTokens is the output
	// that is expected until some requests have ended.
	InputWeight, OutputWeight, OutputTokens float64
}

// Class is what the priorities from Priority on, below the next higher class, have in
// common.
type Class struct {
	Priority int
	// MaxRequests and MaxBytes bound what waits of one priority. 0: the bounds of all.
	MaxRequests int
	MaxBytes    int64
	// Floor is the part of all tokens that is served to the class while some of it waits.
	Floor float64
	// Displace lets its requests take the places of lower classes' in a full queue.
	Displace bool
}

// ClassOf returns the index in Classes of the class of a priority.
func (c *Config) ClassOf(priority int) int {
	for i := range c.Classes {
		if priority >= c.Classes[i].Priority {
			return i
		}
	}
	return len(c.Classes) - 1
}

// weightOf returns the weight of a tenant by the name of its flow.
func (c *Config) weightOf(name string) float64 {
	if w, ok := c.Weights[name]; ok && !c.OneFlow {
		return w
	}
	return 1
}
