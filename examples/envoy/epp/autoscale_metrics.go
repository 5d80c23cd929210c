package epp

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/inferpick/inferpick/scheduling/autoscale"
)

// scalingCalls counts what outside autoscalers ask.
type scalingCalls struct {
	mu       sync.Mutex
	ofKEDA   map[kedaCall]float64     // guarded by mu
	ofMetric map[externalCall]float64 // guarded by mu
}

type kedaCall struct {
	method string
	code   codes.Code
}

type externalCall struct {
	metric string
	status int
}

func (c *scalingCalls) keda(method string, code codes.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ofKEDA == nil {
		c.ofKEDA = map[kedaCall]float64{}
	}
	c.ofKEDA[kedaCall{method, code}]++
}

func (c *scalingCalls) external(metric string, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ofMetric == nil {
		c.ofMetric = map[externalCall]float64{}
	}
	c.ofMetric[externalCall{metric, status}]++
}

// scalingMetrics tell who asks, and who does not answer. What is recommended package telemetry tells.
type scalingMetrics struct{ *scaling }

var (
	missingDesc = prometheus.NewDesc("inferpick_autoscale_missing_gateways",
		"Pickers that have not said what they know of the pools.", nil, nil)
	kedaDesc = prometheus.NewDesc("inferpick_keda_calls_total",
		"Calls of KEDA that have ended.", []string{"method", "code"}, nil)
	streamsDesc = prometheus.NewDesc("inferpick_keda_streams",
		"Streams that KEDA holds open.", nil, nil)
	externalDesc = prometheus.NewDesc("inferpick_external_metrics_requests_total",
		"Requests for external metrics, by metric and HTTP status.", []string{"metric", "status"}, nil)
)

// Describe implements prometheus.Collector.
func (m scalingMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{missingDesc, kedaDesc, streamsDesc, externalDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m scalingMetrics) Collect(ch chan<- prometheus.Metric) {
	tell := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	m.scaler.Recommended(func(_ autoscale.Recommendation, s autoscale.Signals, _ []autoscale.Signals) bool {
		tell(missingDesc, prometheus.GaugeValue, float64(s.Missing))
		return false // it is the same of all pools
	})
	m.calls.mu.Lock()
	defer m.calls.mu.Unlock()
	for call, n := range m.calls.ofKEDA {
		tell(kedaDesc, prometheus.CounterValue, n, call.method, call.code.String())
	}
	if m.keda != nil {
		tell(streamsDesc, prometheus.GaugeValue, float64(m.keda.Streams()))
	}
	for call, n := range m.calls.ofMetric {
		tell(externalDesc, prometheus.CounterValue, n, call.metric, strconv.Itoa(call.status))
	}
}

var _ prometheus.Collector = scalingMetrics{}
