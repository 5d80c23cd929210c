package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/inferpick/inferpick/types"
)

// Network is what four gateways, from 0, hear each other by.
type Network interface {
	// Join returns what a gateway's Transport is made of.
	Join(gateway int) (config string)
	// Cut cuts a gateway off until Heal.
	Cut(gateway int)
	Heal(gateway int)
	// Down takes the network away from all until Up.
	Down()
	Up()
}

const (
	gateways = 4
	servers  = 4
	clients  = 12
	prompts  = 40 // that are different
	patience = 30 * time.Second
	// goneIn is when nothing of a peer that was killed may count any more.
	goneIn = sharing.DefaultTTL + time.Second
	// slack is for machines that do other things, too.
	slack = 5 * time.Second
)

// Run has four gateways serve while all of that happens. No request to a gateway that lives may fail; what is
// believed of peers must be right, and nothing at the end; goroutines and memory must not grow. It takes some 20 s.
func Run(t *testing.T, n Network) {
	f := newFleet(t, n)
	f.eventually("all know each other", f.all(func(s state) bool { return s.Alive == gateways-1 }))
	stop := f.load()
	f.eventually("all hear of requests at the others", f.all(func(s state) bool { return s.Peers.Requests > 0 }))
	f.served(500)
	before := f.states()

	f.kill(3)
	took := f.eventually("nothing counts of a gateway that was killed", f.others(3, func(s state) bool { return s.Alive == gateways-2 && s.has("gateway-3") == 0 }))
	require.LessOrEqual(t, took, goneIn+slack)
	f.start(3)
	f.eventually("it is back", f.all(func(s state) bool { return s.Alive == gateways-1 }))

	n.Cut(0)
	f.eventually("a gateway that is cut off is missed", f.others(0, func(s state) bool { return s.Alive == gateways-2 }))
	f.eventually("and misses the others, of which nothing counts", f.only(0, func(s state) bool { return s.Alive == 0 && s.Peers == types.Booking{} }))
	f.served(100)
	n.Heal(0)
	f.eventually("it is back", f.all(func(s state) bool { return s.Alive == gateways-1 && s.Peers.Requests > 0 }))

	n.Down()
	f.eventually("nobody hears anybody", f.all(func(s state) bool { return s.Alive == 0 && s.Peers == types.Booking{} }))
	f.served(100)
	n.Up()
	f.eventually("all hear all", f.all(func(s state) bool { return s.Alive == gateways-1 && s.Peers.Requests > 0 }))

	f.served(500)
	after := f.states()
	stop()
	release := f.hold()
	f.eventually("what each has and believes of the others is what all have", f.sums)
	release()
	f.eventually("nothing is booked, and nothing believed to be", f.all(func(s state) bool {
		return s.Open == 0 && s.Held == types.Booking{} && s.Peers == types.Booking{} && s.Alive == gateways-1
	}))
	for i, s := range after {
		t.Logf("gateway %d: %d goroutines before, %d after; heap %.1f MB, %.1f MB; told %d KB in %d messages, heard %d KB, ignored %+v", i,
			before[i].Goroutines, s.Goroutines, mb(before[i].Heap), mb(s.Heap), s.Stats.Told.Bytes>>10, s.Stats.Told.Messages, s.Stats.Heard.Bytes>>10, s.Stats.Ignored)
		require.LessOrEqual(t, s.Goroutines, before[i].Goroutines+4*clients, "goroutines of gateway %d", i)
		require.LessOrEqual(t, mb(s.Heap), mb(before[i].Heap)+16, "heap of gateway %d", i)
		require.Zero(t, s.Stats.Panics)
		ignored := s.Stats.Ignored
		ignored.Old = 0       // what was on the way while it was cut
		ignored.Elsewhere = 0 // of admission control, before the first request has come
		require.Zero(t, ignored, "gateway %d", i)
	}
	t.Logf("%d requests, none failed", f.done.Load())
}

func mb(n uint64) float64 { return float64(n) / (1 << 20) }

// fleet is the processes of a test, and its clients.
type fleet struct {
	t       *testing.T
	network Network
	servers []string
	http    *http.Client
	done    atomic.Int64 // requests that were served

	mu sync.RWMutex
	at [gateways]*process // nil: it does not run; guarded by mu
}

func newFleet(t *testing.T, n Network) *fleet {
	f := &fleet{t: t, network: n, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}, Timeout: patience}}
	t.Cleanup(f.http.CloseIdleConnections)
	for i := range servers {
		s, err := modelserver.Start(t.Context(), modelserver.Options{Name: fmt.Sprint("server-", i), TimeScale: 10, MaxSeqs: 64})
		require.NoError(t, err)
		t.Cleanup(s.Close)
		f.servers = append(f.servers, s.Address())
	}
	for i := range gateways {
		f.start(i)
	}
	return f
}

// process is a gateway that runs.
type process struct {
	cmd   *exec.Cmd
	input io.WriteCloser // it ends with that
	url   string
	log   *strings.Builder // read when it has ended
}

// start starts a gateway.
func (f *fleet) start(i int) {
	f.t.Helper()
	text, err := json.Marshal(settings{Name: fmt.Sprint("gateway-", i), Servers: f.servers, Network: f.network.Join(i)})
	require.NoError(f.t, err)
	program, err := os.Executable()
	require.NoError(f.t, err)
	p := &process{cmd: exec.Command(program), log: new(strings.Builder)}
	p.cmd.Env = append(os.Environ(), variable+"="+string(text))
	p.cmd.Stderr = p.log
	p.input, err = p.cmd.StdinPipe()
	require.NoError(f.t, err)
	output, err := p.cmd.StdoutPipe()
	require.NoError(f.t, err)
	require.NoError(f.t, p.cmd.Start())
	f.t.Cleanup(func() { p.end(f.t, i) })
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		p.end(f.t, i)
		f.t.Fatalf("gateway %d does not start: %v\n%s", i, err, p.log)
	}
	p.url = "http://" + strings.TrimSpace(line)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at[i] = p
}

// end ends the process, unless it has ended, and shows what it said.
func (p *process) end(t *testing.T, i int) {
	if p.cmd.ProcessState != nil {
		return
	}
	p.input.Close()
	late := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	if err := p.cmd.Wait(); err != nil || p.log.Len() > 0 {
		t.Errorf("gateway %d: %v\n%s", i, err, p.log)
	}
}

// kill kills a gateway, of which clients are told before: what they have sent there is lost.
func (f *fleet) kill(i int) {
	f.mu.Lock()
	p := f.at[i]
	f.at[i] = nil
	f.mu.Unlock()
	require.NoError(f.t, p.cmd.Process.Kill())
	p.cmd.Wait() // an error: it was killed
	f.http.CloseIdleConnections()
}

// running returns the gateway that a request goes to, which runs.
func (f *fleet) running(turn int) (i int, p *process) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for ; ; turn++ {
		if p := f.at[turn%gateways]; p != nil {
			return turn % gateways, p
		}
	}
}

// runs reports whether a gateway is the one that it was.
func (f *fleet) runs(i int, p *process) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.at[i] == p
}

// load sends requests to the gateways in turn, until stop, which waits for the answers.
func (f *fleet) load() (stop func()) {
	ctx, end := context.WithCancel(context.Background())
	var open sync.WaitGroup
	for c := range clients {
		open.Go(func() {
			for turn := c; ctx.Err() == nil; turn++ {
				i, p := f.running(turn)
				err := f.ask(context.Background(), p, turn%prompts, 16)
				switch {
				case err == nil:
					f.done.Add(1)
				case f.runs(i, p): // it lives
					f.t.Errorf("a request to gateway %d is lost: %v", i, err)
					return
				}
			}
		})
	}
	return func() { end(); open.Wait() }
}

// hold has each gateway serve requests that do not end before release.
func (f *fleet) hold() (release func()) {
	ctx, end := context.WithCancel(context.Background())
	var open sync.WaitGroup
	for i := range gateways {
		for n := range i + 1 {
			open.Go(func() { f.ask(ctx, f.at[i], n, 20_000) })
		}
	}
	return func() { end(); open.Wait() }
}

// sums is whether all gateways know of the same requests, while there are some.
func (f *fleet) sums() error {
	var all [gateways]state
	var sum types.Booking
	for i := range all {
		s, err := f.look(i, "")
		if err != nil {
			return err
		}
		all[i], sum = s, sum.Plus(s.Held)
	}
	for i, s := range all {
		if known := s.Held.Plus(s.Peers); known != sum {
			return fmt.Errorf("gateway %d knows of %+v, and all have %+v", i, known, sum)
		}
	}
	if want := int64(gateways * (gateways + 1) / 2); sum.Requests != want {
		return fmt.Errorf("%d requests are held, want %d", sum.Requests, want)
	}
	return nil
}

// ask sends a request for an answer of so many tokens, which has to be whole.
func (f *fleet) ask(ctx context.Context, p *process, prompt, tokens int) error {
	text := strings.Repeat(fmt.Sprintf("The documents of tenant %d are as follows. ", prompt), 40)
	body := fmt.Sprintf(`{"model":"simulated-llm","max_tokens":%d,"messages":[{"role":"user","content":%q}]}`, tokens, text)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Sim-Output-Tokens", fmt.Sprint(tokens))
	resp, err := f.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK || !strings.Contains(string(answer), fmt.Sprintf(`"completion_tokens":%d,`, tokens)):
		return fmt.Errorf("%s: %.500s", resp.Status, answer)
	}
	return nil
}

// served waits until so many more requests were served.
func (f *fleet) served(n int64) {
	f.t.Helper()
	until := f.done.Load() + n
	f.eventually(fmt.Sprintf("%d requests are served", n), func() error {
		if left := until - f.done.Load(); left > 0 {
			return fmt.Errorf("%d are not", left)
		}
		return nil
	})
}

// eventually waits for something, and returns how long that took.
func (f *fleet) eventually(what string, wrong func() error) time.Duration {
	f.t.Helper()
	began := time.Now()
	for {
		err := wrong()
		if err == nil {
			took := time.Since(began)
			f.t.Logf("%s after %v", what, took.Round(time.Millisecond))
			return took
		}
		if time.Since(began) > patience {
			f.t.Fatalf("waited %v in vain: %s: %v", patience, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// look returns the state of a gateway.
func (f *fleet) look(i int, query string) (s state, err error) {
	f.mu.RLock()
	p := f.at[i]
	f.mu.RUnlock()
	resp, err := f.http.Get(p.url + "/state?" + query)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

func (f *fleet) states() (all [gateways]state) {
	f.t.Helper()
	for i := range all {
		var err error
		all[i], err = f.look(i, "heap")
		require.NoError(f.t, err)
	}
	return all
}

// all is whether something is so with all gateways, others with all but one, and only with one.
func (f *fleet) all(ok func(state) bool) func() error { return f.others(-1, ok) }

func (f *fleet) others(but int, ok func(state) bool) func() error {
	return func() (err error) {
		for i := range gateways {
			if i != but {
				err = errors.Join(err, f.only(i, ok)())
			}
		}
		return err
	}
}

func (f *fleet) only(i int, ok func(state) bool) func() error {
	return func() error {
		s, err := f.look(i, "")
		if err == nil && !ok(s) {
			err = fmt.Errorf("gateway %d: %+v", i, s)
		}
		return err
	}
}
