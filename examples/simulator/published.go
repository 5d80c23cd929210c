package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/inferpick/inferpick/examples/simulator/anchors"
	"github.com/inferpick/inferpick/examples/simulator/overload"
	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/examples/simulator/suite"
)

// runAnchors compares the simulator with published figures.
func runAnchors(ctx context.Context, cfg config, stdout, stderr io.Writer) int {
	p, tell := watchPart(stderr)
	var table bytes.Buffer
	failed, err := anchors.Run(ctx, &table, anchors.Options{Short: cfg.quick, Progress: tell})
	p.end()
	if err != nil {
		return fail(stderr, err)
	}
	if _, err := table.WriteTo(stdout); err != nil {
		return fail(stderr, err)
	}
	if failed > 0 {
		return exitError
	}
	return exitOK
}

// runOverload plays fleets that are asked for too much.
func runOverload(ctx context.Context, cfg config, stdout, stderr io.Writer) int {
	p, tell := watchPart(stderr)
	result, err := overload.Run(ctx, overload.Options{
		Seeds: cfg.seeds, More: cfg.admit, VTC: cfg.traces["vtc"], Quick: cfg.quick, Progress: tell,
	})
	p.end()
	if err != nil {
		return fail(stderr, err)
	}
	if err := result.Write(stdout); err != nil {
		return fail(stderr, err)
	}
	return exitOK
}

// runSuite plays a suite and prints the regret of each policy.
func runSuite(ctx context.Context, cfg config, stdout, stderr io.Writer) int {
	s, err := suite.Load(cfg.suite)
	if err != nil {
		return fail(stderr, err)
	}
	o := suite.Options{Quick: cfg.quick, Seeds: cfg.seeds, Traces: cfg.traces, Tuning: cfg.tuning, OwnCapacity: cfg.own}
	if cfg.records != "" {
		if o.Records, err = suite.OpenRecords(cfg.records, cfg.fresh); err != nil {
			return fail(stderr, err)
		}
		defer o.Records.Close()
	}
	by, err := policies.ByName(s.Capacity)
	if err != nil {
		return fail(stderr, fmt.Errorf("%s: capacity: %w", cfg.suite, err))
	}
	o.Capacity = by[0]
	chosen := cfg.policies
	if len(chosen) == 0 {
		list := cmp.Or(s.Policies, "all")
		if cfg.quick {
			list = cmp.Or(s.Quick.Policies, list)
		}
		if chosen, err = policies.ByName(list); err != nil {
			return fail(stderr, fmt.Errorf("%s: policies: %w", cfg.suite, err))
		}
	}
	p, tell := watchPart(stderr)
	o.Progress = tell
	result, err := suite.Run(ctx, s, chosen, o)
	p.end()
	if err != nil {
		return fail(stderr, err)
	}
	result.Write(stdout)
	if err := toFile(cfg.svg, stdout, result.WriteProfile); err != nil {
		return fail(stderr, err)
	}
	if len(result.Broken()) > 0 {
		return exitError
	}
	return exitOK
}
