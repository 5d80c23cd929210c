package autoscale

import (
	"math"
	"time"
)

// latencies are the times of requests in the last minute, and how many met their targets.
type latencies struct {
	parts [latencyParts]latencyPart
	at    int64 // number of the newest part
}

type latencyPart struct {
	counts [latencyBuckets]uint32
	n, met int64
	target float64 // sum of the targets, seconds
}

const (
	latencyParts   = 6
	latencyPartFor = 10 * time.Second
	latencyBuckets = 80
	latencyLeast   = 1e-3 // upper end of the first bucket, seconds
	latencyRatio   = 1.2  // between ends: up to half an hour
)

// advance makes the part of now the newest one. What is late counts as of the newest, unless the clock was set back.
func (l *latencies) advance(now time.Time) {
	at := now.UnixNano() / int64(latencyPartFor)
	if at <= l.at && l.at-at < latencyParts {
		return
	}
	if at < l.at || at-l.at >= latencyParts {
		l.parts = [latencyParts]latencyPart{}
	} else {
		for i := l.at + 1; i <= at; i++ {
			l.parts[i%latencyParts] = latencyPart{}
		}
	}
	l.at = at
}

// add counts a time, in seconds.
func (l *latencies) add(took, target float64, now time.Time) {
	if !(took >= 0) {
		return
	}
	l.advance(now)
	p := &l.parts[l.at%latencyParts]
	i := 0
	if took > latencyLeast {
		i = min(int(math.Ceil(math.Log(took/latencyLeast)/math.Log(latencyRatio))), latencyBuckets-1)
	}
	p.counts[i]++
	p.n++
	p.target += target
	if took <= target {
		p.met++
	}
}

// read returns what the last minute was like.
func (l *latencies) read(now time.Time) Latency {
	l.advance(now)
	var all latencyPart
	for i := range l.parts {
		p := &l.parts[i]
		all.n, all.met, all.target = all.n+p.n, all.met+p.met, all.target+p.target
		for k, n := range p.counts {
			all.counts[k] += n
		}
	}
	if all.n == 0 {
		return Latency{P90: Unknown(), Target: Unknown(), Met: Unknown()}
	}
	n := float64(all.n)
	return Latency{
		P90: Figure(all.quantile(.9)), Target: Figure(all.target / n), Met: Figure(float64(all.met) / n), N: all.n,
	}
}

// quantile returns the geometric middle of the bucket of a quantile.
func (p *latencyPart) quantile(q float64) float64 {
	left := q * float64(p.n)
	for i, n := range p.counts {
		if left -= float64(n); left <= 0 {
			return latencyLeast * math.Pow(latencyRatio, float64(i)-.5)
		}
	}
	return latencyLeast * math.Pow(latencyRatio, latencyBuckets)
}
