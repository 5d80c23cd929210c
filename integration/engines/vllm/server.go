package vllm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/integration/engines/process"
)

// Server is one vLLM server.
type Server struct {
	Address string // host:port
	Log     string // file with what it prints; empty: it was running already

	start   func() error // nil: it was running already
	process *process.Process
}

// URL returns the URL of a path at the server.
func (s *Server) URL(path string) string { return "http://" + s.Address + path }

func (s *Server) get(ctx context.Context, path string) (*http.Response, error) {
	return s.send(ctx, http.MethodGet, path)
}

func (s *Server) send(ctx context.Context, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.URL(path), nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(req)
}

// text returns the body of a successful answer.
func (s *Server) text(ctx context.Context, method, path string) (string, error) {
	resp, err := s.send(ctx, method, path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("vllm: %s %s: status %d: %.200s", method, s.URL(path), resp.StatusCode, body)
	}
	return string(body), err
}

// Metric returns the sum of the samples of a metric that have all of the labels, each
// written as on the page: name="value". A metric without samples is 0.
func (s *Server) Metric(ctx context.Context, name string, labels ...string) (float64, error) {
	page, err := s.text(ctx, http.MethodGet, "/metrics")
	if err != nil {
		return 0, err
	}
	sum := 0.
next:
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || (rest[0] != '{' && rest[0] != ' ') {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue next
			}
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(strings.TrimSpace(rest), ' ')+1:]), 64)
		if err != nil {
			return 0, fmt.Errorf("vllm: metrics of %s: %w", s.Address, err)
		}
		sum += v
	}
	return sum, nil
}

// Awake reports whether the engine says of itself that it is.
func (s *Server) Awake(ctx context.Context) (bool, error) {
	v, err := s.Metric(ctx, "vllm:engine_sleep_state", `sleep_state="awake"`)
	return v == 1, err
}

// Sleep puts the engine to sleep, at level 1.
func (s *Server) Sleep(ctx context.Context) error {
	_, err := s.text(ctx, http.MethodPost, "/sleep?level=1")
	return err
}

// Wake wakes it.
func (s *Server) Wake(ctx context.Context) error {
	_, err := s.text(ctx, http.MethodPost, "/wake_up")
	return err
}

// Clear empties the prefix cache. The engine says so with the events of the next request.
func (s *Server) Clear(ctx context.Context) error {
	_, err := s.text(ctx, http.MethodPost, "/reset_prefix_cache")
	return err
}

// Sources returns the addresses at which the server publishes what it does to its KV cache,
// and replays it.
func (s *Server) Sources(ctx context.Context) (live, replay string, err error) {
	text, err := s.text(ctx, http.MethodGet, "/kv_event_sources")
	if err != nil {
		return "", "", err
	}
	var byRank map[string]struct {
		Live   string `json:"endpoint"`
		Replay string `json:"replay_endpoint"`
	}
	if err := json.Unmarshal([]byte(text), &byRank); err != nil {
		return "", "", fmt.Errorf("vllm: sources of %s: %w", s.Address, err)
	}
	if byRank["0"].Replay == "" {
		return "", "", fmt.Errorf("vllm: %s does not replay events: %s", s.Address, text)
	}
	return byRank["0"].Live, byRank["0"].Replay, nil
}

// Models returns the names that the server lists: the base model and its adapters.
func (s *Server) Models(ctx context.Context) ([]string, error) {
	text, err := s.text(ctx, http.MethodGet, "/v1/models")
	if err != nil {
		return nil, err
	}
	var list struct{ Data []struct{ ID string } }
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("vllm: models of %s: %w", s.Address, err)
	}
	var names []string
	for _, m := range list.Data {
		names = append(names, m.ID)
	}
	return names, nil
}

// Tail returns the last lines of what the server printed.
func (s *Server) Tail(lines int) string {
	if s.Log == "" {
		return s.Address + " was running already: its log is not known"
	}
	text, err := os.ReadFile(s.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.SplitAfter(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}
