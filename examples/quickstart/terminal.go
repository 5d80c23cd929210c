package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// plainInterval is how often a line is written where no table can be redrawn.
const plainInterval = 5 * time.Second

// maxRows is how many servers the table shows: one that is higher than the screen
// cannot be redrawn in place.
const maxRows = 12

// terminal shows views as text: a table that is redrawn in place on a terminal, a
// line now and then elsewhere.
type terminal struct {
	out   io.Writer
	live  bool // out is a terminal
	color bool

	lines int       // of the table on the screen
	last  time.Time // of the last plain line
}

func newTerminal(out io.Writer) *terminal {
	live := false
	if file, ok := out.(*os.File); ok && os.Getenv("TERM") != "dumb" {
		info, err := file.Stat()
		live = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return &terminal{out: out, live: live, color: live && os.Getenv("NO_COLOR") == ""}
}

// show shows a view.
func (t *terminal) show(v view) {
	if !t.live {
		if v.Point.At.Sub(t.last) >= plainInterval {
			t.last = v.Point.At
			fmt.Fprintln(t.out, plainLine(v))
		}
		return
	}
	table := t.table(v)
	if t.lines > 0 {
		fmt.Fprintf(t.out, "\x1b[%dA\x1b[J%s", t.lines, table) // up, and clear what is below
	} else {
		io.WriteString(t.out, table)
	}
	t.lines = strings.Count(table, "\n")
}

// plainLine is a view in one line.
func plainLine(v view) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%5.0fs", v.Uptime)
	if v.Replay != nil {
		fmt.Fprintf(&b, "  replayed %d/%d turns", v.Replay.Done, v.Replay.Turns)
	}
	for _, f := range v.Fleets {
		fmt.Fprintf(&b, "  |  %s: %d requests, TTFT p50 %s p90 %s, TPOT p50 %s, prefix hits %s", f.Policy, f.Total.Requests,
			duration(f.Now.TTFT50), duration(f.Now.TTFT90), duration(f.Now.TPOT50), percent(f.Now.HitShare))
		if bad := f.Total.Failed + f.Total.Shed; bad > 0 {
			fmt.Fprintf(&b, ", %d shed, %d failed", f.Total.Shed, f.Total.Failed)
		}
		if a := f.Admission; a != nil && a.Queued > 0 {
			fmt.Fprintf(&b, ", %d waiting", a.Queued)
		}
	}
	if v.Rollout != nil {
		fmt.Fprintf(&b, "  |  %s", rolloutLine(v.Rollout))
	}
	return b.String()
}

// table is a view as a table. No line is wider than 80 columns.
func (t *terminal) table(v view) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s  %s\n", t.style(bold, fmt.Sprintf("%-12s", shorten(v.Fleets[0].Policy, 12))),
		t.style(dim, "in flight  waiting  running     KV  routed  share  adapters"))
	eps := v.Fleets[0].Endpoints
	shown := eps[:min(len(eps), maxRows)]
	for _, e := range shown {
		fmt.Fprintf(&b, "%-12s  %9d  %7s  %7s  %5s  %6d  %5s  %s\n", e.ID, e.InFlight, known("%.0f", e.Waiting, 1), known("%.0f", e.Running, 1),
			percent(e.KVUsage), e.Routed, percent(&e.Share), shorten(strings.Join(e.Adapters, ","), 14))
	}
	if more := len(eps) - len(shown); more > 0 {
		fmt.Fprintf(&b, "… and %d more, all on the page\n", more)
	}
	fmt.Fprintf(&b, "\n%s  %s\n", t.style(bold, "last 60 s     "), t.style(dim, "TTFT p50    p90  TPOT p50    p90  cached  requests  shed  failed"))
	for i, f := range v.Fleets {
		name := fmt.Sprintf("%-14s", shorten(f.Policy, 14))
		if i == 0 {
			name = t.style(green, name)
		}
		fmt.Fprintf(&b, "%s  %8s %6s  %8s %6s  %6s  %8d  %4d  %6d\n", name, duration(f.Now.TTFT50), duration(f.Now.TTFT90),
			duration(f.Now.TPOT50), duration(f.Now.TPOT90), percent(f.Now.HitShare), f.Total.Requests, f.Total.Shed, f.Total.Failed)
	}
	t.bands(&b, v.Fleets[0])
	if v.Rollout != nil {
		fmt.Fprintf(&b, "\n%s\n", shorten(rolloutLine(v.Rollout), 80))
	}
	if v.Replay != nil {
		fmt.Fprintf(&b, "\nreplayed %d of %d turns of %d sessions\n", v.Replay.Done, v.Replay.Turns, v.Replay.Sessions)
	}
	if v.Skipped > 0 {
		fmt.Fprintf(&b, "\n%d arrivals left out: more than %d requests are open\n", v.Skipped, maxOpen)
	}
	return b.String()
}

// bands writes a table of the priorities of a fleet, if it has admission control.
func (t *terminal) bands(b *strings.Builder, f fleetView) {
	if f.Admission == nil {
		return
	}
	fmt.Fprintf(b, "\n%s  %s\n", t.style(bold, "band      "), t.style(dim, "waiting  wait p50    p90  TTFT p90    served  refused  expired  room"))
	for _, a := range f.Bands {
		room := "–"
		if a.Room != nil {
			room = fmt.Sprintf("%d/%d", *a.Room, f.Admission.Endpoints)
		}
		fmt.Fprintf(b, "%-10s  %7d  %8s %6s  %8s  %8d  %7d  %7d  %s\n", shorten(a.Name, 10), a.Queued,
			duration(a.Wait50), duration(a.Wait90), duration(a.Now.TTFT90), a.Served, a.Refused, a.Expired, room)
	}
}

// rolloutLine is a rollout in one line.
func rolloutLine(r *rolloutView) string {
	line := fmt.Sprintf("rollout of %s: %s, %g %%", r.Plan.Canary, r.Phase, r.Weight)
	if why := cmp.Or(r.Paused, r.Holding, r.Reason); why != "" {
		line += ": " + why
	}
	return line
}

// Styles of text on a terminal.
const (
	bold  = "1"
	dim   = "2"
	green = "32"
)

func (t *terminal) style(code, s string) string {
	if !t.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// known formats a number of units; "–" if there is none.
func known(format string, v *float64, units float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf(format, *v*units)
}

func percent(share *float64) string { return known("%.0f%%", share, 100) }

// duration formats milliseconds.
func duration(ms *float64) string {
	if ms != nil && *ms >= 10_000 {
		return known("%.1fs", ms, 1e-3)
	}
	if ms != nil && *ms >= 1000 {
		return known("%.2fs", ms, 1e-3)
	}
	return known("%.0fms", ms, 1)
}

func shorten(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
