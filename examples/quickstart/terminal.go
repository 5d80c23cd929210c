package main

import (
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
		if v.At.Sub(t.last) >= plainInterval {
			t.last = v.At
			fmt.Fprintln(t.out, plainLine(v))
		}
		return
	}
	var b strings.Builder
	if t.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", t.lines) // up, and clear what is below
	}
	table := t.table(v)
	b.WriteString(table)
	t.lines = strings.Count(table, "\n")
	io.WriteString(t.out, b.String())
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
	return b.String()
}

// table is a view as a table. No line is wider than 80 columns.
func (t *terminal) table(v view) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s  %s\n", t.bold(fmt.Sprintf("%-12s", shorten(v.Fleets[0].Policy, 12))), t.dim("in flight  waiting  running     KV  routed  share  adapters"))
	eps := v.Fleets[0].Endpoints
	shown := eps[:min(len(eps), maxRows)]
	for _, e := range shown {
		fmt.Fprintf(&b, "%-12s  %9d  %7s  %7s  %5s  %6d  %5s  %s\n", e.ID, e.InFlight, number(e.Waiting), number(e.Running),
			percent(e.KVUsage), e.Routed, percent(&e.Share), shorten(strings.Join(e.Adapters, ","), 14))
	}
	if more := len(eps) - len(shown); more > 0 {
		fmt.Fprintf(&b, "… and %d more, all on the page\n", more)
	}
	fmt.Fprintf(&b, "\n%s  %s\n", t.bold(fmt.Sprintf("%-14s", "last 60 s")), t.dim("TTFT p50    p90  TPOT p50    p90  cached  requests  shed  failed"))
	for i, f := range v.Fleets {
		name := fmt.Sprintf("%-14s", shorten(f.Policy, 14))
		if i == 0 {
			name = t.green(name)
		}
		fmt.Fprintf(&b, "%s  %8s %6s  %8s %6s  %6s  %8d  %4d  %6d\n", name, duration(f.Now.TTFT50), duration(f.Now.TTFT90),
			duration(f.Now.TPOT50), duration(f.Now.TPOT90), percent(f.Now.HitShare), f.Total.Requests, f.Total.Shed, f.Total.Failed)
	}
	b.WriteString(t.bands(v.Fleets[0]))
	if v.Replay != nil {
		fmt.Fprintf(&b, "\nreplayed %d of %d turns of %d sessions\n", v.Replay.Done, v.Replay.Turns, v.Replay.Sessions)
	}
	if v.Skipped > 0 {
		fmt.Fprintf(&b, "\n%d arrivals left out: more than %d requests are open\n", v.Skipped, maxOpen)
	}
	return b.String()
}

// bands is a table of the priorities of a fleet; empty if it has no admission control.
func (t *terminal) bands(f fleetView) string {
	if f.Admission == nil {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s  %s\n", t.bold(fmt.Sprintf("%-10s", "band")), t.dim("waiting  wait p50    p90  TTFT p90    served  refused  expired  room"))
	for _, a := range f.Admission.Bands {
		room := "–"
		if a.Room != nil {
			room = fmt.Sprintf("%d/%d", *a.Room, f.Admission.Endpoints)
		}
		var ttft *float64
		for _, c := range f.Bands {
			if c.Priority == a.Priority {
				ttft = c.Now.TTFT90
			}
		}
		fmt.Fprintf(&b, "%-10s  %7d  %8s %6s  %8s  %8d  %7d  %7d  %s\n", shorten(a.Name, 10), a.Queued,
			duration(a.Wait50), duration(a.Wait90), duration(ttft), a.Served, a.Refused, a.Expired, room)
	}
	return b.String()
}

func (t *terminal) bold(s string) string  { return t.style("1", s) }
func (t *terminal) dim(s string) string   { return t.style("2", s) }
func (t *terminal) green(s string) string { return t.style("32", s) }

func (t *terminal) style(code, s string) string {
	if !t.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// duration shows milliseconds; "–" if there are none.
func duration(ms *float64) string {
	switch {
	case ms == nil:
		return "–"
	case *ms >= 10_000:
		return fmt.Sprintf("%.1fs", *ms/1000)
	case *ms >= 1000:
		return fmt.Sprintf("%.2fs", *ms/1000)
	}
	return fmt.Sprintf("%.0fms", *ms)
}

func percent(v *float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%.0f%%", *v*100)
}

func number(v *float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%.0f", *v)
}

func shorten(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
