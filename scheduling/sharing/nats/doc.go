// Package nats lets gateways that share what they know (package sharing) do so through NATS: a Transport over
// core NATS, and a Store that keeps snapshots for a restart in JetStream.
//
//	server := nats.Server{URL: "tls://nats-1.example,tls://nats-2.example", Credentials: "/etc/gateway.creds"}
//	transport, err := nats.New(nats.Options{Server: server})
//	…
//	defer transport.Close()
//	store, err := nats.NewStore(nats.StoreOptions{Server: server})
//
// New does not wait for a server: a gateway starts, and goes on, without one. What cannot be sent is forgotten, for
// it is state that is told again soon; Broadcast says why, and so does Stats. Broadcast itself only puts a message
// into a queue and never waits, whatever the server does; Close still sends what waits. What is published at a time
// is confirmed by the server once. Connections are made anew, with waits of 50 ms to 1 s, for as long as the
// Transport lives, also after the server has refused the credentials. A server that does not answer is left after
// two to three times Options.Timeout. Ping is for programs that want to know at their start whether all is well.
//
// Messages that come are put into a queue at once, so that a handler that is slow misses the oldest messages and the
// server never takes the gateway for a slow consumer.
//
// # What is in the server
//
// Messages have one subject, PREFIX.messages; nothing of them is stored. Snapshots are the objects of one object
// store in JetStream, which is made with the first snapshot: objects and not keys, since the value of a key has to fit
// into one message. Whoever may publish to the subject is believed, and whoever may write to the store. A user of
// gateways needs
//
//	permissions: {
//	  publish:   ["inferpick.messages"]
//	  subscribe: ["inferpick.messages"]
//	}
//
// and for snapshots, of a store that an administrator has made, or one that it may make itself, besides: publish
// "$O.inferpick-snapshots.>" and "$JS.API.>", subscribe "_INBOX.>".
//
// This is built on github.com/nats-io/nats.go, the client of NATS' makers.
package nats
