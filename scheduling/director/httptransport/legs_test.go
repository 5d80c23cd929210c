package httptransport

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCourse(t *testing.T) {
	const awaits = true
	type step struct {
		e       event
		awaited bool
		want    todo
	}
	for name, steps := range map[string][]step{
		"one after the other":             {{e: prefillSent}, {e: prefillServed}, {e: decodeSent}, {e: decodeServed}, {e: decodeEnded}},
		"the first fails":                 {{e: prefillSent}, {e: prefillFailed, awaited: awaits}},
		"the second fails":                {{e: prefillSent}, {e: prefillServed}, {e: decodeSent}, {e: decodeFailed}},
		"prefill fails at once":           {{e: prefillSent}, {e: decodeSent}, {prefillFailed, awaits, endDecode | abortDecode}, {e: decodeFailed}},
		"prefill fails before the other":  {{e: prefillSent}, {e: prefillFailed, awaited: awaits}, {e: decodeSent, want: endDecode}, {e: decodeFailed}},
		"decode fails at once":            {{e: prefillSent}, {e: decodeSent}, {decodeFailed, false, endPrefill | abortPrefill}, {e: prefillFailed, awaited: awaits}},
		"decode ends first":               {{e: prefillSent}, {e: decodeSent}, {e: decodeServed}, {e: decodeEnded}, {e: clientLeft, want: endPrefill}},
		"prefill fails after":             {{e: prefillSent}, {e: decodeSent}, {e: decodeServed}, {e: decodeEnded}, {e: prefillFailed, awaited: awaits}},
		"prefill fails, still awaited":    {{e: prefillSent}, {e: decodeSent}, {e: decodeServed}, {prefillFailed, awaits, endDecode | abortDecode}},
		"prefill fails, tokens have come": {{e: prefillSent}, {e: decodeSent}, {e: decodeServed}, {e: prefillFailed}, {e: decodeEnded}},
		"decode breaks off":               {{e: prefillSent}, {e: decodeSent}, {e: decodeServed}, {decodeFailed, false, endPrefill | abortPrefill}},
		"the client leaves at once":       {{e: prefillSent}, {e: decodeSent}, {clientLeft, false, endPrefill | endDecode}, {e: prefillFailed, awaited: awaits}, {e: decodeFailed}},
		"the client leaves in between":    {{e: prefillSent}, {e: prefillServed}, {e: clientLeft}, {e: decodeSent}, {clientLeft, false, endDecode}},
	} {
		t.Run(name, func(t *testing.T) {
			var c course
			for i, s := range steps {
				require.Equal(t, s.want, c.on(s.e, s.awaited), "step %d", i)
			}
		})
	}
}

// Whatever happens in whatever order, a leg is ended once at most, and none that has ended by itself.
func TestCourseEndsOnce(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		var c course
		c.on(prefillSent, false)
		c.on(decodeSent, false)
		var ended todo
		over := todo(0)
		for range 6 {
			e := []event{prefillServed, prefillFailed, decodeServed, decodeFailed, decodeEnded, clientLeft}[rnd.IntN(6)]
			do := c.on(e, rnd.IntN(2) == 0) & (endPrefill | endDecode)
			require.Zero(t, do&ended, "again")
			require.Zero(t, do&over, "it has ended by itself")
			ended |= do
			switch e {
			case prefillServed, prefillFailed:
				over |= endPrefill
			case decodeFailed, decodeEnded:
				over |= endDecode
			}
		}
	}
}
