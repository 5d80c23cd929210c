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
	p := Plan{Object: o}
	if err := doc.Decode(&p); err != nil {
		return Plan{}, err
	}
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

// MarshalJSON writes the form that DecodePlan reads.
func (p Plan) MarshalJSON() ([]byte, error) {
	type plain Plan
	return json.Marshal(struct {
		plain
		Deadline string `json:"deadline,omitempty"`
	}{plain(p), duration(p.Deadline)})
}

// MarshalJSON writes the form that DecodePlan reads.
func (s Step) MarshalJSON() ([]byte, error) {
	type plain Step
	return json.Marshal(struct {
		plain
		Pause string `json:"pause,omitempty"`
	}{plain(s), duration(s.Pause)})
}

// MarshalJSON writes the form that DecodePlan reads.
func (l LoadPlan) MarshalJSON() ([]byte, error) {
	type plain LoadPlan
	return json.Marshal(struct {
		plain
		Timeout string `json:"timeout,omitempty"`
		Grace   string `json:"grace,omitempty"`
	}{plain(l), duration(l.Timeout), duration(l.Grace)})
}

func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }
