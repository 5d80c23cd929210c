package scaling

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// Records are runs that were played, in a file: a line for each. They hold for one version of the simulator and of the
// laws: throw the file away when one of them changes. A nil *Records keeps nothing.
type Records struct {
	mu   sync.Mutex
	file *os.File
	runs map[string]record
}

type record struct {
	Key      string
	Figures  Figures
	Timeline []simulation.ScalingSample `json:",omitempty"`
}

// OpenRecords opens a file of records, or makes one.
func OpenRecords(file string) (*Records, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("scaling: %w", err)
	}
	r := &Records{file: f, runs: map[string]record{}}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var one record
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			f.Close()
			return nil, fmt.Errorf("scaling: %s: %w", file, err)
		}
		r.runs[one.Key] = one
	}
	if err := lines.Err(); err != nil {
		f.Close()
		return nil, fmt.Errorf("scaling: %s: %w", file, err)
	}
	return r, nil
}

// Close closes the file.
func (r *Records) Close() error { return r.file.Close() }

func (r *Records) get(key string) (Figures, []simulation.ScalingSample, bool) {
	if r == nil {
		return Figures{}, nil, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	one, ok := r.runs[key]
	return one.Figures, one.Timeline, ok
}

func (r *Records) put(key string, f Figures, timeline []simulation.ScalingSample) error {
	if r == nil {
		return nil
	}
	one := record{key, f, timeline}
	data, err := json.Marshal(one)
	if err != nil {
		return fmt.Errorf("scaling: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs[key] = one
	if _, err := r.file.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("scaling: %w", err)
	}
	return nil
}

// key says all that a run depends on.
func (s *Suite) key(c *Case, startUp time.Duration, l setting, seed uint64) string {
	return fmt.Sprintf("%s|%v|%d|%v|%v|%v|%v|%+v|%+v|%d|%s|%v|%g|%d", c.Workload, startUp, c.Start, c.ToZero, time.Duration(c.StepAt),
		time.Duration(s.Duration), time.Duration(s.Warmup), s.Replica, s.SLO, s.Max, l.law.Name, l.tuned, l.target, seed)
}
