package externalmetrics

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/autoscale/metric"
)

// Labels of a selector.
const (
	labelPool  = "pool"
	labelModel = "model"
)

// valueList is an ExternalMetricValueList of k8s.io/metrics.
type valueList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []value `json:"items"`
}

// value is an ExternalMetricValue.
type value struct {
	MetricName   string            `json:"metricName"`
	MetricLabels map[string]string `json:"metricLabels"`
	Timestamp    metav1.Time       `json:"timestamp"`
	Value        resource.Quantity `json:"value"`
}

func (s *Server) values(r *http.Request) (any, *metav1.Status) {
	name := r.PathValue("metric")
	short, ours := strings.CutPrefix(name, Prefix)
	if !ours {
		return nil, failure(http.StatusNotFound, metav1.StatusReasonNotFound, "there is no metric %.80q: want %s and one of %s",
			name, Prefix, strings.Join(metric.Names(false), ", "))
	}
	q := metric.Query{Metric: short}
	q.Pool.Namespace = r.PathValue("namespace")
	if err := selects(r.URL.Query().Get("labelSelector"), &q); err != nil {
		return nil, failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, "%v", err)
	}
	v, err := s.o.Asker.Value(r.Context(), q)
	if err != nil {
		return nil, statusOf(err)
	}
	of := map[string]string{labelPool: q.Pool.Name}
	if q.Model != "" {
		of[labelModel] = q.Model
	}
	return valueList{
		TypeMeta: metav1.TypeMeta{Kind: listKind, APIVersion: groupVersion},
		Items:    []value{{MetricName: name, MetricLabels: of, Timestamp: metav1.NewTime(s.o.Now()), Value: quantity(v)}},
	}, nil
}

// quantity rounds up to thousandths, so that little is not nothing.
func quantity(v float64) resource.Quantity {
	milli := math.Ceil(v * 1000)
	if milli >= math.MaxInt64 {
		return *resource.NewMilliQuantity(math.MaxInt64, resource.DecimalSI)
	}
	return *resource.NewMilliQuantity(int64(milli), resource.DecimalSI)
}

// selects reads a selector into a query.
func selects(text string, q *metric.Query) error {
	selector, err := labels.Parse(text)
	if err != nil {
		return fmt.Errorf("labelSelector %.200q: %w", text, err)
	}
	requirements, _ := selector.Requirements()
	for _, r := range requirements {
		to := map[string]*string{labelPool: &q.Pool.Name, labelModel: &q.Model}[r.Key()]
		one := r.ValuesUnsorted()
		op := r.Operator()
		switch {
		case to == nil:
			return fmt.Errorf("labelSelector has %.80q, want %s and perhaps %s", r.Key(), labelPool, labelModel)
		case op != selection.Equals && op != selection.DoubleEquals && op != selection.In || len(one) != 1 || one[0] == "":
			return fmt.Errorf("labelSelector has %.200q, want %s=NAME", r.String(), r.Key())
		case *to != "" && *to != one[0]:
			return fmt.Errorf("labelSelector has two %ss: %.80q and %.80q", r.Key(), *to, one[0])
		}
		*to = one[0]
	}
	if q.Pool.Name == "" {
		return fmt.Errorf("labelSelector %.200q has no %s, want %s=NAME: the sum of all pools is nobody's", text, labelPool, labelPool)
	}
	return nil
}

// statusOf is the answer in place of a value.
func statusOf(err error) *metav1.Status {
	switch {
	case errors.Is(err, metric.ErrUnknownMetric), errors.Is(err, metric.ErrUnknownModel), errors.Is(err, autoscale.ErrUnknownPool):
		return failure(http.StatusNotFound, metav1.StatusReasonNotFound, "%v", err)
	}
	return failure(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "%v", err)
}

func failure(code int32, reason metav1.StatusReason, format string, args ...any) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Message: fmt.Sprintf(format, args...), Reason: reason, Code: code,
	}
}
