// Package mesh carries messages between gateways over TCP, without anything between them: each connects to all
// others.
//
//	transport, err := mesh.New(mesh.Options{
//		Listen: ":7946",
//		Peers:  []string{"gateways.default.svc.cluster.local:7946"},
//		Key:    key,
//	})
//
// Peers are addresses, or names whose addresses are all peers, such as that of a headless Service (which should have
// publishNotReadyAddresses). All gateways may have the same list: one that connects to itself notices.
//
// A gateway writes on the connections that it makes, and reads from those that it accepts; on the way back there are
// only answers to pings. So two gateways have two connections, and neither has to agree with the other on one.
//
// # Loss
//
// Broadcast never waits. For each peer that is connected, messages wait in a queue of Options.Queue bytes; when it
// is full the oldest go, as newer ones say more. What is sent while a peer is not connected does not reach it. A
// handle that is slow holds up the peers that it hears, whose queues then fill.
//
// # Security
//
// What gateways tell each other decides where requests go, so New wants to know how they know each other, unless
// Options.Insecure is set:
//
//   - Options.TLS, with certificates on both sides. It must require those of clients, signed by Options.TLS.ClientCAs.
//     Whoever has such a certificate may take part: where that is more than the gateways, set TLS.VerifyConnection.
//   - Options.Key, a secret that all gateways have. Both sides of a connection prove that they know it, for this
//     connection and no other, and each message is authenticated (HMAC-SHA256) and numbered: nobody else can send,
//     change, repeat or reorder messages. But without TLS everybody on the way can read them. A key that can be
//     guessed can be found out by who has seen a connection: take 32 random bytes.
//   - Both: then certificates need not be verified, as the proofs are bound to the TLS connection. Self-signed ones,
//     with InsecureSkipVerify, will do.
//
// To change the key of gateways that run, first add the new one to Options.MoreKeys of all, then make it the Key of
// all, with the old one in MoreKeys, and then take the old one out.
//
// Strangers can open connections until Options.HandshakeTimeout, of which the oldest give way to new ones, and so
// hold back those of peers if they open thousands a second. A peer that is known may send Options.MaxRate; it is read
// no faster than that. Messages are not looked into here.
package mesh
