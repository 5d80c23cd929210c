package epp

import (
	"weak"

	"github.com/inferpick/inferpick/scheduling"
)

// Schedulers returns those in force, without keeping them alive.
func (a *App) Schedulers() (all []weak.Pointer[scheduling.Scheduler]) {
	for _, s := range a.fleet.schedulers() {
		all = append(all, weak.Make(s))
	}
	return all
}
