package kvevents

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Source is where the events of an endpoint come from.
//
// Addresses are as engines have them in their configuration: tcp://host:port. Where the host is
// empty, a wildcard (*, 0.0.0.0, [::]) or loopback, it is the endpoint's own. Each rank has a port
// of its own: that of rank r is r above the one given.
type Source struct {
	// Endpoint is where batches are published, as "tcp://*:5557". One that begins with http is
	// asked for events instead, as TensorRT-LLM's "http://:8000/kv_cache_events": that empties the
	// engine's buffer, so only one Subscriber may do so. Optional if Load is set.
	Endpoint string

	// Replay is where batches are asked for that were missed, as "tcp://*:5558". Optional; without
	// it a Subscriber that comes late, or misses something, knows less until the engine restarts.
	Replay string

	// Topic, if set, is what messages must have as theirs; others are ignored.
	Topic string

	// Load is where the engine publishes its load, with LoadTopic. Optional.
	Load, LoadTopic string

	// Rank is the first rank, to which the ports belong, and Ranks the number of ranks. Default 1.
	Rank, Ranks int
}

// rankSource is where what concerns one rank comes from. Addresses are host:port, empty if there
// is none; poll is a URL.
type rankSource struct {
	rank                  int
	events, replay, topic string
	load, loadTopic       string
	poll                  string
	inbound               bool // events come by a connection that the engine makes to us
}

// expand returns the sources of all ranks of s, of an endpoint at the given host. If the engine
// named them, all hosts are the endpoint's: no engine may speak for another.
func (s Source) expand(host string, byEngine bool) ([]rankSource, error) {
	var all []rankSource
	for r := range max(1, s.Ranks) {
		one := rankSource{rank: s.Rank + r, topic: s.Topic, loadTopic: s.LoadTopic}
		for _, a := range []struct {
			name, from string
			to         *string
		}{{"Endpoint", s.Endpoint, &one.events}, {"Replay", s.Replay, &one.replay}, {"Load", s.Load, &one.load}} {
			if a.from == "" {
				continue
			}
			if a.to == &one.events && isHTTP(a.from) {
				a.to = &one.poll
			}
			var err error
			if *a.to, err = locate(a.from, host, r, byEngine); err != nil {
				return nil, fmt.Errorf("kvevents: %s is %.100q, %w", a.name, a.from, err)
			}
		}
		if one.events == "" && one.load == "" && one.poll == "" {
			return nil, fmt.Errorf("kvevents: a Source without Endpoint and Load, want one of them")
		}
		all = append(all, one)
	}
	return all, nil
}

func isHTTP(address string) bool {
	return strings.HasPrefix(address, "http://") || strings.HasPrefix(address, "https://")
}

// locate returns where an address is, for one rank: host:port, or a URL if it is one of HTTP.
func locate(address, host string, rank int, byEngine bool) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("want tcp://host:port")
	}
	if u.Scheme != "tcp" && !isHTTP(address) {
		return "", fmt.Errorf("want tcp://host:port: nothing else can be reached from another host")
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil || port < 1 || port+rank > 65535 {
		return "", fmt.Errorf("want a port from 1 to 65535, that of the last rank too")
	}
	if own := u.Hostname(); own != "" && !byEngine && !isAnywhere(own) {
		host = own
	}
	u.Host = net.JoinHostPort(host, strconv.Itoa(port+rank))
	if isHTTP(address) {
		return u.String(), nil
	}
	return u.Host, nil
}

// isAnywhere reports whether a host is a wildcard or means the host itself.
func isAnywhere(host string) bool {
	if host == "localhost" || host == "*" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && (ip.IsUnspecified() || ip.IsLoopback())
}
