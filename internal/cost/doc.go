// Package cost holds the parts of the cost model that decide nothing by themselves and
// need neither lock nor clock: how fast servers are, learned from how requests went.
//
// Times are in seconds. Base seconds are what something would take on a reference engine;
// what is learned is by which factors a fleet differs from it, and a server from its fleet.
package cost
