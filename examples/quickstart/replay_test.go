package main

import (
	"github.com/stretchr/testify/require"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReplay(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("a long beginning that both turns have in common. ", 40)
	write(t, filepath.Join(dir, "a.jsonl"), `{"timestamp": 1000000, "input": "`+long+`", "output": "twelve bytes", "session_id": "A"}
{"timestamp": 1050000, "input": "`+long+`and more", "output": "four", "session_id": "A"}
`)
	write(t, filepath.Join(dir, "b.jsonl"), `{"timestamp": 7, "input": "something else", "output": "", "session_id": "B"}`+"\n\n")
	write(t, filepath.Join(dir, "README.md"), "not a session")

	cfg := testConfig(t, "-replay", dir, "-rate", "100")
	if len(cfg.sessions) != 2 || cfg.sessions[0].turns[0].output != 3 || cfg.sessions[1].turns[0].output != 1 {
		t.Fatalf("sessions = %+v", cfg.sessions)
	}
	if got := cfg.sessions[0].turns[1].at - cfg.sessions[0].turns[0].at; got != 50*time.Millisecond {
		t.Errorf("pause = %v, want 50ms", got)
	}
	var out output
	s, err := run(t.Context(), cfg, &out)
	require.NoError(t, err)
	if s.Replay == nil || s.Replay.Done != 6 || s.Replay.Turns != 6 {
		t.Errorf("progress = %+v, want 6 of 6", s.Replay)
	}
	for _, p := range s.Policies {
		if p.Requests != 3 || p.Failed != 0 {
			t.Errorf("%s: %d requests, %d failed, want 3 and 0\n%s", p.Policy, p.Requests, p.Failed, out.String())
		}
	}
	if hits := s.Policies[0].HitShare; hits == nil || *hits < 0.3 {
		t.Errorf("prefix hit share = %v, want the second turn to find the first", percent(hits))
	}
	if !strings.Contains(out.String(), "round-robin") || !strings.Contains(out.String(), "TTFT mean") {
		t.Errorf("output = %s", out.String())
	}
}

func TestReadSessionsErrors(t *testing.T) {
	tests := []struct{ name, text, say string }{
		{"not json", "{\n", ":1:"},
		{"second line", `{"input": "x"}` + "\n" + `{"input": 5}`, ":2:"},
		{"no input", `{"output": "x"}`, "input is missing"},
		{"empty", "\n", "no turns"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "[s].jsonl"), tt.text)
			if s, err := readSessions(dir); err == nil || !strings.Contains(err.Error(), tt.say) {
				t.Errorf("readSessions = %+v, %v, want %q", s, err, tt.say)
			}
		})
	}
}
