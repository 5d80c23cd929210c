// Package disaggtest has strict fake engines for tests of gateways that serve disaggregated: a prompt
// is prefilled by one engine and its answer decoded by another. The fakes speak HTTP on loopback and
// enforce the contract of a [Protocol] as the real engines do: they refuse what those refuse, with
// the same status, wait for what those wait for, and write down what a real engine would only suffer
// from in silence: KV that nobody fetches, a prompt that is prefilled twice, a relay that was changed.
//
//	c := disaggtest.New(disaggtest.Options{Protocol: disaggtest.NIXL, Prefill: 2, Decode: 2})
//	defer c.Close()
//	gateway := newGateway(c.Prefill[0].Address(), c.Prefill[1].Address(), c.Decode[0].Address(), …)
//	c.Prefill[0].Fail(disaggtest.Fault{Leg: disaggtest.Prefill, Phase: disaggtest.Body, Kind: disaggtest.Die, Times: 1})
//	…
//	want, _ := c.Want(path, body)     // what the client must get
//	got, err := disaggtest.Read(answer) // what it got, read strictly
//	if err := c.Check(); err != nil { … }
//
// # What is checked
//
// A request is served by one leg (an ordinary request), or by a prefill and a decode leg. Every leg is
// kept as a [Record]. [Cluster.Check] returns an error that lists all of these:
//
//   - violations: breaches of the protocol, each with the leg that showed it. Both legs of a request must
//     also agree in X-Request-Id and, byte for byte, in all members of the body that the protocol does
//     not edit, and must reach engines of the right role;
//   - KV that stays pinned at a prefiller, or whose lease ended, unless a fault is the reason;
//   - legs that still run;
//   - answers given twice: requests whose body has a "user" are told apart by it, so that two whole
//     answers for one are found.
//
// Answers follow from the prompt, the "user" and the cap of tokens alone, whichever engine gives them.
// What a prefill leg generates is another text, so that a client who gets it can tell.
//
// # Encoders
//
// With [Options.Encode] there are engines that encode images, audio and videos, a leg for each item, before
// the prompt is computed. Whoever computes it takes what they have made ([EC]), once, and encodes the rest
// itself; [Stats] and [Record] tell how many. A violation is an encode leg that is not for one item byte for
// byte, or asks for more than one token, and parameters that nobody handed out, or that a decode leg brings.
//
// # Faults
//
// A [Fault] makes an engine fail at any [Phase] of a leg, for chosen requests, a number of times or by
// a seeded chance. [Engine.Kill] ends an engine, with its connections and its KV, until [Engine.Restart].
//
// Everything is safe for concurrent use, and [Cluster.Close] returns when every goroutine has ended.
package disaggtest
