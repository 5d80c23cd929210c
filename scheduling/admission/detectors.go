package admission

import (
	"bytes"
	"encoding/json"
	"reflect"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/strictjson"
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
		"utilization-detector":         declared(func(u *Utilization) Detector { return *u }),
		"concurrency-detector":         declared(func(c *Concurrency) Detector { return *c }),
		"backlog-detector":             declared(func(b *Backlog) Detector { return *b }),
		"learned-backlog-detector":     declared(func(b *LearnedBacklog) Detector { return b }),
		"predicted-ttft-detector":      declared(func(p *PredictedTTFT) Detector { return p }),
		"learned-concurrency-detector": declared(func(l *LearnedConcurrency) Detector { return l }),
		"learned-batch-detector":       declared(func(b *LearnedBatch) Detector { return b }),
	}
}

// declared is the factory of a detector whose parameters are its own fields, numbers of at
// least 0.
func declared[T any](detector func(*T) Detector) DetectorFactory {
	return func(p json.RawMessage) (func() Detector, error) {
		p = bytes.Clone(p)
		read := func() (*T, error) {
			v, wrong := new(T), check.Checks{}
			if len(p) > 0 {
				wrong.Add("", strictjson.Decode(p, v, strictjson.Options{}))
			}
			atLeast0(&wrong, reflect.ValueOf(v).Elem())
			return v, wrong.Err()
		}
		_, err := read()
		return func() Detector { v, _ := read(); return detector(v) }, err
	}
}

func atLeast0(wrong *check.Checks, v reflect.Value) {
	for f, n := range v.Fields() {
		if f.IsExported() {
			ok := !(n.CanInt() && n.Int() < 0 || n.CanFloat() && !(n.Float() >= 0))
			wrong.Want(ok, f.Tag.Get("json"), n.Interface(), "at least 0, which is the default")
		}
	}
}
