package simulation

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/strictjson"
)

// Mooncake plays a trace in the form of the Mooncake project (FAST'25): JSON lines
// with timestamp, in milliseconds, input_length and output_length, in tokens, and
// hash_ids, one for each 512 tokens of the prompt, that are equal as far as two
// prompts are.
//
//	{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, …]}
//
// Prompts share what they shared when the trace was taken. Other fields of a line
// are ignored; lines need not be in order.
//
// The file is read once and shared by all runs. A Mooncake must not be copied
// after its first use; its methods are safe for concurrent use.
type Mooncake struct {
	// File is the path of the trace. Required.
	File string `json:"file"`
	// Speed is how much faster than in the trace requests arrive. Default 1.
	Speed float64 `json:"speed,omitempty"`
	// From and To bound the part of the trace that is played, in seconds of its own
	// time since its first request. Default: all of it.
	From float64 `json:"from_s,omitempty"`
	To   float64 `json:"to_s,omitempty"`
	// Minutes is EvenMinutes or OddMinutes to play every other minute of the trace,
	// one after the other, so that a policy can be tuned on one half and judged on
	// the other. Default: all.
	Minutes string `json:"minutes,omitempty"`
	// Loop begins again after the end, with content that is new.
	Loop bool `json:"loop,omitempty"`
	// Tick is the step, in seconds, that time stamps were rounded to when the trace
	// was taken. Requests of a tick are spread evenly over it, because together they
	// would be a burst that never was. Default 3, which is that of the published
	// traces; negative: time stamps are taken as they are.
	Tick float64 `json:"tick_s,omitempty"`
	// MaxLines is how long a file may be. Default 10,000,000.
	MaxLines int `json:"max_lines,omitempty"`

	file file
}

// mooncakeBlock is the number of tokens that an entry of hash_ids stands for.
const mooncakeBlock = 512

func (m *Mooncake) replay() replay {
	tick := withDefault(m.Tick, 3)
	return replay{
		speed: withDefault(m.Speed, 1), from: m.From, to: m.To, minutes: m.Minutes, loop: m.Loop,
		tick: toDuration(max(0, tick)),
	}
}

// Validate reports the first field that is out of its limits, reads the file, and
// reports what is wrong with it, with file, line and field.
func (m *Mooncake) Validate() error {
	_, err := m.open()
	return err
}

func (m *Mooncake) open() (*records, error) {
	c := checker{kind: "mooncake"}
	if m.Tick != m.Tick {
		c.failf("tick_s is %v, want a number", m.Tick)
	}
	r := m.replay()
	r.check(&c)
	return openTrace(&c, &m.file, m.File, m.MaxLines, parseMooncake, &r)
}

// openTrace checks what the traces have in common and loads the file.
func openTrace(c *checker, f *file, path string, maxLines int, parse func(io.Reader, string, int) (*records, error), r *replay) (*records, error) {
	c.intRange("max_lines", maxLines, 0, 1<<31-1)
	if path == "" {
		c.failf("file is missing, want the path of a trace")
	}
	if c.err != nil {
		return nil, c.err
	}
	t, err := f.load(path, maxLines, parse)
	if err != nil {
		c.failf("%w", err)
		return nil, c.err
	}
	r.checkWindow(c, t)
	return t, c.err
}

// Start makes the stream of one run.
func (m *Mooncake) Start(seed uint64) Source {
	t, err := m.open()
	if err != nil {
		return broken{err}
	}
	var (
		ids     = newIDs(seed, "mooncake")
		current uint64 // lap that ids is of
	)
	return newReplaying(m.replay(), t, seed, func(lap uint64, i int) Job {
		if lap != current {
			ids, current = newIDs(derive(seed, lap), "mooncake"), lap
		}
		return Job{Content: mooncakeContent(ids, t.blocksOf(i), int(t.in[i])), Output: int(t.out[i])}
	})
}

func mooncakeContent(ids idSpace, blocks []uint64, tokens int) []Segment {
	content := make([]Segment, len(blocks))
	for i, b := range blocks {
		content[i] = Segment{ids.id(b), min(mooncakeBlock, tokens-i*mooncakeBlock)}
	}
	return content
}

// MeanRate returns jobs per second in the part that is played, 0 if the file
// cannot be read.
func (m *Mooncake) MeanRate() float64 { return m.replay().meanRate(m.open()) }

// AtRate returns the same part of the trace at the speed that makes its mean rate
// so many jobs per second.
func (m *Mooncake) AtRate(rate float64) (Spec, error) {
	t, err := m.open()
	if err != nil {
		return nil, err
	}
	speed, err := m.replay().speedFor("mooncake", rate, t)
	if err != nil {
		return nil, err
	}
	next := &Mooncake{
		File: m.File, Speed: speed, From: m.From, To: m.To, Minutes: m.Minutes,
		Loop: m.Loop, Tick: m.Tick, MaxLines: m.MaxLines,
	}
	m.file.share(&next.file)
	return next, nil
}

// mooncakeLine is one request. Pointers tell what is missing from what is 0.
type mooncakeLine struct {
	Timestamp    *float64 `json:"timestamp"`
	InputLength  *int     `json:"input_length"`
	OutputLength *int     `json:"output_length"`
	HashIDs      []uint64 `json:"hash_ids"`
}

func parseMooncake(r io.Reader, name string, maxLines int) (*records, error) {
	t := &records{blocks: []uint64{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLineBytes)
	n := 0
	var l mooncakeLine
	for lines.Scan() {
		n++
		if n > maxLines {
			return nil, tooManyLines(name, maxLines)
		}
		data := bytes.TrimSpace(lines.Bytes())
		if len(data) == 0 {
			continue
		}
		l = mooncakeLine{HashIDs: l.HashIDs[:0]}
		if err := json.Unmarshal(data, &l); err != nil {
			return nil, cmp.Or(strictjson.Decode(data, new(mooncakeLine), strictjson.Options{ // slower, and says more
				File: name, Line: n, Unknown: func(*check.Error) {},
			}), lineError(name, n, "%w", err))
		}
		if err := l.check(); err != nil {
			return nil, lineError(name, n, "%w", err)
		}
		t.add(time.Duration(*l.Timestamp*float64(time.Millisecond)), *l.InputLength, max(1, *l.OutputLength))
		t.first = append(t.first, len(t.blocks))
		t.blocks = append(t.blocks, l.HashIDs...)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, lineError(name, n+1, "longer than %d bytes", maxLineBytes)
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t.finish(name)
}

func (l *mooncakeLine) check() error {
	switch {
	case l.Timestamp == nil:
		return errors.New("timestamp is missing")
	case l.InputLength == nil:
		return errors.New("input_length is missing")
	case l.OutputLength == nil:
		return errors.New("output_length is missing")
	case !(*l.Timestamp >= 0 && *l.Timestamp <= maxTraceSeconds*1000):
		return fmt.Errorf("timestamp is %v, want 0 to %v milliseconds", *l.Timestamp, maxTraceSeconds*1000)
	}
	if err := tokensIn("input_length", *l.InputLength, 1); err != nil {
		return err
	}
	if err := tokensIn("output_length", *l.OutputLength, 0); err != nil {
		return err
	}
	if want := (*l.InputLength + mooncakeBlock - 1) / mooncakeBlock; len(l.HashIDs) != want {
		return fmt.Errorf("hash_ids has %d entries, want %d for an input_length of %d (one for each %d tokens)",
			len(l.HashIDs), want, *l.InputLength, mooncakeBlock)
	}
	return nil
}

var _ RatedSpec = (*Mooncake)(nil)
