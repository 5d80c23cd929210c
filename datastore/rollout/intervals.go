package rollout

import "math"

// How sure a verdict is, in standard deviations of a normal distribution.
const (
	// sure95 is the two-sided 95 % of what is said to pass.
	sure95 = 1.96
	// sureFail is how sure it must be that the canary is worse before it is stopped: it is looked at again and again,
	// and each look may be wrong. See TestIdenticalCanary for what that makes of whole runs.
	sureFail = 3.3
	// chanceFail is how likely a figure may be by chance that stops the canary: the same on one side.
	chanceFail = 4.8e-4
)

// wilson returns the score interval of a share of which k of n were seen (E. B. Wilson, 1927): unlike that of the
// normal distribution it holds for few and for none. Without any it is 0 to 1.
func wilson(k, n, z float64) (low, high float64) {
	if n <= 0 {
		return 0, 1
	}
	p, zz := k/n, z*z
	centre := (p + zz/(2*n)) / (1 + zz/n)
	half := z * math.Sqrt(p*(1-p)/n+zz/(4*n*n)) / (1 + zz/n)
	return max(centre-half, 0), min(centre+half, 1)
}

// newcombe returns the interval of the difference of two shares, a of n less b of m: method 10 of R. G. Newcombe,
// "Interval estimation for the difference between independent proportions", Statistics in Medicine 17 (1998).
func newcombe(a, n, b, m, z float64) (low, high float64) {
	p, q := share(a, n), share(b, m)
	pLow, pHigh := wilson(a, n, z)
	qLow, qHigh := wilson(b, m, z)
	d := p - q
	return d - math.Hypot(p-pLow, qHigh-q), d + math.Hypot(pHigh-p, q-qLow)
}

// share is k of n; of none it is the middle, from which its interval reaches everywhere.
func share(k, n float64) float64 {
	if n <= 0 {
		return .5
	}
	return k / n
}

// ranks returns between which shares of n sorted values the one lies that is the quantile q of what they were drawn
// from: order statistics, of which as many are below it as a binomial distribution says (H. A. David, "Order
// Statistics", 2.5). Its tails are those of a normal distribution with the skewness put right (Cornish, Fisher 1938).
// Too few values have no such value below or above them: then low is negative, or high above 1.
func ranks(n, q, z float64) (low, high float64) {
	if n <= 0 {
		return -1, 2
	}
	skew := (1 - 2*q) * (z*z - 1) / 6
	half := z * math.Sqrt(n*q*(1-q))
	return (n*q + skew - half) / n, (n*q + skew + half + 1) / n
}

// chance returns how likely it is that of n requests drawn at random from all, at least a are among the a+b bad ones
// (R. A. Fisher's exact test, 1935). It holds for few requests and for failures that come in bursts: a canary that is
// as good as the stable target gets a random part of the requests.
func chance(a, n, b, m int) float64 {
	bad, all := a+b, n+m
	p := math.Exp(logChoose(bad, a) + logChoose(all-bad, n-a) - logChoose(all, n))
	sum := 0.
	for k := a; k <= min(bad, n) && p > 1e-12; k++ {
		sum += p
		p *= float64(bad-k) * float64(n-k) / (float64(k+1) * float64(all-bad-n+k+1))
	}
	return min(sum, 1)
}

// logChoose returns the logarithm of how many ways there are to take k of n.
func logChoose(n, k int) float64 {
	lg := func(x int) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
	return lg(n) - lg(k) - lg(n-k)
}
