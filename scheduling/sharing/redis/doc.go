// Package redis lets gateways that share what they know (package sharing) do so through a Redis or Valkey
// server: a Transport over pub/sub, and a Store that keeps snapshots for a restart as keys with a time to live.
//
//	server := redis.Server{Address: "rediss://gateway:secret@redis.example:6379"}
//	transport, err := redis.New(redis.Options{Server: server})
//	…
//	defer transport.Close()
//	store, err := redis.NewStore(redis.StoreOptions{Server: server})
//
// New does not wait for the server: a gateway starts, and goes on, without it. What cannot be sent is
// forgotten, for it is state that is told again soon; Broadcast says why, and so does Stats. Broadcast itself
// only puts a message into a queue and never waits, whatever the server does; Close still sends what waits. The
// connection is made anew, with waits of 50 ms to 1 s, for as long as the Transport lives. A server that does not
// answer is left after three times Options.Timeout. Ping is for programs that want to know at their start whether
// all is well.
//
// # What is in the server
//
// Messages go through one channel, PREFIX:messages; nothing of them is stored. Channels do not belong to a
// numbered database: fleets that have nothing to do with each other but share a server need different prefixes.
// Snapshots are the keys PREFIX:snapshot:NAME. The newest state of each gateway is not kept as a key: each
// tells the whole of it once a second anyway, which is as long as a gateway that comes needs to be asked for
// anything; keys would cost a write for each message and a scan for each start.
//
// Whoever may publish in the channel is believed, and whoever may write the keys: give gateways a password, TLS,
// and a user that may do this and nothing else:
//
//	ACL SETUSER gateway on >secret resetkeys ~inferpick:snapshot:* resetchannels &inferpick:messages
//	    -@all +publish +subscribe +ping +set +getrange
//
// # In a cluster
//
// A plain Address is one server. Pub/sub works through any server of a cluster; snapshots, and servers found
// by sentinels, need a Server.Client that knows them.
//
// # The client library
//
// This is built on github.com/redis/go-redis/v9, and not on github.com/redis/rueidis, the other one that is well
// kept, which writes in one go what many goroutines ask at the same time. Here it is one goroutine that publishes,
// some 20 times a second, and it has what has come together written in one go itself. What counts instead:
//
//   - rueidis reads answers in a goroutine of its own, and panics there if one was not asked for, or a length is
//     wrong: nobody can recover from that, and the gateway ends. go-redis reads in the goroutine that asks, and
//     returns an error.
//   - both make room for as many bytes as a server announces. A Server's connections are looked at as they are
//     read, and one that announces too much is closed.
//   - both say when a subscription was lost: Receive returns an error. rueidis also notices a server that has
//     become silent; with go-redis, Transport asks for signs of life itself.
//   - go-redis writes to stderr when it cannot connect, unless that is switched off for the whole program. It
//     never sees that happen: a connection of a Server that could not be made is one that fails when it is used.
//   - go-redis links 4 modules, itself included, and makes a small program 5.9 MB larger; rueidis 2, and 4.5 MB.
//     A program that has a client already has go-redis more often, and can share it (Server.Client).
package redis
