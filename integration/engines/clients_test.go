package engines_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/integration/engines/vllm"
)

// serveAll asks good questions until every server has answered one: none is put out.
func serveAll(t *testing.T, g *gateway, all []*vllm.Server) {
	t.Helper()
	if out := g.filtered(t); len(out) > 0 {
		t.Errorf("servers are put out: %v", out)
	}
	served := make(map[string]int)
	for round := 0; round < 5 && len(served) < len(all); round++ {
		var questions []question
		for i := range 8 * len(all) {
			questions = append(questions, question{prompt: fmt.Sprintf("good %d of %d, %s", i, round, t.Name()), stream: i%2 == 0})
		}
		answers := askAll(g.URL, questions, len(questions))
		allGood(t, answers)
		for server, n := range count(answers) {
			served[server] += n
		}
	}
	if len(served) < len(all) {
		t.Errorf("good requests after that: %v, want all of %d servers", served, len(all))
	}
}

// What clients ask wrongly they are told by the engine itself, and it is no server's fault.
func TestErrors(t *testing.T) {
	all := servers(t)
	quiet(t, all)
	g := before(t, all)
	for _, wrong := range []struct {
		name   string
		q      question
		status int
	}{
		{"unknown model", question{model: "nope"}, http.StatusNotFound},
		{"too long", question{prompt: strings.Repeat("a ", 8300)}, http.StatusBadRequest},
	} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/stream=%t", wrong.name, stream), func(t *testing.T) {
				q := wrong.q
				q.stream = stream
				own := make(map[string]string) // what each engine says itself
				for _, s := range all {
					a := ask(context.Background(), s.URL(""), q)
					if a.status != wrong.status {
						t.Fatalf("%s itself says %d %.200s, %v", s.Address, a.status, a.body, a.err)
					}
					own[s.Address] = string(a.body)
				}
				var questions []question
				for range 12 {
					questions = append(questions, q)
				}
				for _, a := range askAll(g.URL, questions, 3) {
					if a.status != wrong.status || string(a.body) != own[a.server] {
						t.Errorf("got %d %.300s from %q (%v), want what the engine says: %d %.300s", a.status, a.body, a.server, a.err, wrong.status, own[a.server])
					}
				}
				if out := g.filtered(t); len(out) > 0 {
					t.Errorf("servers are put out: %v", out)
				}
			})
		}
	}
	serveAll(t, g, all)
}

// Clients that leave, at once or in the middle, leave nothing behind, and it is no server's
// fault.
func TestClientsLeave(t *testing.T) {
	all := servers(t)
	quiet(t, all)
	g := before(t, all)
	var clients sync.WaitGroup
	for i := range 60 {
		clients.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i*i)*100*time.Microsecond) // up to 350 ms
			defer cancel()
			ask(ctx, g.URL, question{prompt: fmt.Sprintf("leaving %d", i), tokens: 200, stream: i%2 == 0})
		})
	}
	clients.Wait()
	within(t, 10*time.Second, "the ledger to be empty", func() bool {
		for _, ep := range g.endpoints() {
			if ep.Load.Requests() != 0 || ep.Load.PrefillTokens() != 0 || ep.Load.ContextTokens() != 0 {
				return false
			}
		}
		return true
	})
	quiet(t, all)
	serveAll(t, g, all)
}

// Requests that are no prompts get the engine's answer, and it is no server's fault.
func TestOtherRequests(t *testing.T) {
	all := servers(t)
	quiet(t, all)
	g := before(t, all)
	for _, r := range []struct{ method, path string }{
		{http.MethodGet, "/health"}, {http.MethodHead, "/health"}, {http.MethodOptions, "/health"},
		{http.MethodOptions, "/v1/chat/completions"}, {http.MethodGet, "/version"}, {http.MethodPost, "/ping"},
	} {
		t.Run(r.method+" "+r.path, func(t *testing.T) {
			status, body, err := plain(r.method, all[0].URL(r.path))
			if err != nil {
				t.Fatal(err)
			}
			for range 4 * len(all) {
				gotStatus, gotBody, err := plain(r.method, g.URL+r.path)
				if err != nil || gotStatus != status || gotBody != body {
					t.Fatalf("got %d %.200q, %v, want what the engine says: %d %.200q", gotStatus, gotBody, err, status, body)
				}
			}
			if out := g.filtered(t); len(out) > 0 {
				t.Errorf("servers are put out: %v", out)
			}
		})
	}
	serveAll(t, g, all)
}

func plain(method, url string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}
