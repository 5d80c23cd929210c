// Package scaling plays laws that choose the number of replicas against each other: on pools whose replicas take
// minutes to start, with traffic that steps, ramps, swings, comes and goes.
//
//	s, _ := scaling.Load("examples/simulator/suite/autoscaling.json")
//	result, err := scaling.Run(ctx, s, scaling.Options{})
//	result.Write(os.Stdout)
//
// Any law serves more requests in time with more replicas. So a law is not compared by one figure: from what it comes to
// with several targets follows its frontier, which is how many requests meet their SLO for so many replica-hours, and
// another is ahead of it in a case if it serves more in time for the same hours, or as many for fewer.
package scaling
