// Package overload plays what admission control is for: a fleet that is asked for more
// than it can do, by requests of different criticality and by tenants of different
// appetite. It compares no admission control, the shedding of the Inference Extension and
// that of scheduling/admission, on the same jobs.
//
//	result, err := overload.Run(ctx, overload.Options{})
//	result.Write(os.Stdout)
//
// The figures are simulated: good for comparing, never to be quoted as measured.
package overload
