package types

// Speed is how long a model server takes, in seconds. The zero value is unknown.
type Speed struct {
	Token    float64 `json:"token"`    // for a prompt token that is not in its cache
	Step     float64 `json:"step"`     // for a step of the engine that serves nobody
	Sequence float64 `json:"sequence"` // longer a step is for each request that decodes in it
}

// Known reports whether s is known.
func (s Speed) Known() bool { return s.Token > 0 && s.Step > 0 }
