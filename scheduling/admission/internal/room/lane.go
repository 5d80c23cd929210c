package room

import "math"

// Lane is requests with the same candidates, and how full these are. The zero value is to
// be added to a Table.
type Lane struct {
	Of   any // what it stands for
	slot int // in Table.lanes, and of its figures
	// The candidates, and those that are taken out. If all are they count as if none
	// were: a request that may fail is better than one that must.
	in, out tally
}

// tally is what there is of endpoints.
type tally struct {
	members int
	known   int
	sum     int64 // of min(fill, 1), in units of 1/fixedOne: sums of these are exact
	room    []int // by ceiling: members below it
}

const fixedOne = 1 << 30

// count adds n endpoints as full as an answer says, or takes them off.
func (l *Lane) count(a Answer, n int, ceilings []float64) {
	if a.Fill == NotMember {
		return
	}
	t := &l.in
	if a.Out {
		t = &l.out
	}
	t.members += n
	if a.Fill != a.Fill {
		return
	}
	t.known += n
	t.sum += int64(n) * int64(min(a.Fill, 1)*fixedOne)
	for k, c := range ceilings {
		if a.Fill < c {
			t.room[k] += n
		}
	}
}

// candidates are those that count.
func (l *Lane) candidates() *tally {
	if l.in.members == 0 {
		return &l.out
	}
	return &l.in
}

// Members returns how many endpoints the lane's requests may go to.
func (l *Lane) Members() int { return l.candidates().members }

// Has reports whether an endpoint is one of the candidates that count.
func (l *Lane) Has(x *Endpoint) bool {
	f := x.figure(l)
	return f.Fill != NotMember && (!f.Out || l.in.members == 0)
}

// RoomAt returns how many candidates have room below a ceiling. While nothing is known
// of any, all have.
func (l *Lane) RoomAt(ceiling int) int {
	t := l.candidates()
	if t.known == 0 {
		return t.members
	}
	return t.room[ceiling]
}

// Saturation is how full the candidates are in the mean, 0..1; NaN if there is none of
// which anything is known.
func (l *Lane) Saturation() float64 {
	t := l.candidates()
	if t.known == 0 {
		return math.NaN()
	}
	return float64(t.sum) / fixedOne / float64(t.known)
}
