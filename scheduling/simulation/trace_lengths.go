package simulation

import (
	"encoding/csv"
	"io"

	"github.com/inferpick/inferpick/types"
)

// LengthsCSV is prompts and replies of measured lengths that arrive at a rate. Its
// file has two columns, the tokens of a prompt and those of its reply; a first line
// that is not numbers is a header. Every prompt is content of its own.
//
// The file is read once and shared by all runs. A LengthsCSV must not be copied
// after its first use; its methods are safe for concurrent use.
type LengthsCSV struct {
	// File is the path of the file. Required.
	File string `json:"file"`
	// Rate, CV and Vary are those of Arrivals: default 10 per second, 1, constant.
	Rate float64 `json:"rate,omitempty"`
	CV   float64 `json:"cv,omitempty"`
	Vary *Vary   `json:"vary,omitempty"`
	// Shuffle draws lines at random, each as often as any other. Default: they come
	// in their order, again and again.
	Shuffle bool `json:"shuffle,omitempty"`
	// MaxLines is how long a file may be. Default 10,000,000.
	MaxLines int `json:"max_lines,omitempty"`

	file file
}

func (l *LengthsCSV) arrivals() Arrivals { return Arrivals{l.Rate, l.CV, l.Vary} }

// Validate reports the first field that is out of its limits, reads the file, and
// reports what is wrong with it, with file, line and field.
func (l *LengthsCSV) Validate() error {
	_, err := l.open()
	return err
}

func (l *LengthsCSV) open() (*records, error) {
	c := checker{kind: "lengths"}
	c.arrivals(l.arrivals())
	c.intRange("max_lines", l.MaxLines, 0, 1<<31-1)
	if l.File == "" {
		c.failf("file is missing, want the path of a CSV file")
	}
	if c.err != nil {
		return nil, c.err
	}
	t, err := l.file.load(l.File, l.MaxLines, parseLengths)
	if err != nil {
		c.failf("%w", err)
	}
	return t, c.err
}

// Start makes the stream of one run.
func (l *LengthsCSV) Start(seed uint64) Source {
	t, err := l.open()
	if err != nil {
		return broken{err}
	}
	var (
		ids     = newIDs(seed, "lengths")
		draw    = types.NewRand(derive(seed, streamInput))
		lines   = len(t.in)
		shuffle = l.Shuffle
	)
	return &openLoop{times: l.arrivals().Times(seed), make: func(n uint64) Job {
		i := int(n % uint64(lines))
		if shuffle {
			i = draw.IntN(lines)
		}
		return Job{Content: []Segment{{ids.id(n), int(t.in[i])}}, Output: int(t.out[i])}
	}}
}

// MeanRate returns jobs per second, before Vary.
func (l *LengthsCSV) MeanRate() float64 { return l.arrivals().withDefaults().Rate }

// AtRate returns the same workload with so many jobs per second.
func (l *LengthsCSV) AtRate(rate float64) (Spec, error) {
	next := &LengthsCSV{
		File: l.File, Rate: rate, CV: l.CV, Vary: l.Vary, Shuffle: l.Shuffle, MaxLines: l.MaxLines,
	}
	l.file.share(&next.file)
	return next, nil
}

func parseLengths(r io.Reader, name string, maxLines int) (*records, error) {
	rows := csv.NewReader(r)
	rows.ReuseRecord = true
	rows.FieldsPerRecord = 2
	rows.Comment = '#'
	t := &records{}
	err := eachRow(rows, name, 1, maxLines, func(n int, row []string) error {
		in, err := parseTokens("column 1 (tokens in)", row[0], 1)
		if err == nil {
			var out int
			if out, err = parseTokens("column 2 (tokens out)", row[1], 0); err == nil {
				t.in, t.out = append(t.in, int32(in)), append(t.out, int32(max(1, out)))
			}
		}
		if n == 1 && isHeader(row) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return t.finish(name)
}

// isHeader reports a line without a digit.
func isHeader(row []string) bool {
	for _, f := range row {
		for _, c := range f {
			if c >= '0' && c <= '9' {
				return false
			}
		}
	}
	return true
}

var _ RatedSpec = (*LengthsCSV)(nil)
