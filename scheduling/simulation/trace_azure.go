package simulation

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"time"
)

// Azure plays a trace in the form of the Azure LLM inference traces: CSV with the
// columns TIMESTAMP, ContextTokens and GeneratedTokens, found by their names in
// the first line.
//
// Such traces know lengths and times and nothing of content: no two prompts have
// anything in common. Other columns are ignored; lines need not be in order.
//
// The file is read once and shared by all runs. An Azure must not be copied after
// its first use; its methods are safe for concurrent use.
type Azure struct {
	// File is the path of the trace. Required.
	File string `json:"file"`
	// Speed is how much faster than in the trace requests arrive. Default 1.
	Speed float64 `json:"speed,omitempty"`
	// From and To bound the part of the trace that is played, in seconds of its own
	// time since its first request. Default: all of it.
	From float64 `json:"from_s,omitempty"`
	To   float64 `json:"to_s,omitempty"`
	// Minutes is EvenMinutes or OddMinutes to play every other minute of the trace,
	// one after the other. Default: all.
	Minutes string `json:"minutes,omitempty"`
	// Loop begins again after the end.
	Loop bool `json:"loop,omitempty"`
	// MaxLines is how long a file may be. Default 10,000,000.
	MaxLines int `json:"max_lines,omitempty"`

	file file
}

func (a *Azure) replay() replay {
	return replay{speed: withDefault(a.Speed, 1), from: a.From, to: a.To, minutes: a.Minutes, loop: a.Loop}
}

// Validate reports the first field that is out of its limits, reads the file, and
// reports what is wrong with it, with file, line and field.
func (a *Azure) Validate() error {
	_, err := a.open()
	return err
}

func (a *Azure) open() (*records, error) {
	c := checker{kind: "azure"}
	r := a.replay()
	r.check(&c)
	return openTrace(&c, &a.file, a.File, a.MaxLines, parseAzure, &r)
}

// Start makes the stream of one run.
func (a *Azure) Start(seed uint64) Source {
	t, err := a.open()
	if err != nil {
		return broken{err}
	}
	ids := newIDs(seed, "azure")
	n := uint64(len(t.at))
	return newReplaying(a.replay(), t, seed, func(lap uint64, i int) Job {
		return Job{
			Content: []Segment{{ids.id(lap*n + uint64(i)), int(t.in[i])}},
			Output:  int(t.out[i]),
		}
	})
}

// MeanRate returns jobs per second in the part that is played, 0 if the file
// cannot be read.
func (a *Azure) MeanRate() float64 { return a.replay().meanRate(a.open()) }

// AtRate returns the same part of the trace at the speed that makes its mean rate
// so many jobs per second.
func (a *Azure) AtRate(rate float64) (Spec, error) {
	t, err := a.open()
	if err != nil {
		return nil, err
	}
	speed, err := a.replay().speedFor("azure", rate, t)
	if err != nil {
		return nil, err
	}
	next := &Azure{
		File: a.File, Speed: speed, From: a.From, To: a.To, Minutes: a.Minutes,
		Loop: a.Loop, MaxLines: a.MaxLines,
	}
	a.file.share(&next.file)
	return next, nil
}

func parseAzure(r io.Reader, name string, maxLines int) (*records, error) {
	rows := csv.NewReader(r)
	rows.ReuseRecord = true
	rows.FieldsPerRecord = 0 // as many as in the first line
	header, err := rows.Read()
	if err == io.EOF {
		return new(records).finish(name)
	} else if err != nil {
		return nil, csvError(name, err)
	}
	columns := [3]string{"TIMESTAMP", "ContextTokens", "GeneratedTokens"}
	var place [3]int
	for i, want := range columns {
		if place[i] = indexFold(header, want); place[i] < 0 {
			return nil, lineError(name, 1, "column %s is missing", want)
		}
	}
	t := &records{}
	var zero time.Time
	err = eachRow(rows, name, 2, maxLines, func(_ int, row []string) error {
		when, err := parseStamp(row[place[0]])
		if err != nil {
			return fmt.Errorf("TIMESTAMP is %.40q, want a time such as 2023-11-16 18:15:46.68", row[place[0]])
		}
		if zero.IsZero() {
			zero = when
		}
		at := when.Sub(zero)
		if s := at.Seconds(); s > maxTraceSeconds || s < -maxTraceSeconds {
			return fmt.Errorf("TIMESTAMP is %.40q, more than %v s from that of the first line", row[place[0]], maxTraceSeconds)
		}
		in, err := parseTokens(columns[1], row[place[1]], 1)
		if err != nil {
			return err
		}
		out, err := parseTokens(columns[2], row[place[2]], 0)
		t.add(at, in, max(1, out))
		return err
	})
	if err != nil {
		return nil, err
	}
	return t.finish(name)
}

// parseStamp reads a time with or without a zone and with any number of digits
// after the second.
func parseStamp(s string) (time.Time, error) {
	t, err := time.Parse("2006-01-02 15:04:05", s)
	if err != nil {
		t, err = time.Parse("2006-01-02 15:04:05Z07:00", s)
	}
	return t, err
}

// indexFold returns the place of a column, whatever the case of its name and a
// byte order mark before it. -1: it has none.
func indexFold(header []string, name string) int {
	for i, h := range header {
		if strings.EqualFold(strings.TrimSpace(strings.TrimPrefix(h, "\ufeff")), name) {
			return i
		}
	}
	return -1
}

var _ RatedSpec = (*Azure)(nil)
