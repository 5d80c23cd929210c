package epp

import (
	"weak"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
)

// Schedulers returns those in force, without keeping them alive.
func (a *App) Schedulers() (all []weak.Pointer[scheduling.Scheduler]) {
	for _, m := range *a.fleet.members.Load() {
		all = append(all, weak.Make(m.scheduler))
	}
	return all
}

// Admissions returns the admission controls that there are, as Schedulers does.
func (a *App) Admissions() (all []weak.Pointer[admission.Controller]) {
	for _, c := range a.director.Admissions() {
		all = append(all, weak.Make(c))
	}
	return all
}
