package room

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTable plays random answers, endpoints and lanes, and counts anew each time.
func TestTable(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	ceilings := []float64{1, 0.87, 0.8}
	var table Table
	table.SetCeilings(ceilings)
	lanes := []*Lane{{}, {}, {}}
	for _, l := range lanes {
		table.AddLane(l)
	}
	all := make([]*Endpoint, 12)
	for i := range all {
		all[i] = &Endpoint{Away: i%5 == 0}
	}
	for version := range uint64(3000) {
		x, i := all[rnd.IntN(len(all))], rnd.IntN(3)
		switch rnd.IntN(6) {
		case 0:
			if x.Member() {
				table.Leave(x)
			} else {
				table.Join(x)
			}
		case 1:
			table.RemoveLane(lanes[i])
			require.False(t, table.Has(lanes[i]))
			lanes[i] = new(Lane)
			table.AddLane(lanes[i])
		case 2:
			table.SetCeilings(ceilings)
		default:
			fill := []float64{NotMember, math.NaN(), 0, rnd.Float64() * 1.2, math.Inf(1)}[rnd.IntN(5)]
			before, late := x.Answer(lanes[i]), version > 0 && rnd.IntN(8) == 0 && x.figure(lanes[i]).version > 0
			a := Answer{Fill: fill, Out: rnd.IntN(3) == 0}
			if late { // an answer to an earlier question
				table.Note(x, lanes[i], a, x.figure(lanes[i]).version-1)
				require.True(t, x.Answer(lanes[i]).same(before))
			} else {
				table.Note(x, lanes[i], a, version+1)
				require.True(t, x.Answer(lanes[i]).same(a))
			}
		}
		for _, l := range lanes {
			check(t, l, all, ceilings)
		}
	}
}

// check counts the candidates of a lane: those that are out only if all are.
func check(t *testing.T, l *Lane, all []*Endpoint, ceilings []float64) {
	t.Helper()
	var in, out []float64
	for _, x := range all {
		if a := x.Answer(l); x.Member() && a.Fill != NotMember {
			if a.Out {
				out = append(out, a.Fill)
			} else {
				in = append(in, a.Fill)
			}
		}
	}
	if len(in) == 0 {
		in = out
	}
	require.Equal(t, len(in), l.Members())
	known, sum := 0, 0.0
	room := make([]int, len(ceilings))
	for _, fill := range in {
		if fill == fill {
			known++
			sum += min(fill, 1)
		}
		for k, c := range ceilings {
			if fill < c {
				room[k]++
			}
		}
	}
	for k := range ceilings {
		if known == 0 {
			room[k] = len(in)
		}
		require.Equal(t, room[k], l.RoomAt(k))
	}
	if known == 0 {
		require.True(t, math.IsNaN(l.Saturation()))
	} else {
		require.InDelta(t, sum/float64(known), l.Saturation(), 1e-6)
	}
}

// TestBookings: first tokens that are not seen are presumed in their time, and each once.
func TestBookings(t *testing.T) {
	var x Endpoint
	bookings := make([]Booking, 4)
	for i := range bookings {
		at := time.Duration(i) * time.Second
		x.Measure(at, float64(i))
		bookings[i] = Booking{Since: at, With: float64(i + 1)}
		x.Book(&bookings[i], i != 2) // the third is streamed
	}
	since, ok := x.Silent()
	require.True(t, ok)
	require.Zero(t, since)
	x.Presume(4*time.Second, 3*time.Second)
	require.Equal(t, 2, x.Presumed())
	since, _ = x.Silent()
	require.Equal(t, 3*time.Second, since)
	x.Measure(4*time.Second, 3)
	require.InDelta(t, 1.0, bookings[0].Beside(4*time.Second), 1e-9, "0+1+2+3 in 4 s are more than it was booked with")
	require.InDelta(t, 3.0, bookings[3].Beside(4*time.Second), 1e-9)
	bookings[0].HasFirst()
	bookings[0].Leave()
	bookings[1].Leave()
	bookings[2].Leave()
	require.Zero(t, x.Presumed())
	bookings[3].Leave()
	_, ok = x.Silent()
	require.False(t, ok)
}
