// Package sharingtest tests transports of package sharing, and has a network that loses, delays and reorders
// messages to test what is built on one.
//
//	func TestTransport(t *testing.T) {
//		sharingtest.Run(t, func(t *testing.T) sharingtest.Fleet {
//			server := startServer(t) // of this subtest alone
//			return sharingtest.Fleet{Open: func(t *testing.T, name string) sharing.Transport {
//				transport, err := redis.New(server.Address())
//				if err != nil {
//					t.Fatal(err)
//				}
//				return transport
//			}}
//		})
//	}
//
// # What Run checks
//
// A transport may lose messages, deliver them twice, late and in any order, also to who sent them: what has to
// arrive is sent again until it does, within Fleet.Patience. It may not change them.
//
//   - reach: a message of each of nine members comes to all others.
//   - sizes: messages of 1 to sharing.MaxMessage bytes arrive whole, byte for byte, never merged or cut.
//   - too_long: a longer one is an error, and nobody hears of it.
//   - concurrent: members broadcast from several goroutines (run with -race) and use the memory of a message
//     again at once.
//   - bursts: of several messages that are sent at once, as what a gateway tells at one time may take, each comes
//     through now and then.
//   - slow: a handle that does not return keeps no Broadcast from returning and no other member from hearing,
//     and what waits for it is bounded. It hears again when it goes on.
//   - close: when Close returns, no handle runs and none will; it may be called again, beside Broadcasts, and
//     without Receive. Broadcast fails from then on.
//   - returns: a member that was closed and opened again hears and is heard.
//   - late: so does one that joins when the others have long been talking.
//   - context: Broadcast fails if ctx is done.
//   - panics: a handle that panics loses that message and nothing else.
//   - partition: a member that was cut off hears and is heard again.
//   - goroutines: none is left when all is closed.
//
// Close waits for handle: so handle must not call it.
package sharingtest
