// Package oracle compares kvevents with what others wrote: the ZeroMQ of
// github.com/go-zeromq/zmq4 and that of libzmq, by pyzmq, publish and replay to a Subscriber, and
// github.com/vmihailenco/msgpack reads what our scanner reads. It has tests only, in a module of its
// own, so that none of that is a dependency of kvevents.
//
// The test against libzmq needs a Python with pyzmq and msgspec, python3 or what KVEVENTS_PYTHON
// names, and is skipped without.
package oracle
