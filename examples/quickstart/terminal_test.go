package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
)

func TestTerminal(t *testing.T) {
	v := view{Point: point{At: time.Unix(100, 0)}, Uptime: 3, Replay: &progress{5, 10, 2}, Skipped: 1}
	ms := 12345.
	for _, policy := range []string{"a policy with a very long name", "round-robin"} {
		f := fleetView{Policy: policy, Now: figures{TTFT50: &ms, TTFT90: &ms, TPOT50: &ms}, Total: figures{Requests: 7_000_000, Failed: 123456}}
		for range maxRows + 3 {
			f.Endpoints = append(f.Endpoints, endpointView{ID: "server-64", Adapters: []string{"contract-reader", "ticket-triage"}, Routed: 123456, Share: 1})
		}
		v.Fleets = append(v.Fleets, f)
	}
	room := 3
	many := bandView{band: band{"a band of a long name", 100}, Queued: 10_000, Room: &room, bandCounts: bandCounts{Served: 1_234_567, Refused: 123_456, Expired: 123_456}}
	many.Wait50, many.Wait90 = &ms, &ms
	v.Fleets[0].Admission = &admissionView{Endpoints: 64, Queued: 10_000}
	v.Fleets[0].Bands = []bandView{many, {band: band{"sheddable", -100}}}

	v.Rollout = &rolloutView{Status: rollout.Status{Plan: rollout.Plan{Canary: "chat-v2"}, Phase: rollout.Failed, Reason: strings.Repeat("5 of 64 requests failed ", 5)}}

	var out bytes.Buffer
	live := &terminal{out: &out, live: true}
	live.show(v)
	first := out.String()
	for line := range strings.Lines(first) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("line of %d columns: %q", n, line)
		}
	}
	for _, want := range []string{"a policy wi…", "a policy with…", "… and 3 more", "12.3s", "replayed 5 of 10", "1 arrivals left out", "a band of…    10000", "3/64", "\nsheddable ", "–", "rollout of chat-v2: Failed, 0 %: 5 of 64"} {
		require.Contains(t, first, want)
	}
	require.False(t, strings.Contains(first, "\x1b"), "table has colours that nobody asked for")
	out.Reset()
	live.show(v)
	if !strings.HasPrefix(out.String(), "\x1b[") || !strings.HasSuffix(out.String(), first) {
		t.Errorf("second table = %q, want the first one replaced", out.String())
	}

	out.Reset()
	plain := newTerminal(&out)
	for range 7 {
		plain.show(v)
		v.Point.At = v.Point.At.Add(time.Second)
	}
	require.Contains(t, out.String(), "10000 waiting")
	require.Contains(t, out.String(), "rollout of chat-v2: Failed")
	if got := strings.Count(out.String(), "\n"); got != 2 || strings.Contains(out.String(), "\x1b") {
		t.Errorf("7 seconds became %d lines, want 2: %q", got, out.String())
	}
}
