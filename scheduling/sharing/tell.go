package sharing

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

// This file is what is written, each kind beside its reading in hear.go.

func (g *Group) tellLoads(w *writer, s *scope, whole bool, now time.Time) {
	var denoising []*place
	w.begin(kindLoad, s.hash)
	for _, p := range s.places {
		if p.first != nil {
			continue
		}
		if b, tell := p.tells(whole, now, g.o.TTL); tell {
			w.end(appendLoad(w.item(loadSize), p.key, b))
			if b.Denoise > 0 {
				denoising = append(denoising, p)
			}
		}
	}
	if len(denoising) == 0 {
		return
	}
	w.begin(kindDenoise, s.hash)
	for _, p := range denoising {
		w.end(appendDenoise(w.item(denoiseSize), p.key, p.told))
	}
}

// mostAnchors is how many of a placement are told in one item.
const mostAnchors = 1024

func (g *Group) tellPlacements(w *writer, s *scope) {
	w.begin(kindPlacement, s.hash)
	for _, part := range s.parts.prefixes {
		g.call(func() {
			part.SharePlacements(func(p types.Placement) {
				at := s.byID[p.Endpoint]
				for all := p.Anchors; at != nil && len(all) > 0; {
					some := all[:min(len(all), mostAnchors)]
					all = all[len(some):]
					b := binary.BigEndian.AppendUint64(w.item(8+2+8*len(some)), at.key)
					b = binary.AppendUvarint(b, uint64(len(some)))
					for _, a := range some {
						b = binary.BigEndian.AppendUint64(b, a)
					}
					w.end(b)
				}
			})
		})
	}
}

const refused = 1 // flag of an ejection

func (g *Group) tellEjections(w *writer, s *scope, now time.Time) {
	w.begin(kindEjection, s.hash)
	for _, part := range s.parts.ejections {
		g.call(func() {
			part.ShareEjections(now, func(e types.Ejected) {
				at := s.byID[e.Endpoint]
				if at == nil {
					return
				}
				b := binary.BigEndian.AppendUint64(w.item(8+8+1+binary.MaxVarintLen64), at.key)
				b = binary.BigEndian.AppendUint64(b, e.Number)
				flags := byte(0)
				if e.Refused {
					flags = refused
				}
				b = append(b, flags)
				w.end(binary.AppendUvarint(b, millis(e.Left)))
			})
		})
	}
}

// mostMillis bounds the durations in messages.
const mostMillis = 1 << 31

func millis(d time.Duration) uint64 { return uint64(min(max(d.Milliseconds(), 0), mostMillis)) }

func (g *Group) tellBindings(w *writer, s *scope, now time.Time) {
	w.begin(kindBinding, s.hash)
	for _, part := range s.parts.bindings {
		g.call(func() {
			part.ShareBindings(now, func(b types.Binding) {
				at := s.byID[b.Endpoint]
				if at == nil {
					return
				}
				buf := binary.BigEndian.AppendUint64(w.item(24+binary.MaxVarintLen64), b.Key)
				buf = binary.BigEndian.AppendUint64(buf, at.key)
				buf = binary.BigEndian.AppendUint64(buf, b.Version)
				w.end(binary.AppendUvarint(buf, millis(b.Age)))
			})
		})
	}
}

func (g *Group) tellAccounts(w *writer, s *scope, whole bool) {
	w.begin(kindAccount, s.hash)
	for _, part := range s.parts.accounts {
		g.call(func() {
			part.ShareAccounts(whole, func(a types.Account) {
				b := binary.BigEndian.AppendUint64(w.item(5*8), a.Key)
				for _, v := range []float64{a.Requests, a.Tokens, a.RequestsLeft, a.TokensLeft} {
					b = binary.BigEndian.AppendUint64(b, math.Float64bits(v))
				}
				w.end(b)
			})
		})
	}
}
