package suite

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
)

// Size and scale of the figure of WriteProfile.
const (
	profileWidth, profileHeight = 720, 400
	profileLeft, profileRight   = 60, 190 // the names of the policies are on the right
	profileTop, profileBottom   = 20, 50
	profileMost                 = 3 // times the best
)

// profileColors are those of the policies, in turn.
func profileColors() []string {
	return []string{"#2b7bd6", "#e07b1a", "#2a9d5c", "#d64550", "#8e62d0", "#9b743e", "#d55fa8", "#7d8a94", "#a8a01c", "#17a4b4"}
}

// WriteProfile writes an SVG figure: for each policy, in how many of the cases in which any kept up its end-to-end
// p90 is within so many times the best one's. A policy that did not keep up in a case is within nothing there.
func (r *Result) WriteProfile(out io.Writer) error {
	var b strings.Builder
	x := func(ratio float64) float64 {
		return profileLeft + (profileWidth-profileLeft-profileRight)*math.Log(ratio)/math.Log(profileMost)
	}
	y := func(part float64) float64 {
		return profileTop + (profileHeight-profileTop-profileBottom)*(1-part)
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", profileWidth, profileHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", profileWidth, profileHeight)
	for _, v := range []float64{1, 1.05, 1.2, 1.5, 2, 3} {
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%[1]f" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%v</text>`+"\n",
			x(v), y(0), y(1), x(v), profileHeight-profileBottom+18, v)
	}
	for part := 0.; part <= 1; part += .25 {
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%[3]f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.0f %%</text>`+"\n",
			profileLeft, profileWidth-profileRight, y(part), profileLeft-8, y(part)+4, 100*part)
	}
	fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">end-to-end p90, times that of the best policy</text>`+"\n", x(math.Sqrt(profileMost)), profileHeight-10)
	fmt.Fprintf(&b, `<text transform="translate(14 %.1f) rotate(-90)" text-anchor="middle">cases within that</text>`+"\n", y(.5))
	colors := profileColors()
	for j, policy := range r.Policies {
		color := colors[j%len(colors)]
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, color)
		for ratio := 1.; ratio <= profileMost; ratio *= 1.005 {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(ratio), y(r.within(j, ratio)))
		}
		fmt.Fprintf(&b, `"/>`+"\n"+`<text x="%d" y="%d" fill="%s">%s</text>`+"\n", profileWidth-profileRight+12, profileTop+14+18*j, color, html.EscapeString(policy))
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(out, b.String())
	return err
}

// within is the part of the cases in which the j-th policy is within so many times the best.
func (r *Result) within(j int, ratio float64) float64 {
	cases, n := 0, 0
	for i := range r.Cases {
		c := &r.Cases[i]
		if c.Overloaded() {
			continue
		}
		cases++
		if row := &c.Rows[j]; row.Err == nil && row.Steady && row.Ratio[2] <= ratio {
			n++
		}
	}
	if cases == 0 {
		return 0
	}
	return float64(n) / float64(cases)
}
