// Package chaos tests a transport of package sharing among processes: four gateways in front of simulated model
// servers, over real HTTP and under load, of which one is killed, one is cut off, and all are without a network for a
// while.
//
//	func TestMain(m *testing.M) {
//		chaos.Main(plugins.Default, func(config string) (sharing.Transport, error) { … })
//		os.Exit(m.Run())
//	}
//
//	func TestChaos(t *testing.T) { chaos.Run(t, network) }
package chaos
