package gittest

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// quietAddress is one to listen at whose port is below the range from which the
// kernel takes the local ports of outgoing connections: nothing takes it by chance
// while nobody listens there.
func quietAddress() string {
	for range 100 {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(10000))); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	return "127.0.0.1:0"
}
