// Package directortest is a kit of hostile model servers and clients, for those who embed the
// director or write a gateway of their own. It knows a gateway as an http.Handler and nothing
// else, sends traffic over loopback only, and needs nothing but the standard library, so that
// any gateway can be tested with it.
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
// Each subtest has a gateway and a fleet of servers of its own, one of which misbehaves in one way:
//
//   - healthy: answers come byte for byte, and bursts are spread over servers of one kind.
//   - endings: answers that are good, however odd they look, pass, and are not held against the server.
//   - faults: a server fails. Requests that have had no byte yet are answered by another one; of those that have,
//     the client can see that the answer was cut off; the healthy servers are used evenly.
//   - poison: one request at which every server fails puts out at most one of them.
//   - clients: those who leave, read slowly or send what is wrong put out nobody.
//   - requests: whatever is sent there is a status; bodies come to the server byte for byte.
//   - trust: no path of [AdminPaths] reaches a server, however it is disguised; forged headers change nothing.
//   - readings: a server that lies in its metrics neither draws the requests nor loses them.
//   - connections: servers that close their connections, or answer early, lose no request.
//   - hangs: a server that hangs is found out by the clients who give up.
//   - recovery: a server that is well again is used again.
//   - leaks, goroutines: the heap is flat, and nothing runs when all is closed.
//
// In all of them a client that stays has a status before its first byte, and the gateway does not panic.
// What is not to be expected of a gateway [Options] say; see [RunWith]. go test -run takes the names of
// subtests, too. Since goroutines are counted, nothing else should run meanwhile.
//
// [Chaos] mixes all faults over servers that fail in turn, for as many requests as one likes.
//
// # The parts
//
// A [Server] does what its [Behaviour] says, which can be changed at any time, and counts what it saw. An
// [Engine] is a model server that does everything right, and from which the others are made: Break at a
// [Point], Always give one [Answer], send Raw bytes, or anything in place of an answer with Instead. [FirstThen] and
// [Poisoned] put two together. [Cases] has more than a hundred ready ones, and [Lies] pages of metrics.
//
//	s := directortest.Start(directortest.Engine{}.Break(directortest.AtMiddle, directortest.Reset))
//	defer s.Close()
//	…
//	s.Set(directortest.Engine{PerToken: time.Millisecond}.Behaviour()) // it is well again
//
// A [Client] stays; [LeaveAt] and [ReadSlowly] are clients that do not; [Raw] sends bytes as they are.
//
// Those who have plugins put a [Panic] into their profile.
package directortest
