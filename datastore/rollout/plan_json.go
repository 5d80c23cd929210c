package rollout

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/internal/strictjson"
)

// MaxPlan is the largest plan in JSON that is read, in bytes.
const MaxPlan = 64 << 10

// DecodePlan reads a plan from JSON strictly: an unknown field, and whatever WithDefaults refuses, is an error with its
// place. The result has its defaults.
func DecodePlan(data []byte, o Object) (Plan, error) {
	if len(data) > MaxPlan {
		return Plan{}, errorf("a plan of %d bytes, want at most %d", len(data), MaxPlan)
	}
	doc, err := strictjson.Parse(data, strictjson.Options{Package: "rollout"})
	if err != nil {
		return Plan{}, err
	}
	var form planForm
	if err := doc.Decode(&form); err != nil {
		return Plan{}, err
	}
	p := form.plan()
	p.Object = o
	p, err = p.WithDefaults()
	if err = doc.Locate(err); err != nil {
		return Plan{}, err
	}
	return p, nil
}

// Fingerprint tells plans apart: it is the same for the same plan, whether its defaults are filled in or not. The
// object is not part of it.
func (p Plan) Fingerprint() string {
	if full, err := p.WithDefaults(); err == nil {
		p = full
	}
	data, err := json.Marshal(p)
	if err != nil {
		data = fmt.Append(nil, p) // a NaN, which no plan has that can be used
	}
	h := fnv.New64a()
	h.Write(data)
	return strconv.FormatUint(h.Sum64(), 16)
}

// The forms of a plan in JSON, without the methods that read them: so that errors have their place in the whole.
type (
	planForm struct {
		plainPlan
		Steps []stepForm `json:"steps"`
		Load  loadForm   `json:"load"`
	}
	plainPlan Plan
	stepForm  Step
	loadForm  LoadPlan
)

func (f *planForm) plan() Plan {
	p := Plan(f.plainPlan)
	p.Load = LoadPlan(f.Load)
	for _, s := range f.Steps {
		p.Steps = append(p.Steps, Step(s))
	}
	return p
}

// UnmarshalJSON reads what MarshalJSON writes, strictly, without defaults and checks: see DecodePlan.
func (p *Plan) UnmarshalJSON(data []byte) error {
	var f planForm
	if err := strictjson.Decode(data, &f, strictjson.Options{Package: "rollout"}); err != nil {
		return err
	}
	*p = f.plan()
	return nil
}

// UnmarshalJSON reads what MarshalJSON writes, strictly.
func (s *Step) UnmarshalJSON(data []byte) error {
	return strictjson.Decode(data, (*stepForm)(s), strictjson.Options{Package: "rollout"})
}

// UnmarshalJSON reads what MarshalJSON writes, strictly.
func (l *LoadPlan) UnmarshalJSON(data []byte) error {
	return strictjson.Decode(data, (*loadForm)(l), strictjson.Options{Package: "rollout"})
}

// MarshalJSON writes the form that DecodePlan reads.
func (p Plan) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		plainPlan
		Deadline string `json:"deadline,omitempty"`
	}{plainPlan(p), duration(p.Deadline)})
}

// MarshalJSON writes the form that DecodePlan reads.
func (s Step) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		stepForm
		Pause string `json:"pause,omitempty"`
	}{stepForm(s), duration(s.Pause)})
}

// MarshalJSON writes the form that DecodePlan reads.
func (l LoadPlan) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		loadForm
		Timeout string `json:"timeout,omitempty"`
		Grace   string `json:"grace,omitempty"`
	}{loadForm(l), duration(l.Timeout), duration(l.Grace)})
}

func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }
