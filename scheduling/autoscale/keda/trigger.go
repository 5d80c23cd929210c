package keda

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling/autoscale/keda/externalscaler"
	"github.com/inferpick/inferpick/scheduling/autoscale/metric"
	"github.com/inferpick/inferpick/types"
)

// Keys of a trigger's metadata that are ours.
const (
	keyPool       = "pool"
	keyNamespace  = "namespace"
	keyMetric     = "metric"
	keyTarget     = "target"
	keyModel      = "model"
	keyActivation = "activationTarget"
)

var (
	ourKeys = []string{keyPool, keyNamespace, keyMetric, keyTarget, keyModel, keyActivation}
	// kedaKeys are KEDA's own, which it sends with the others.
	kedaKeys = []string{"scalerAddress", "enableTLS", "unsafeSsl", "tlsCertFile", "caCert", "tlsClientCert", "tlsClientKey"}
)

// trigger is what the metadata of a trigger asks for.
type trigger struct {
	metric.Query
	target     float64
	activation float64 // NaN: none was said
}

// name of the metric, as KEDA is told and asks for it.
func (t *trigger) name() string { return "inferpick-" + t.Metric }

// asks reports whether the name, which the autoscaler of old versions of KEDA puts an index before, is the metric's.
func (t *trigger) asks(name string) bool {
	if rest, ok := strings.CutPrefix(name, "s"); ok {
		index, after, _ := strings.Cut(rest, "-")
		if _, err := strconv.ParseUint(index, 10, 16); err == nil {
			name = after
		}
	}
	return name == t.name()
}

// leastTarget and mostTarget are what the HorizontalPodAutoscaler can hold, which counts in thousandths.
const (
	leastTarget = 1e-3
	mostTarget  = 1e15
)

// readTrigger reads the metadata. The error says all that is wrong with it.
func readTrigger(ref *externalscaler.ScaledObjectRef) (*trigger, error) {
	c := check.Checks{Package: "keda"}
	data := metadata(&c, ref.GetScalerMetadata())
	t := &trigger{activation: math.NaN()}
	t.Pool.Name = data[keyPool]
	t.Pool.Namespace = cmp.Or(data[keyNamespace], ref.GetNamespace(), types.DefaultNamespace)
	c.Want(t.Pool.Name != "" && !strings.Contains(t.Pool.Name, "/"), keyPool, t.Pool.Name, "the name of an InferencePool; its namespace is another key")
	t.Model = data[keyModel]
	if t.Metric = data[keyMetric]; t.Metric == "" && t.Model == "" {
		t.Metric = metric.Desired
	}
	c.OneOf(keyMetric, t.Metric, metric.Names(t.Model != "")...)
	t.target = number(&c, data, keyTarget, func(v float64) bool { return v >= leastTarget && v <= mostTarget },
		"a number from 0.001, which is for one replica")
	t.activation = number(&c, data, keyActivation, func(v float64) bool { return v >= 0 }, "a number from 0")
	switch {
	case data[keyTarget] != "":
	case t.Metric == metric.Desired:
		t.target = 1
	default:
		c.Failf(keyTarget, "is required: how much of %s is for one replica", check.Show(t.Metric))
	}
	return t, c.Err()
}

// metadata returns what is ours. Of a key with the suffix FromEnv KEDA sends the value that it found, and the key as it is.
func metadata(c *check.Checks, data map[string]string) map[string]string {
	ours := make(map[string]string, len(ourKeys))
	for _, full := range slices.Sorted(maps.Keys(data)) { // a key comes before the same with the suffix
		key := strings.TrimSuffix(full, "FromEnv")
		_, twice := ours[key]
		switch {
		case slices.Contains(kedaKeys, key):
		case !slices.Contains(ourKeys, key):
			c.Unknown("metadata", full, ourKeys)
		case twice:
			c.Failf("metadata", "has %s and %s: want one of the two", key, full)
		default:
			ours[key] = data[full]
		}
	}
	return ours
}

// number returns that of a key, NaN if it is not there.
func number(c *check.Checks, data map[string]string, key string, good func(float64) bool, want string) float64 {
	text := data[key]
	if text == "" {
		return math.NaN()
	}
	v, err := strconv.ParseFloat(text, 64)
	c.Want(err == nil && good(v) && !math.IsInf(v, 0), key, text, "%s", want)
	return v
}
