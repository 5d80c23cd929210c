package overload

import (
	"encoding/csv"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// vtcTrace is the requests of the artifact of the VTC paper: clients of the LMSYS Chatbot
// Arena with their times and lengths.
type vtcTrace []simulation.Job

// loadVTC reads a file with the columns req_time_s, client, prompt_tokens, output_tokens,
// and makes it so many times as fast.
func loadVTC(file string, speed float64) (vtcTrace, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var t vtcTrace
	for i, row := range rows {
		if i == 0 {
			continue
		}
		if len(row) != 4 {
			return nil, fmt.Errorf("%s: line %d has %d columns, want req_time_s, client, prompt_tokens, output_tokens", file, i+1, len(row))
		}
		at, err1 := strconv.ParseFloat(row[0], 64)
		prompt, err2 := strconv.Atoi(row[2])
		output, err3 := strconv.Atoi(row[3])
		if err1 != nil || err2 != nil || err3 != nil || at < 0 || prompt < 0 || output < 0 {
			return nil, fmt.Errorf("%s: line %d is %q, want req_time_s, client, prompt_tokens, output_tokens", file, i+1, row)
		}
		t = append(t, simulation.Job{
			Arrival: time.Duration(at / speed * float64(time.Second)),
			Content: []simulation.Segment{{ID: uint64(i) * 0x9e3779b97f4a7c15, Tokens: max(prompt, 1)}},
			Output:  max(output, 1), Tenant: row[1],
		})
	}
	if len(t) == 0 {
		return nil, fmt.Errorf("%s has no requests", file)
	}
	return t, nil
}

// length is the time of the last request.
func (t vtcTrace) length() time.Duration { return t[len(t)-1].Arrival }

// Validate implements simulation.Spec.
func (t vtcTrace) Validate() error { return nil }

// Start implements simulation.Spec.
func (t vtcTrace) Start(uint64) simulation.Source { return &vtcSource{t} }

type vtcSource struct{ left vtcTrace }

func (s *vtcSource) Next() (simulation.Job, bool) {
	if len(s.left) == 0 {
		return simulation.Job{}, false
	}
	j := s.left[0]
	s.left = s.left[1:]
	return j, true
}

func (s *vtcSource) Done(*simulation.Job, time.Duration, bool) (simulation.Job, bool) {
	return simulation.Job{}, false
}

var _ simulation.Spec = vtcTrace(nil)
