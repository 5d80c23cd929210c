// Package directortest tests gateways with misbehaving model servers and clients. It knows a gateway
// only as an http.Handler and sends traffic only over loopback, so any gateway can be tested with it,
// whether it embeds the director or not.
//
//	func TestGateway(t *testing.T) {
//		directortest.Run(t, func(t *testing.T, endpoints []string) http.Handler {
//			gateway, err := newGateway(endpoints) // host:port each
//			if err != nil {
//				t.Fatal(err)
//			}
//			t.Cleanup(gateway.Close)
//			return gateway
//		})
//	}
//
// # What Run checks
//
// Each subtest has its own gateway and fleet of servers, one of which misbehaves in one way:
//
//   - healthy: responses arrive byte for byte, and bursts spread over equal servers.
//   - endings: valid but unusual responses pass, and do not count against the server.
//   - faults: a server fails. Requests without a byte of response yet are answered by another server;
//     otherwise the client can see that the response is incomplete. Healthy servers are used evenly.
//   - poison: a request that makes every server fail puts out at most one of them.
//   - clients: those who leave, read slowly or send invalid requests put out no server.
//   - requests: every request gets a status; bodies reach the server byte for byte.
//   - trust: no path of [AdminPaths] reaches a server in any disguise; forged headers have no effect.
//   - readings: a server with false metrics neither attracts nor loses requests.
//   - connections: no request is lost to servers that close connections or answer early.
//   - hangs: a server that hangs is detected because clients give up.
//   - recovery: a server that recovers is used again.
//   - leaks, goroutines: the heap does not grow, and nothing runs when everything is closed.
//
// In all of them a client that stays gets a status, and the gateway does not panic. [Options] relax
// these expectations, see [RunWith]. Subtests can be selected with go test -run. Since goroutines are
// counted, nothing else should run at the same time.
//
// [Chaos] mixes all faults among servers that fail in turn, for any number of requests.
//
// # Building blocks
//
// A [Server] has a [Behaviour], which can be changed at any time, and counts its requests. An [Engine]
// is a model server without faults, from which the others are derived: with Break at a [Point], Always
// the same [Answer], Raw bytes, or anything else with Instead. [FirstThen] and [Poisoned] combine two.
// [Cases] has more than a hundred of them, and [Lies] has false metrics.
//
//	s := directortest.Start(directortest.Engine{}.Break(directortest.AtMiddle, directortest.Reset))
//	defer s.Close()
//	…
//	s.Set(directortest.Engine{PerToken: time.Millisecond}.Behaviour()) // recovers
//
// A [Client] stays until the end, [LeaveAt] and [ReadSlowly] do not, and [Raw] sends arbitrary bytes.
//
// To test how plugins fail, add a [Panic] to a profile.
package directortest
