package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/gateway"
)

// This file has the gateways say how many servers there should be. Nobody starts or stops any here.

// scaling is what a gateway needs for it: the others are asked, as each knows only what it sends itself.
func (g *instance) scaling() *gateway.Autoscale {
	return &gateway.Autoscale{Options: autoscale.Options{Peers: others{g}}}
}

// others are the gateways of a fleet but for one. In a cluster they are asked over HTTP: see autoscale.HTTPPeers.
type others struct{ than *instance }

// Ask implements autoscale.Peers.
func (o others) Ask(context.Context) (answers []autoscale.Own, missing int, err error) {
	for _, r := range o.than.fleet.running() {
		if r != o.than.now.Load() {
			answers = append(answers, r.Autoscaler.Own())
		}
	}
	return answers, 0, nil
}

// recommended is a line for each pool of a fleet: how many servers there should be, and why.
func (f *fleet) recommended() []string {
	lines := []string{}
	line := func(r autoscale.Recommendation, s autoscale.Signals, _ []autoscale.Signals) bool {
		lines = append(lines, fmt.Sprintf("Pool %s has %d servers and should have %d (%s: %s).",
			s.Pool.Name, s.Ready, r.Replicas, r.Term, r.Reason))
		return true
	}
	f.gateways[0].now.Load().Autoscaler.Recommended(line)
	return lines
}

// serveScaling serves what the policy's first gateway knows and recommends.
func serveScaling(v *viewer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.fleets[0].gateways[0].now.Load().Autoscaler.Handler().ServeHTTP(w, r)
	})
}
