package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
)

// run does what cfg says and returns the exit code. If ctx is done before the end,
// what has ended by then is written.
func run(ctx context.Context, cfg config, stdout, stderr io.Writer) int {
	switch {
	case cfg.anchors:
		return runAnchors(ctx, cfg, stdout, stderr)
	case cfg.overload:
		return runOverload(ctx, cfg, stdout, stderr)
	case cfg.scaling != "":
		return runScaling(ctx, cfg, stdout, stderr)
	case cfg.suite != "":
		return runSuite(ctx, cfg, stdout, stderr)
	}
	text := stdout
	if cfg.json == "-" || cfg.csv == "-" || cfg.html == "-" {
		text = stderr // stdout is for that alone
	}
	measuring := watchTitle(stderr, "measuring capacity")
	levels, capacity, err := cfg.levels(ctx)
	measuring.end()
	if err != nil {
		return fail(stderr, err)
	}
	runs, err := cfg.plan(levels)
	if err != nil {
		return fail(stderr, err)
	}
	playing := watch(stderr, runs)
	results := play(ctx, cfg.core, runs, playing)
	playing.end()

	s := newSummary(cfg, capacity, levels, results)
	if len(s.runs) > 0 {
		if err := writeAll(cfg, s, stdout, text); err != nil {
			return fail(stderr, err)
		}
	}
	return failures(results, stderr)
}

// fail says what went wrong and returns the exit code.
func fail(stderr io.Writer, err error) int {
	if errors.Is(err, context.Canceled) {
		err = errors.New("stopped")
	}
	fmt.Fprintf(stderr, "simulator: %v\n", err)
	return exitError
}

// writeAll writes the table, and the files that were asked for.
func writeAll(cfg config, s summary, stdout, text io.Writer) error {
	if err := writeTable(text, s, cfg); err != nil {
		return err
	}
	if err := toFile(cfg.json, stdout, func(w io.Writer) error { return writeJSON(w, s) }); err != nil {
		return err
	}
	if err := toFile(cfg.csv, stdout, func(w io.Writer) error { return writeCSV(w, s, cfg.cpu) }); err != nil {
		return err
	}
	if err := toFile(cfg.html, stdout, func(w io.Writer) error { return writePage(w, s, cfg) }); err != nil {
		return err
	}
	if cfg.html != "" && cfg.html != "-" {
		path, err := filepath.Abs(cfg.html)
		if err != nil {
			path = cfg.html
		}
		fmt.Fprintf(text, "\nPlots, and why a request went where it went: %s\n", path)
	}
	return nil
}

// failures says which runs have no report, and returns the exit code. Runs that
// failed with the same message are named together.
func failures(results []finished, stderr io.Writer) int {
	stopped := 0
	var order []string
	byMessage := map[string][]finished{}
	for _, r := range results {
		switch {
		case r.err == nil:
			continue
		case errors.Is(r.err, context.Canceled):
			stopped++
			continue
		}
		message := r.err.Error()
		if byMessage[message] == nil {
			order = append(order, message)
		}
		byMessage[message] = append(byMessage[message], r)
	}
	for _, message := range order {
		first := byMessage[message][0]
		more := ""
		if n := len(byMessage[message]) - 1; n > 0 {
			more = fmt.Sprintf(" (and %d more runs)", n)
		}
		fmt.Fprintf(stderr, "simulator: policy %s, seed %d, %s%s: %s\n", first.policy.Name, first.seed, first.level, more, message)
	}
	if stopped > 0 {
		fmt.Fprintf(stderr, "simulator: stopped; %d of %d runs had not ended\n", stopped, len(results))
	}
	if stopped > 0 || len(order) > 0 {
		return exitError
	}
	return exitOK
}
