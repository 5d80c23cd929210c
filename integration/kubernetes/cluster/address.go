package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
)

// lastAddress counts addresses of pods. Each process of tests begins elsewhere in 127.0.0.0/8.
var lastAddress atomic.Uint32

func init() { lastAddress.Store(rand.Uint32()) }

// nextIP returns an address for a pod: 127.x.y.z without 0, 1 and 255 in it, as these mean
// something to some programs.
func nextIP() string {
	n := lastAddress.Add(1)
	part := func() uint32 {
		rest := n % 253
		n /= 253
		return 2 + rest
	}
	z, y, x := part(), part(), part()
	return fmt.Sprintf("127.%d.%d.%d", x, y, z)
}

// silentIP returns an address for a pod at which there is nothing.
func silentIP() string {
	n := lastAddress.Add(1)
	return fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255)
}

// listen listens at ports of an address at which nobody else does.
func listen(ports []int) (ip string, listeners []net.Listener, err error) {
	for range 100 {
		ip = nextIP()
		if listeners, err = listenAt(ip, ports); err == nil {
			return ip, listeners, nil
		}
	}
	return "", nil, fmt.Errorf("cluster: no address for a pod: %w", err)
}

// listenAt listens at all ports, or at none.
func listenAt(ip string, ports []int) (listeners []net.Listener, err error) {
	for _, port := range ports {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			return nil, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}
