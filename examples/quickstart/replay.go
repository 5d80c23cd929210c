package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxLine      = 16 << 20 // bytes of one turn
	maxReplayed  = 1 << 30  // bytes of all files
	bytesPerWord = 4        // bytes of text that are one token to the simulated servers
)

// session is a recorded conversation with an agent.
type session struct {
	id    string
	turns []turn
}

// turn is one recorded request.
type turn struct {
	at     time.Duration // since any fixed moment
	input  string
	output int // tokens
}

// readSessions reads the .jsonl files of a directory, one session each, in the
// order of their names.
func readSessions(dir string) ([]session, error) {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("%s is a file, want a directory of .jsonl files", dir)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var sessions []session
	size := 0
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".jsonl") {
			continue
		}
		path := filepath.Join(dir, file.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if size += len(data); size > maxReplayed {
			return nil, fmt.Errorf("%s holds more than %d MiB of sessions", dir, maxReplayed>>20)
		}
		s, err := readSession(path, data)
		if err != nil {
			return nil, err
		}
		sessions = append(sessions, s)
	}
	if len(sessions) == 0 {
		return nil, fmt.Errorf("%s holds no .jsonl files", dir)
	}
	return sessions, nil
}

// readSession reads what is in a file.
func readSession(file string, data []byte) (session, error) {
	s := session{id: filepath.Base(file)}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var line struct {
			Timestamp float64 `json:"timestamp"`
			Input     string  `json:"input"`
			Output    string  `json:"output"`
			Session   string  `json:"session_id"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return s, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		if line.Input == "" {
			return s, fmt.Errorf("%s:%d: input is missing or empty", file, n)
		}
		s.id = cmp.Or(line.Session, s.id)
		s.turns = append(s.turns, turn{
			at:     time.Duration(line.Timestamp) * time.Microsecond,
			input:  line.Input,
			output: max(1, len(line.Output)/bytesPerWord),
		})
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return s, fmt.Errorf("%s: a line is longer than %d MiB", file, maxLine>>20)
	case err != nil:
		return s, fmt.Errorf("%s: %w", file, err)
	case len(s.turns) == 0:
		return s, fmt.Errorf("%s: no turns", file)
	}
	slices.SortStableFunc(s.turns, func(a, b turn) int { return cmp.Compare(a.at, b.at) })
	return s, nil
}

// replay sends recorded sessions once through. Sessions start as a Poisson
// process; within one, each turn follows the answer before it (closed loop). Each
// fleet's copy of a session advances by itself.
type replay struct {
	clients  []*client
	sessions []session
	rate     float64 // sessions started per second
	think    time.Duration
	rng      *rand.Rand

	turns int          // of all fleets
	done  atomic.Int64 // turns of all fleets
}

func newReplay(clients []*client, cfg config) *replay {
	p := &replay{clients: clients, sessions: cfg.sessions, rate: cfg.rate, think: cfg.think, rng: rand.New(rand.NewPCG(cfg.seed, 3))}
	for _, s := range p.sessions {
		p.turns += len(s.turns) * len(clients)
	}
	return p
}

func (p *replay) progress() (*progress, int64) {
	return &progress{p.done.Load(), p.turns, len(p.sessions)}, 0
}

func (p *replay) run(ctx, calls context.Context) {
	var open sync.WaitGroup
	defer open.Wait()
	for _, s := range p.sessions {
		for _, client := range p.clients {
			open.Go(func() { p.session(ctx, calls, client, s) })
		}
		if !sleep(ctx, time.Duration(p.rng.ExpFloat64()/p.rate*float64(time.Second))) {
			return
		}
	}
}

// session replays one session on one fleet. What fails is counted and does not end
// it: the recorded turns are there anyway.
func (p *replay) session(ctx, calls context.Context, client *client, s session) {
	for i, t := range s.turns {
		if i > 0 && !sleep(ctx, min(t.at-s.turns[i-1].at, p.think)) || ctx.Err() != nil {
			return
		}
		body := streamBody(baseModel, t.input, t.output)
		client.do(calls, call{path: "/v1/completions", body: body, session: s.id, output: t.output})
		p.done.Add(1)
	}
}
