package main

import (
	"context"
	"io"

	"github.com/inferpick/inferpick/examples/simulator/scaling"
)

// runScaling plays laws that choose the number of replicas.
func runScaling(ctx context.Context, cfg config, stdout, stderr io.Writer) int {
	s, err := scaling.Load(cfg.scaling)
	if err != nil {
		return fail(stderr, err)
	}
	o := scaling.Options{Seeds: cfg.seeds, Laws: cfg.laws, Cases: cfg.cases, Quick: cfg.quick}
	if cfg.records != "" {
		if o.Records, err = scaling.OpenRecords(cfg.records); err != nil {
			return fail(stderr, err)
		}
		defer o.Records.Close()
	}
	p, tell := watchPart(stderr)
	o.Progress = tell
	result, err := scaling.Run(ctx, s, o)
	p.end()
	if err != nil {
		return fail(stderr, err)
	}
	text := stdout
	if cfg.html == "-" {
		text = stderr // stdout is for the page alone
	}
	if err := result.Write(text); err != nil {
		return fail(stderr, err)
	}
	if err := toFile(cfg.html, stdout, func(w io.Writer) error { return writeScalingPage(w, result, cfg.command) }); err != nil {
		return fail(stderr, err)
	}
	return exitOK
}
