package scalers

import "time"

// KEDA does what the operator of that name does around an HPA: it alone goes from none to one, and from one to none.
// Ask it as often as the HPA.
type KEDA struct {
	// HPA is the one that it makes. Its Min is at least 1.
	HPA
	// ToZero is minReplicaCount 0.
	ToZero bool
	// Polling and Cooldown are pollingInterval and cooldownPeriod. Defaults 30 and 300 s.
	Polling, Cooldown time.Duration

	polled, active time.Time
	began          bool
}

// Replicas is that of the HPA, and whether the triggers are active where that decides. active is asked for as often as
// it polls.
func (k *KEDA) Replicas(now time.Time, current, ready int, metrics []Metric, active func() bool) int {
	polling, cooldown := k.Polling, k.Cooldown
	if polling == 0 {
		polling = 30 * time.Second
	}
	if cooldown == 0 {
		cooldown = 5 * time.Minute
	}
	if !k.ToZero {
		return k.HPA.Replicas(now, current, ready, metrics)
	}
	if !k.began {
		k.began, k.active = true, now
	}
	if now.Sub(k.polled) >= polling {
		k.polled = now
		if active() {
			k.active = now
			if current == 0 {
				return 1
			}
		} else if current > 0 && now.Sub(k.active) >= cooldown {
			return 0
		}
	}
	return k.HPA.Replicas(now, current, ready, metrics)
}

// Wake is what a push scaler's stream does: a pool without replicas has one at once.
func (k *KEDA) Wake(now time.Time, current int) int {
	if !k.ToZero || current > 0 {
		return current
	}
	k.began, k.active = true, now
	return 1
}
