package telemetry

import (
	"cmp"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// page collects what is exported. What has the same labels is added up: two names
// may have become one where they were cut.
type page struct {
	families map[string]*exported // by name
	series   map[string]*series   // by name and labels
}

// exported is a family with its series, in no order.
type exported struct {
	*family
	series []*series
}

// series is what has one set of labels: a value, or a histogram.
type series struct {
	values []string // of the family's labels
	value  float64
	hist   *snapshot
}

func newPage() *page {
	return &page{families: map[string]*exported{}, series: map[string]*series{}}
}

// count adds v to a counter, unless it is 0: a series begins with the first event.
func (p *page) count(f *family, prefix string, v uint64, values ...string) {
	if v > 0 {
		p.add(f, prefix, float64(v), values...)
	}
}

// add adds v to a counter or gauge whose labels have these values.
func (p *page) add(f *family, prefix string, v float64, values ...string) {
	name := prefix + f.name
	id := name + "\xff" + strings.Join(values, "\xff") // which is in no label
	s := p.series[id]
	if s == nil {
		s = p.new(f, name, values)
		p.series[id] = s
	}
	s.value += v
}

// histogram adds h unless it is empty.
func (p *page) histogram(f *family, prefix string, h *histogram, values ...string) {
	s := h.snapshot()
	if s == nil {
		return
	}
	name := prefix + f.name
	id := name + "\xff" + strings.Join(values, "\xff")
	if same := p.series[id]; same != nil {
		for i := range s.counts {
			same.hist.counts[i] += s.counts[i]
		}
		same.hist.sum += s.sum
		return
	}
	one := p.new(f, name, values)
	one.hist = s
	p.series[id] = one
}

func (p *page) new(f *family, name string, values []string) *series {
	e := p.families[name]
	if e == nil {
		e = &exported{family: f}
		p.families[name] = e
	}
	s := &series{values: values}
	e.series = append(e.series, s)
	return s
}

// flushAt is how much of a page is gathered before it is written.
const flushAt = 32 << 10

// write writes the page in the text format, families in the order of their names and
// series in that of their labels' values.
func (p *page) write(w io.Writer) error {
	b := make([]byte, 0, flushAt+8<<10)
	var labels []byte
	for _, name := range slices.Sorted(maps.Keys(p.families)) {
		e := p.families[name]
		b = append(b, "# HELP "+name+" "+escapeHelp.Replace(e.help)+"\n# TYPE "+name+" "+string(e.kind)+"\n"...)
		slices.SortFunc(e.series, func(x, y *series) int { return slices.CompareFunc(x.values, y.values, cmp.Compare) })
		sum, count, bucket := name+"_sum", name+"_count", name+"_bucket"
		for _, s := range e.series {
			if len(b) >= flushAt {
				if _, err := w.Write(b); err != nil {
					return err
				}
				b = b[:0]
			}
			labels = labels[:0]
			for i, label := range e.labels {
				labels = appendLabel(labels, label, s.values[i])
			}
			if s.hist == nil {
				b = appendSample(b, name, labels, s.value)
				continue
			}
			total, own := uint64(0), len(labels)
			for i, n := range s.hist.counts {
				total += n
				bound := "+Inf"
				if i < len(s.hist.bounds) {
					bound = s.hist.bounds[i]
				}
				labels = appendLabel(labels[:own], "le", bound)
				b = appendSample(b, bucket, labels, float64(total))
			}
			b = appendSample(b, sum, labels[:own], s.hist.sum)
			b = appendSample(b, count, labels[:own], float64(total))
		}
	}
	_, err := w.Write(b)
	return err
}

// appendLabel adds a label to those before it.
func appendLabel(labels []byte, name, value string) []byte {
	if len(labels) > 0 {
		labels = append(labels, ',')
	}
	labels = append(labels, name...)
	labels = append(labels, `="`...)
	if strings.ContainsAny(value, "\\\n\"") {
		value = escapeLabel.Replace(value)
	}
	labels = append(labels, value...)
	return append(labels, '"')
}

// appendSample adds a line.
func appendSample(b []byte, name string, labels []byte, v float64) []byte {
	b = append(b, name...)
	if len(labels) > 0 {
		b = append(b, '{')
		b = append(b, labels...)
		b = append(b, '}')
	}
	b = append(b, ' ')
	b = strconv.AppendFloat(b, v, 'g', -1, 64) // infinity is +Inf, as the format has it
	return append(b, '\n')
}

var (
	escapeHelp  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	escapeLabel = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)
