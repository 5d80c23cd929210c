package kvevents

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sort"
	"strconv"
	"strings"
)

// discover asks the engine where it publishes. Of an engine that is not known all ways are tried,
// of one that has none there are none.
func (t *target) discover() ([]Source, error) {
	engine := strings.ToLower(t.plan.engine)
	for _, way := range []struct {
		engine, path string
		read         func([]byte) ([]Source, error)
	}{{"vllm", "/kv_event_sources", readVLLM}, {"sglang", "/server_info", readSGLang}} {
		if known := strings.Contains(engine, "vllm") || strings.Contains(engine, "sglang"); known && !strings.Contains(engine, way.engine) {
			continue
		}
		body, status, err := t.request(http.MethodGet, t.plan.server+way.path)
		if err != nil {
			return nil, err
		}
		switch status {
		case http.StatusOK:
		case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
			continue
		default:
			return nil, statusError(way.path, status)
		}
		sources, err := way.read(body)
		if err != nil {
			return nil, fmt.Errorf("kvevents: %s: %w", way.path, err)
		}
		if len(sources) > 0 {
			return sources, nil
		}
	}
	return nil, nil
}

func statusError(path string, status int) error {
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		return fmt.Errorf("kvevents: %s: status %d: give Options.Transport one that authenticates, or set Options.Sources", path, status)
	}
	return fmt.Errorf("kvevents: %s: status %d", path, status)
}

// request makes a request, and returns the body of an answer with status 200.
func (t *target) request(method, url string) (body []byte, status int, err error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.opt.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("kvevents: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := t.opt.Transport.RoundTrip(req)
	if err != nil {
		return nil, 0, fmt.Errorf("kvevents: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, resp.StatusCode, nil
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, int64(t.opt.MaxBody)+1))
	if err == nil && len(body) > t.opt.MaxBody {
		err = fmt.Errorf("the answer to %s has more than %d bytes", url, t.opt.MaxBody)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("kvevents: %w", err)
	}
	return body, resp.StatusCode, nil
}

// vllmSource is one of those that vLLM answers with, from /kv_event_sources: an object by rank,
// or a list.
type vllmSource struct {
	Rank      *int   `json:"data_parallel_rank"`
	Enabled   *bool  `json:"enable_kv_cache_events"`
	Publisher string `json:"publisher"`
	Endpoint  string `json:"endpoint"`
	Replay    string `json:"replay_endpoint"`
	Topic     string `json:"topic"`
}

func readVLLM(body []byte) ([]Source, error) {
	var list []vllmSource
	if err := json.Unmarshal(body, &list); err != nil {
		var byRank map[string]vllmSource
		if err := json.Unmarshal(body, &byRank); err != nil {
			return nil, fmt.Errorf("want an object of sources by rank, or a list of them: %w", err)
		}
		for key, s := range byRank {
			rank, err := strconv.Atoi(key)
			if err != nil {
				return nil, fmt.Errorf("%.40q is no rank", key)
			}
			s.Rank = &rank
			list = append(list, s)
		}
	}
	var sources []Source
	for i, s := range list {
		rank := i
		if s.Rank != nil {
			rank = *s.Rank
		}
		off := s.Enabled != nil && !*s.Enabled || s.Publisher != "" && s.Publisher != "zmq"
		if !off && s.Endpoint != "" && rank >= 0 {
			sources = append(sources, Source{Endpoint: s.Endpoint, Replay: s.Replay, Topic: s.Topic, Rank: rank})
		}
	}
	sort.Slice(sources, func(i, j int) bool { return sources[i].Rank < sources[j].Rank })
	return sources, nil
}

// readSGLang reads /server_info, of which kv_events is a part if the engine publishes events.
func readSGLang(body []byte) ([]Source, error) {
	var info struct {
		Events *struct {
			Publisher string `json:"publisher"`
			Port      int    `json:"endpoint_port_base"`
			Replay    int    `json:"replay_endpoint_port_base"`
			Topic     string `json:"topic"`
			Ranks     int    `json:"dp_size"`
			Load      int    `json:"load_endpoint_port_base"`
			LoadTopic string `json:"load_topic"`
		} `json:"kv_events"`
	}
	if err := json.Unmarshal(body, &info); err != nil {
		return nil, err
	}
	e := info.Events
	if e == nil || e.Publisher != "" && e.Publisher != "zmq" {
		return nil, nil
	}
	return []Source{{
		Endpoint: atPort(e.Port), Replay: atPort(e.Replay), Topic: e.Topic,
		Load: atPort(e.Load), LoadTopic: e.LoadTopic, Ranks: e.Ranks,
	}}, nil
}

// atPort returns an address at the endpoint's own host, empty if there is no port.
func atPort(port int) string {
	if port == 0 {
		return ""
	}
	return fmt.Sprintf("tcp://*:%d", port)
}
