// Package anchors compares the simulator with measurements that others have
// published, and says by how much it is off.
//
//	failed, err := anchors.Run(ctx, os.Stdout, anchors.Options{})
//
// Each anchor has its tolerance in the table in table.go, set before the first
// run. One that fails is printed as failed; nothing is tuned until it passes. The
// README in this folder says where the differences come from.
//
// No calibration, policy or workload is chosen by the outcome: the fleets are those
// of the publications, as far as those say.
package anchors
