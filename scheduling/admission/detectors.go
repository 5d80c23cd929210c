package admission

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// A DetectorFactory reads the parameters of a declared detector, which are nil if there
// are none, and returns what makes the detector: called once for each Controller, it makes
// a new one each time if the detector learns. The error says which parameter is wrong.
type DetectorFactory func(parameters json.RawMessage) (func() Detector, error)

// Detectors returns the factories of this package's detectors by the type names that a
// declaration has for them; those that the Inference Extension has too bear its names,
// and so do their parameters. The map is the caller's: to allow more types, add them.
//
//	utilization-detector    {"queueDepthThreshold": 5, "kvCacheUtilThreshold": 0.8, "readingsOnly": false}
//	concurrency-detector    {"maxConcurrency": 100, "maxTokenConcurrency": 1000000}
//	backlog-detector        {"tokens": 16384}
//	learned-backlog-detector {"time": "400ms", "least": 4096, "most": 16384}
//	predicted-ttft-detector {"target": "1s", "rate": 10000}
//	learned-batch-detector
//	learned-concurrency-detector {"first": 64, "least": 2, "most": 100000}
func Detectors() map[string]DetectorFactory {
	return map[string]DetectorFactory{
		"utilization-detector":         utilizationFrom,
		"concurrency-detector":         concurrencyFrom,
		"backlog-detector":             backlogFrom,
		"learned-backlog-detector":     learnedBacklogFrom,
		"predicted-ttft-detector":      predictedTTFTFrom,
		"learned-concurrency-detector": learnedConcurrencyFrom,
		"learned-batch-detector": func(p json.RawMessage) (func() Detector, error) {
			return func() Detector { return new(LearnedBatch) }, parameters(p, &struct{}{})
		},
	}
}

func utilizationFrom(p json.RawMessage) (func() Detector, error) {
	var c struct {
		QueueDepthThreshold  float64 `json:"queueDepthThreshold"`
		KVCacheUtilThreshold float64 `json:"kvCacheUtilThreshold"`
		ReadingsOnly         bool    `json:"readingsOnly"`
	}
	err := parameters(p, &c)
	if err == nil {
		err = errors.Join(
			atLeast0("queueDepthThreshold", c.QueueDepthThreshold),
			atLeast0("kvCacheUtilThreshold", c.KVCacheUtilThreshold))
	}
	u := Utilization{Queue: c.QueueDepthThreshold, KVUsage: c.KVCacheUtilThreshold, ReadingsOnly: c.ReadingsOnly}
	return func() Detector { return u }, err
}

func concurrencyFrom(p json.RawMessage) (func() Detector, error) {
	var c struct {
		MaxConcurrency      int `json:"maxConcurrency"`
		MaxTokenConcurrency int `json:"maxTokenConcurrency"`
	}
	err := parameters(p, &c)
	if err == nil {
		err = errors.Join(
			atLeast0("maxConcurrency", c.MaxConcurrency),
			atLeast0("maxTokenConcurrency", c.MaxTokenConcurrency))
	}
	d := Concurrency{Requests: c.MaxConcurrency, Tokens: c.MaxTokenConcurrency}
	return func() Detector { return d }, err
}

func backlogFrom(p json.RawMessage) (func() Detector, error) {
	var c struct {
		Tokens int `json:"tokens"`
	}
	err := parameters(p, &c)
	if err == nil {
		err = atLeast0("tokens", c.Tokens)
	}
	return func() Detector { return Backlog{Tokens: c.Tokens} }, err
}

func learnedBacklogFrom(p json.RawMessage) (func() Detector, error) {
	var c struct {
		Time  string `json:"time"`
		Least int    `json:"least"`
		Most  int    `json:"most"`
	}
	if err := parameters(p, &c); err != nil {
		return nil, err
	}
	d, err := readDuration(c.Time)
	if err != nil {
		err = fmt.Errorf("time: %w", err)
	}
	return func() Detector { return &LearnedBacklog{Time: d, Least: c.Least, Most: c.Most} },
		errors.Join(err, atLeast0("least", c.Least), atLeast0("most", c.Most))
}

func learnedConcurrencyFrom(p json.RawMessage) (func() Detector, error) {
	var c struct {
		First int `json:"first"`
		Least int `json:"least"`
		Most  int `json:"most"`
	}
	err := parameters(p, &c)
	if err == nil {
		err = errors.Join(atLeast0("first", c.First), atLeast0("least", c.Least), atLeast0("most", c.Most))
	}
	return func() Detector { return &LearnedConcurrency{First: c.First, Least: c.Least, Most: c.Most} }, err
}

func predictedTTFTFrom(p json.RawMessage) (func() Detector, error) {
	var c struct {
		Target string  `json:"target"`
		Rate   float64 `json:"rate"`
	}
	if err := parameters(p, &c); err != nil {
		return nil, err
	}
	target, err := readDuration(c.Target)
	if err != nil {
		err = fmt.Errorf("target: %w", err)
	}
	return func() Detector { return &PredictedTTFT{Target: target, Rate: c.Rate} }, errors.Join(err, atLeast0("rate", c.Rate))
}

// parameters decodes the parameters of a detector strictly.
func parameters(p json.RawMessage, v any) error {
	if len(p) == 0 {
		return nil
	}
	return decodeStrict(p, v)
}

func atLeast0[T int | int64 | float64](name string, v T) error {
	if !(v >= 0) {
		return fmt.Errorf("%s: %v, want at least 0, which is the default", name, v)
	}
	return nil
}

// readDuration reads a duration; an empty one is 0.
func readDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q, want a duration above 0 such as \"30s\"", s)
	}
	return d, nil
}
