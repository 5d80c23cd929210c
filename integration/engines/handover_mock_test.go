package engines_test

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/integration/engines/peers"
	"github.com/inferpick/inferpick/integration/engines/vllm"
	"github.com/stretchr/testify/require"
)

// Four mock engines and the same requests, a fifth of them with long prompts, at the same moments: Dynamo's router with
// a prefill engine or two, or none, and our gateway before four that do both. Dynamo's engines speak a protocol of
// their own with its front, so that our gateway cannot hand over between them: this compares policies, and what
// handing over is worth on such engines, not how it is done.
func TestHandoverOfDynamo(t *testing.T) {
	in, err := peers.Find(os.Getenv)
	if errors.Is(err, peers.ErrNone) {
		t.Skip(err)
	}
	require.NoError(t, err)
	if testing.Short() {
		t.Skip("takes minutes")
	}
	const engines, blocks = 4, 8192
	speed := []string{"--speedup-ratio", "1"} // on a machine this small the engines must be what takes the time
	start := func(t *testing.T, m *peers.Mock, err error) string {
		require.NoError(t, err)
		t.Cleanup(func() { _ = m.Close() })
		require.True(t, answers(t, m.Address, 3*time.Minute))
		return "http://" + m.Address
	}
	disaggregated := func(prefill int, front ...string) func(*testing.T) string {
		return func(t *testing.T) string {
			m, err := in.Disaggregated(t.TempDir(), prefill, engines-prefill, blocks, vllm.BlockSize, front, speed...)
			return start(t, m, err)
		}
	}
	warm := arrivals(24, 8, 1)
	for _, c := range []struct {
		name  string
		start func(*testing.T) string
	}{
		{"Dynamo, 1 prefill and 3 decode", disaggregated(1)},
		{"Dynamo, 2 prefill and 2 decode", disaggregated(2)},
		{"Dynamo, 1 and 3, conditional", disaggregated(1, "--router-conditional-disagg")},
		{"Dynamo, 4 alike", func(t *testing.T) string {
			m, err := in.KVRouted(t.TempDir(), engines, blocks, vllm.BlockSize, speed...)
			return start(t, m, err)
		}},
		{"ours, 4 alike", func(t *testing.T) string {
			var all []string
			for range engines {
				m, err := in.Mock(t.TempDir(), blocks, vllm.BlockSize, speed...)
				start(t, m, err)
				all = append(all, m.Address)
			}
			return newGateway(t, all...).URL
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := c.start(t)
			for _, a := range warm.run(url) {
				require.NoError(t, a.err)
			}
			for _, perSecond := range []float64{4, 12} {
				w := arrivals(int(20*perSecond), perSecond, uint64(perSecond))
				var first, short, step []time.Duration
				for i, a := range w.run(url) {
					require.NoError(t, a.err)
					require.NotZero(t, a.first)
					first, step = append(first, a.first), append(step, (a.last-a.first)/time.Duration(w[i].q.tokens-1))
					if !w[i].long {
						short = append(short, a.first)
					}
				}
				t.Logf("%g a second: first token %s; of short prompts %s; a token after %s", perSecond, spread(first), spread(short), spread(step))
			}
		})
	}
}

// arrival is a request and when it is sent.
type arrival struct {
	at   time.Duration
	q    question
	long bool
}

type timed []arrival

// arrivals are n streams, so many a second at random.
func arrivals(n int, perSecond float64, seed uint64) (w timed) {
	r := rand.New(rand.NewPCG(seed, 3))
	at := 0.
	for i := range n {
		at += r.ExpFloat64() / perSecond
		words := 40 + r.IntN(200)
		long := i%5 == 0
		if long {
			words = 1500 + r.IntN(1500)
		}
		w = append(w, arrival{time.Duration(at * float64(time.Second)), question{
			prompt: fmt.Sprintf("%d.%d: ", seed, i) + prose(r, words), tokens: 40 + r.IntN(80), stream: true,
		}, long})
	}
	return w
}

func (w timed) run(url string) []paced {
	got := make([]paced, len(w))
	var all sync.WaitGroup
	began := time.Now()
	for i, a := range w {
		time.Sleep(time.Until(began.Add(a.at)))
		all.Go(func() { got[i] = pace(url, a.q) })
	}
	all.Wait()
	return got
}

// paced is when the first token came, and the last. Mock engines make tokens at random, most of which are no text: the
// first is seen by the chunk that names the assistant, which Dynamo's front sends with it.
type paced struct {
	first, last time.Duration
	err         error
}

func pace(url string, q question) (p paced) {
	began := time.Now()
	resp, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(q.body()))
	if err != nil {
		return paced{err: err}
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if p.first == 0 && strings.Contains(lines.Text(), `"role":"assistant"`) {
			p.first = time.Since(began)
		}
		if strings.Contains(lines.Text(), `"finish_reason":"length"`) {
			p.last = time.Since(began)
		}
	}
	if p.err = lines.Err(); p.err == nil && (resp.StatusCode != http.StatusOK || p.last == 0) {
		p.err = fmt.Errorf("status %d, cut off", resp.StatusCode)
	}
	return p
}

// spread is the median, the 90th and the 99th percentile.
func spread(all []time.Duration) string {
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[int(q*float64(len(all)-1))].Round(100 * time.Microsecond) }
	return fmt.Sprintf("p50 %s, p90 %s, p99 %s", at(.5), at(.9), at(.99))
}
