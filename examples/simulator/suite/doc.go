// Package suite plays many cases against many policies and says how far each
// policy is from the best one of each case: its regret. A policy that wins one
// workload and loses another by a factor shows as what it is.
//
//	s, err := suite.Load("suite.json")
//	chosen, err := policies.ByName("all")
//	result, err := suite.Run(ctx, s, chosen, suite.Options{})
//	result.Write(os.Stdout)
//
// The suite, with its loads, seeds and what it requires, is a file that is
// committed before it is played. All policies get the same jobs for the same seed.
// Loads are fractions of the capacity that is measured for each fleet and workload.
// A case in which nobody reaches a steady state is in a table of its own, and so
// says each row of a policy that does not reach one where others do. Nothing is
// left out.
package suite
